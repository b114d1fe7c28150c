"""Slurm, polled: one dump of all jobs and nodes each time, never two at once, and what has changed since the last."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager

from producers.emission import Emission, SourceFailure
from producers.sources.slurm.client import SlurmClient, SlurmFailure
from producers.sources.slurm.document import InvalidDump
from producers.sources.slurm.dump import SlurmDump
from producers.sources.slurm.parse import parse
from producers.sources.slurm.scheduler import SlurmScheduler
from schemas.errors import first_line
from schemas.jobs import REPEAT_S

log = logging.getLogger("gigawatch.slurm")

#: A poll that takes longer has failed; a busy slurmctld of 20,000 jobs takes some seconds.
DEADLINE_S = 60.0
ENDPOINT = "slurm"


class Slurm:
    """Polls `client` every `every_s`, on multiples of it; a poll that takes longer delays the next.

    `errors` has a sentence while Slurm gives no answer, and one while it does not state which GPUs jobs hold. `clock`
    gives s since 1970.
    """

    def __init__(
        self,
        client: Callable[[], AbstractAsyncContextManager[SlurmClient]],
        scheduler: SlurmScheduler,
        *,
        site: str,
        every_s: float = 10.0,
        ticks: int | None = None,
        describe: str = "squeue",
        deadline_s: float = DEADLINE_S,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._client, self._scheduler, self._site, self._every_s, self._ticks = client, scheduler, site, every_s, ticks
        self._describe, self._deadline_s, self._clock, self._sleep = describe, deadline_s, clock, sleep
        self._marked_ms = 0
        self._reason = ""
        self.errors: dict[str, str] = {}

    @property
    def describe(self) -> str:
        return f"slurm: {self._describe}, polled every {self._every_s:g} s"

    async def emissions(self) -> AsyncGenerator[Emission]:
        done, due_s = 0, self._clock() // self._every_s * self._every_s  # the first at once
        async with self._client() as client:
            while self._ticks is None or done < self._ticks:
                await self._sleep(max(0.0, due_s - self._clock()))
                for emission in await self._poll(client):
                    yield emission
                done += 1
                due_s = max(due_s + self._every_s, -(-self._clock() // self._every_s) * self._every_s)

    async def _poll(self, client: SlurmClient) -> list[Emission]:
        """One dump as events, or the failure and what stays known."""
        now_ms = round(self._clock() * 1000)
        try:
            async with asyncio.timeout(self._deadline_s):
                jobs, nodes = await client.ask()
                dump = await asyncio.to_thread(parse, jobs, nodes)
        except TimeoutError:
            return self._failed("timeout", f"timeout: no answer within {self._deadline_s:g} s", now_ms)
        except (SlurmFailure, InvalidDump) as err:
            return self._failed(err.reason, first_line(err), now_ms)
        if self._reason:
            log.info("slurm answers again")
        self._reason = ""
        self.errors.pop(ENDPOINT, None)
        changes = await asyncio.to_thread(self._scheduler.update, dump, now_ms)
        return [*changes, *self._marks(dump, now_ms)]

    def _failed(self, reason: str, sentence: str, now_ms: int) -> list[Emission]:
        if reason != self._reason:
            log.warning("slurm: %s", sentence)
        self._reason = reason
        self.errors[ENDPOINT] = sentence
        failure = SourceFailure(endpoint=ENDPOINT, reason=reason, ts_ms=now_ms, site=self._site)
        return [failure, *self._scheduler.unanswered(now_ms)]

    def _marks(self, dump: SlurmDump, now_ms: int) -> list[Emission]:
        """What a good dump leaves open, once in `REPEAT_S`: indices that Slurm does not state, records not read."""
        reasons = {reason: f"{count} records could not be read: {reason}" for reason, count in dump.refused.items()}
        if inexact := dump.inexact:
            some = ", ".join(inexact[:3]) + (", ..." if len(inexact) > 3 else "")
            reasons["no-gpu-index"] = (
                f"which GPUs jobs hold is not known on {len(inexact)} nodes ({some}), only how many: gres.conf needs "
                "File= or AutoDetect=nvml; their share spreads over all GPUs of the node"
            )
        marks = {f"{ENDPOINT} {reason}": sentence for reason, sentence in reasons.items()}
        for name in marks.keys() - self.errors.keys():
            log.warning("slurm: %s", marks[name])
        self.errors = {**{k: v for k, v in self.errors.items() if k == ENDPOINT}, **marks}
        if not reasons or now_ms - self._marked_ms < REPEAT_S * 1000:
            return []
        self._marked_ms = now_ms
        return [SourceFailure(f"{ENDPOINT} {reason}", reason, now_ms, self._site) for reason in reasons]
