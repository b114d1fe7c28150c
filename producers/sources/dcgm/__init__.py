"""dcgm-exporter endpoints: scraped concurrently at a fixed tick; a slow or dead one is reported and holds up no
other.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import Counter
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

import aiohttp
import numpy as np

from producers.emission import Emission, SourceFailure
from producers.sources.exposition import InvalidLine, samples
from producers.sources.source import SourceError, Ticker
from schemas.catalogue import KINDS
from schemas.frame import Frame, build

log = logging.getLogger("gigawatch.dcgm")

MAX_BODY = 32 << 20
_ALIASES = KINDS["gpu"].by_alias("dcgm")
_WANTED = frozenset(_ALIASES)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One exporter. `rack` and `node` name its place; empty, the exporter's own host name stands for both."""

    url: str
    rack: str = ""
    node: str = ""

    @staticmethod
    def parse(spec: str) -> Endpoint:
        """`[RACK/NODE=]URL`, such as `R0001/N03=http://10.0.0.3:9400/metrics`; raises SourceError."""
        match = re.fullmatch(r"(?:(?P<rack>[^/=]+)(?:/(?P<node>[^/=]+))?=)?(?P<url>https?://[^\s]+)", spec)
        if not match:
            raise SourceError(f"endpoint {spec!r}: wants [RACK/NODE=]http://HOST:PORT/metrics")
        url = match["url"] if match["url"].count("/") > 2 else match["url"] + "/metrics"
        return Endpoint(url, match["rack"] or "", match["node"] or "")


@dataclass(slots=True)
class Scraped:
    """What one exposition held: a frame (None when it had no GPU), and what was passed over by reason."""

    frame: Frame | None
    refused: Counter[str] = field(default_factory=Counter)


def parse(text: str, ts_ms: int, site: str = "", rack: str = "", node: str = "") -> Scraped:
    """dcgm-exporter's text as one gpu frame; old and new field names; each MIG instance is a device of its own."""
    refused: Counter[str] = Counter()
    rows: dict[str, dict[str, float]] = {}
    who: dict[str, tuple[str, str, str]] = {}
    for sample in samples(text, _WANTED):
        if isinstance(sample, InvalidLine):
            refused["line"] += 1
            log.debug("%s", sample)
            continue
        labels = sample.labels
        host = node or labels.get("Hostname") or labels.get("hostname") or labels.get("node") or ""
        gpu = labels.get("gpu", labels.get("GPU", ""))
        if not gpu:
            refused["no-gpu-label"] += 1
            continue
        device = f"{host}-GPU{gpu}" if host else labels.get("UUID", f"GPU{gpu}")
        instance = labels.get("GPU_I_ID", "")
        if instance:
            device += f"-MIG{instance}"
        job = labels.get("hpc_job") or "/".join(filter(None, (labels.get("namespace"), labels.get("pod"))))
        known = who.get(device, ("", "", ""))  # not every line carries every label
        who[device] = (
            known[0] or host,
            known[1] or labels.get("modelName", "").removeprefix("NVIDIA "),
            known[2] or job,
        )
        metric, scale = _ALIASES[sample.name]
        # a sentinel is recognised before scaling, since the scaled one could look like a value
        huge = abs(sample.value) >= min(metric.sentinels) and sample.value * scale > metric.hi
        rows.setdefault(device, {}).setdefault(metric.name, sample.value if huge else sample.value * scale)
    if not rows:
        return Scraped(None, refused)
    devices = sorted(rows)
    names = [m.name for m in KINDS["gpu"].stored if any(m.name in r for r in rows.values())]
    hosts = [who[d][0] for d in devices]
    identity = {
        "site": [site] * len(devices),
        "rack": [rack or h for h in hosts],
        "node": hosts,
        "device": devices,
        "model": [who[d][1] for d in devices],
        "job": [who[d][2] for d in devices],
    }
    values = {n: np.array([rows[d].get(n, np.nan) for d in devices]) for n in names}
    return Scraped(build("gpu", ts_ms, identity, values), refused)


class Dcgm:
    """Scrapes every endpoint once a tick; an answer must come within `timeout_s` (default: 80 % of the tick)."""

    def __init__(
        self,
        endpoints: list[Endpoint],
        tick_s: float = 1.0,
        site: str = "site-1",
        timeout_s: float | None = None,
        ticks: int | None = None,
    ) -> None:
        if not endpoints:
            raise SourceError(
                "no dcgm-exporter endpoint given: name at least one, [RACK/NODE=]http://HOST:9400/metrics"
            )
        self._endpoints, self._site, self._ticks = endpoints, site, ticks
        self._tick_s, self._timeout_s = tick_s, timeout_s or 0.8 * tick_s
        self.refused: Counter[str] = Counter()

    @property
    def describe(self) -> str:
        return f"dcgm-exporter: {len(self._endpoints)} endpoint(s), scraped every {self._tick_s:g} s"

    async def emissions(self) -> AsyncGenerator[Emission]:
        ticker = Ticker(self._tick_s)
        queue: asyncio.Queue[Emission | None] = asyncio.Queue()
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(self._timeout_s), connector=connector
        ) as session:

            async def one(endpoint: Endpoint, stamp: int) -> None:
                queue.put_nowait(await self._scrape(session, endpoint, stamp))

            async def drive() -> None:
                done = 0
                async with asyncio.TaskGroup() as group:
                    while self._ticks is None or done < self._ticks:
                        stamp = await ticker.wait()
                        for endpoint in self._endpoints:
                            group.create_task(one(endpoint, stamp))
                        done += 1
                queue.put_nowait(None)

            driver = asyncio.create_task(drive())
            try:
                while (emission := await queue.get()) is not None:
                    yield emission
                await driver
            finally:
                driver.cancel()

    async def _scrape(self, session: aiohttp.ClientSession, endpoint: Endpoint, stamp: int) -> Emission:
        try:
            async with session.get(endpoint.url) as response:
                if response.status != 200:
                    return SourceFailure(endpoint.url, f"http-{response.status}", stamp, self._site, endpoint.rack)
                body = await response.content.read(MAX_BODY + 1)
                while len(body) <= MAX_BODY and (more := await response.content.read(MAX_BODY + 1 - len(body))):
                    body += more
        except TimeoutError:
            return SourceFailure(endpoint.url, "timeout", stamp, self._site, endpoint.rack)
        except (aiohttp.ClientError, OSError) as err:
            log.debug("%s: %s", endpoint.url, err)
            return SourceFailure(endpoint.url, "unreachable", stamp, self._site, endpoint.rack)
        if len(body) > MAX_BODY:
            return SourceFailure(endpoint.url, "too-large", stamp, self._site, endpoint.rack)
        scraped = parse(body.decode("utf-8", "replace"), stamp, self._site, endpoint.rack, endpoint.node)
        self.refused += scraped.refused
        return scraped.frame or SourceFailure(endpoint.url, "no-gpu", stamp, self._site, endpoint.rack)
