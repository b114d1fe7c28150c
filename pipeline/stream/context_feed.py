"""Messages of the topics that every worker reads whole, into its context; one of the workers publishes what follows."""

from __future__ import annotations

import logging
import time

from pipeline.stream.worker import Worker
from schemas import derived
from schemas.catalogue import KINDS
from schemas.codec import InvalidFrame
from schemas.derived import QUALITY
from schemas.reach import reach

log = logging.getLogger("gigawatch.stream")

#: Kinds of devices that share the fate of their node: nothing lies behind them.
_WITHIN_NODES = frozenset(kind for kind, catalogue in KINDS.items() if catalogue.stored_by == "rack")
#: Derived messages are a few megabytes at most.
_MOST_ROWS = 20_000


class ContextFeed:
    """Counts into the worker's `context_counts`: messages received, and discarded by reason."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._reach_version = 0

    async def take(self, topic: str, value: bytes) -> None:
        """Takes one message; publishes in what inventories contradict each other."""
        self._worker.context_counts["context:received"] += 1
        try:
            stream, batch = derived.decode(value)
            if topic != stream.topic:
                raise InvalidFrame("kind", f"a {stream.name} message on {topic}")
        except InvalidFrame as err:
            self._worker.context_counts[f"context:discarded:{err.reason}"] += 1
            return
        differences = [*self._worker.context.apply(stream, batch)]
        if differences and self._worker.leads():
            await self._worker.send("quality", QUALITY.build_rows(differences), b"")

    async def settle(self) -> None:
        """Publishes what lies behind every element, when edges have changed and no more of them wait to be read."""
        context = self._worker.context
        if context.edges_version == self._reach_version or not self._worker.leads():
            return
        self._reach_version, now_ms = context.edges_version, int(time.time() * 1000)
        edges, devices = context.edges(now_ms), context.inventory.names_of(_WITHIN_NODES)
        names = "network", "upstream", "downstream", "redundancy"
        for site in sorted({edge["site"] for edge in edges}):
            closure = reach(((*(e[n] for n in names),) for e in edges if e["site"] == site), devices)
            for network, upstream, downstream, _ in closure.dropped[:5]:
                log.warning(
                    "%s: the %s edge from %s to %s closes a circle: left out", site, network, upstream, downstream
                )
            for rows in closure.batches(site, now_ms, _MOST_ROWS):
                await self._worker.send("reach", rows, site.encode())
