"""dcgm-exporter endpoints, scraped concurrently at a fixed tick; a slow or dead one is reported and delays no other."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack

import aiohttp

from producers.emission import Emission, SourceFailure
from producers.sources.dcgm.claims import NameClaims, NameClash
from producers.sources.dcgm.endpoint import Endpoint, without_credentials
from producers.sources.dcgm.first_answers import FirstAnswers
from producers.sources.dcgm.page import ScrapedPage, read
from producers.sources.dcgm.target import ScrapeTarget
from producers.sources.label_jobs import LabelJobs
from producers.sources.seen import SeenAssets
from producers.sources.source import SourceError, Ticker

log = logging.getLogger("gigawatch.dcgm")

MAX_BODY = 32 << 20
#: A name belongs to the endpoint that gave it so many ticks, and so many ms, after it gave it last.
CLAIM_TICKS, CLAIM_MS = 3, 10_000

#: URL -> (HTTP status, body, cut one byte past MAX_BODY). May raise anything.
Fetch = Callable[[str], Awaitable[tuple[int, bytes]]]


class Dcgm:
    """Scrapes every endpoint once a tick; an answer must come within `timeout_s` (default: 80 % of the tick).

    `errors` has a sentence for each endpoint that gave nothing at its last scrape; `refused` counts lines that could
    not be read, by reason. `fetch` replaces HTTP. The first answer of an endpoint without a node waits until those
    before it have answered or failed, since they may have its names.
    """

    def __init__(
        self,
        endpoints: list[Endpoint],
        tick_s: float = 1.0,
        site: str = "site-1",
        timeout_s: float | None = None,
        ticks: int | None = None,
        fetch: Fetch | None = None,
    ) -> None:
        if not endpoints:
            raise SourceError(
                "no dcgm-exporter endpoint given: name at least one, [RACK/NODE=]http://HOST:9400/metrics"
            )
        self._site, self._ticks, self._fetch = site, ticks, fetch
        self._tick_s, self._timeout_s = tick_s, timeout_s or 0.8 * tick_s
        tick_ms = round(tick_s * 1000)
        claims, assets = NameClaims(max(CLAIM_MS, CLAIM_TICKS * tick_ms)), SeenAssets(site)
        self._jobs = LabelJobs(site)
        self._targets = [
            ScrapeTarget(e, number, site, tick_ms, claims=claims, jobs=self._jobs, assets=assets)
            for number, e in enumerate(endpoints)
        ]
        self._first = FirstAnswers([not e.node for e in endpoints])
        self.refused: Counter[str] = Counter()
        self.errors: dict[str, str] = {}

    @property
    def describe(self) -> str:
        return f"dcgm-exporter: {len(self._targets)} endpoint(s), scraped every {self._tick_s:g} s"

    async def emissions(self) -> AsyncGenerator[Emission]:
        ticker = Ticker(self._tick_s)
        queue: asyncio.Queue[Emission | None] = asyncio.Queue()
        async with AsyncExitStack() as stack:
            fetch = self._fetch or http(
                await stack.enter_async_context(
                    aiohttp.ClientSession(
                        timeout=aiohttp.ClientTimeout(total=None), connector=aiohttp.TCPConnector(limit=0)
                    )
                )
            )

            async def one(target: ScrapeTarget, stamp: int) -> None:
                for emission in await self._scrape(fetch, target, stamp):
                    queue.put_nowait(emission)

            async def drive() -> None:
                done = 0
                try:
                    async with asyncio.TaskGroup() as group:
                        while self._ticks is None or done < self._ticks:
                            stamp = await ticker.wait()
                            for target in self._targets:
                                group.create_task(one(target, stamp))
                            for repeated in self._jobs.repeat(stamp):
                                queue.put_nowait(repeated)
                            done += 1
                finally:
                    queue.put_nowait(None)

            driver = asyncio.create_task(drive())
            try:
                while (emission := await queue.get()) is not None:
                    yield emission
                await driver
            finally:
                driver.cancel()
                await asyncio.gather(driver, return_exceptions=True)

    async def _scrape(self, fetch: Fetch, target: ScrapeTarget, stamp: int) -> list[Emission]:
        """Returns what the endpoint gives, or its failure, and its own row where one is due: nothing that it does is
        raised.
        """
        began = time.monotonic()
        found = await self._read(fetch, target, stamp)
        took = time.monotonic() - began
        if isinstance(found, SourceFailure):
            self._first.settle(target.number)
            return [found, *target.rows(stamp, took)]
        await self._first.turn(target.number)
        try:
            taken = target.take(found, stamp)
        except Exception as err:  # noqa: BLE001 - whatever one endpoint does, the others go on
            taken = [self._failed(target, "error", f"{type(err).__name__}: {err}", stamp, err)]
        finally:
            self._first.settle(target.number)
        self.refused += found.refused
        if isinstance(taken, NameClash):
            taken = [self._clashes(target, taken, stamp)]
        if isinstance(taken[0], SourceFailure):
            return [taken[0], *target.rows(stamp, took)]
        if target.reason:
            target.reason = ""
            self.errors.pop(target.endpoint.name, None)
            log.info("%s answers again", target.endpoint.name)
        return [*taken, *target.rows(stamp, took, found)]

    async def _read(self, fetch: Fetch, target: ScrapeTarget, stamp: int) -> ScrapedPage | SourceFailure:
        """Returns the endpoint's page, which holds at least one device, or its failure."""
        try:
            async with asyncio.timeout(self._timeout_s):
                status, body = await fetch(target.endpoint.url)
        except TimeoutError:
            return self._failed(target, "timeout", f"no answer within {self._timeout_s:g} s", stamp)
        except ValueError as err:  # aiohttp.InvalidURL is one too, and so is a host name that IDNA does not take
            return self._failed(target, "invalid-address", f"not an address that can be asked: {err}", stamp)
        except (aiohttp.ClientError, OSError) as err:
            return self._failed(target, "unreachable", f"cannot be reached: {err}", stamp)
        except Exception as err:  # noqa: BLE001 - whatever one endpoint does, the others go on
            return self._failed(target, "error", f"{type(err).__name__}: {err}", stamp, err)
        if status != 200:
            return self._failed(target, f"http-{status}", f"answers with HTTP status {status}", stamp)
        if len(body) > MAX_BODY:
            return self._failed(target, "too-large", f"answers with more than {MAX_BODY >> 20} MB", stamp)
        try:
            page = read(body.decode("utf-8", "replace"), target.endpoint.node)
        except Exception as err:  # noqa: BLE001 - as above
            return self._failed(target, "error", f"{type(err).__name__}: {err}", stamp, err)
        if not page.devices:
            self.refused += page.refused
            return self._failed(target, "no-gpu", "its text holds no GPU", stamp)
        return page

    def _clashes(self, target: ScrapeTarget, clash: NameClash, stamp: int) -> SourceFailure:
        first, this = self._targets[clash.endpoint].endpoint.name, target.endpoint.name
        detail = (
            f"{first} and {this} both call different boards {clash.device}; {this} is left out until it has a place "
        )
        return self._failed(target, "name-clash", detail + f"of its own: --endpoint RACK/NODE={this}", stamp)

    def _failed(
        self, target: ScrapeTarget, reason: str, detail: str, stamp: int, unexpected: Exception | None = None
    ) -> SourceFailure:
        """The failure, noted for the status; logged when its reason is a new one."""
        name = target.endpoint.name
        sentence = " ".join(without_credentials(f"{reason}: {detail}").split())[:300]
        if target.reason != reason:
            log.warning("%s: %s", name, sentence, exc_info=unexpected)
        target.reason = reason
        self.errors[name] = sentence
        return SourceFailure(endpoint=name, reason=reason, ts_ms=stamp, site=self._site, rack=target.rack)


def http(session: aiohttp.ClientSession) -> Fetch:
    """Returns the fetch of one HTTP session."""

    async def fetch(url: str) -> tuple[int, bytes]:
        async with session.get(url) as response:
            if response.status != 200:
                return response.status, b""
            body = await response.content.read(MAX_BODY + 1)
            while len(body) <= MAX_BODY and (more := await response.content.read(MAX_BODY + 1 - len(body))):
                body += more
            return 200, body

    return fetch
