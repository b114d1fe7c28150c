"""dcgm-exporter endpoints, scraped concurrently at a fixed tick; a slow or dead one is reported and delays no other."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack

import aiohttp

from producers.sources.dcgm.endpoint import Endpoint, without_credentials
from producers.sources.dcgm.parse import parse
from producers.sources.source import Emission, SourceError, SourceFailure, Ticker

log = logging.getLogger("gigawatch.dcgm")

MAX_BODY = 32 << 20

#: URL -> (HTTP status, body, cut one byte past MAX_BODY). May raise anything.
Fetch = Callable[[str], Awaitable[tuple[int, bytes]]]


class Dcgm:
    """Scrapes every endpoint once a tick; an answer must come within `timeout_s` (default: 80 % of the tick).

    `errors` has a sentence for each endpoint that gave nothing at its last scrape. `fetch` replaces HTTP.
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
        self._endpoints, self._site, self._ticks, self._fetch = endpoints, site, ticks, fetch
        self._tick_s, self._timeout_s = tick_s, timeout_s or 0.8 * tick_s
        self._reasons: dict[Endpoint, str] = {}
        self.refused: Counter[str] = Counter()
        self.errors: dict[str, str] = {}

    @property
    def describe(self) -> str:
        return f"dcgm-exporter: {len(self._endpoints)} endpoint(s), scraped every {self._tick_s:g} s"

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

            async def one(endpoint: Endpoint, stamp: int) -> None:
                queue.put_nowait(await self._scrape(fetch, endpoint, stamp))

            async def drive() -> None:
                done = 0
                try:
                    async with asyncio.TaskGroup() as group:
                        while self._ticks is None or done < self._ticks:
                            stamp = await ticker.wait()
                            for endpoint in self._endpoints:
                                group.create_task(one(endpoint, stamp))
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

    async def _scrape(self, fetch: Fetch, endpoint: Endpoint, stamp: int) -> Emission:
        """Returns the endpoint's frame, or the failure of this endpoint: nothing that it does is raised."""
        try:
            async with asyncio.timeout(self._timeout_s):
                status, body = await fetch(endpoint.url)
        except TimeoutError:
            return self._failed(endpoint, "timeout", f"no answer within {self._timeout_s:g} s", stamp)
        except ValueError as err:  # aiohttp.InvalidURL is one too, and so is a host name that IDNA does not take
            return self._failed(endpoint, "invalid-address", f"not an address that can be asked: {err}", stamp)
        except (aiohttp.ClientError, OSError) as err:
            return self._failed(endpoint, "unreachable", f"cannot be reached: {err}", stamp)
        except Exception as err:  # noqa: BLE001 - whatever one endpoint does, the others go on
            return self._failed(endpoint, "error", f"{type(err).__name__}: {err}", stamp, err)
        if status != 200:
            return self._failed(endpoint, f"http-{status}", f"answers with HTTP status {status}", stamp)
        if len(body) > MAX_BODY:
            return self._failed(endpoint, "too-large", f"answers with more than {MAX_BODY >> 20} MB", stamp)
        try:
            scraped = parse(body.decode("utf-8", "replace"), stamp, self._site, endpoint.rack, endpoint.node)
        except Exception as err:  # noqa: BLE001 - as above
            return self._failed(endpoint, "error", f"{type(err).__name__}: {err}", stamp, err)
        self.refused += scraped.refused
        if scraped.frame is None:
            return self._failed(endpoint, "no-gpu", "its text holds no GPU", stamp)
        if self._reasons.pop(endpoint, None):
            self.errors.pop(endpoint.name, None)
            log.info("%s answers again", endpoint.name)
        return scraped.frame

    def _failed(
        self, endpoint: Endpoint, reason: str, detail: str, stamp: int, unexpected: Exception | None = None
    ) -> SourceFailure:
        """The failure, noted for the status; logged when its reason is a new one."""
        sentence = " ".join(without_credentials(f"{reason}: {detail}").split())[:300]
        if self._reasons.get(endpoint) != reason:
            log.warning("%s: %s", endpoint.name, sentence, exc_info=unexpected)
        self._reasons[endpoint] = reason
        self.errors[endpoint.name] = sentence
        return SourceFailure(endpoint=endpoint.name, reason=reason, ts_ms=stamp, site=self._site, rack=endpoint.rack)


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
