"""NetBox's inventory as events: read whole at an interval; what has changed goes out."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack

from producers.emission import Emission, SourceFailure
from producers.sources.declared import DeclaredRows
from producers.sources.netbox.client import Get, NetboxClient, NetboxError, NetboxObject
from producers.sources.netbox.rows import COLLECTIONS, NEEDED, rows_of

log = logging.getLogger("gigawatch.netbox")

#: After a reading that failed the next one comes so soon, s, at first; then after twice the time.
FIRST_RETRY_S = 15.0


class Netbox:
    """Reads all collections every `every_s`. A reading that fails changes nothing: its reason is in `errors`, and goes
    out as a failure. `site` replaces NetBox's own names of sites. `get`, `sleep` and `clock` replace the real ones.
    """

    def __init__(
        self,
        client: NetboxClient,
        site: str = "",
        every_s: float = 900.0,
        *,
        get: Get | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._client, self._site, self._every_s, self._get = client, site, every_s, get
        self._sleep, self._clock = sleep, clock
        self._rows = DeclaredRows("netbox")
        self._lacks: set[str] = set()
        self.errors: dict[str, str] = {}

    @property
    def describe(self) -> str:
        return f"NetBox at {self._client.url}, read every {self._every_s:g} s"

    async def emissions(self) -> AsyncGenerator[Emission]:
        retry_s = min(FIRST_RETRY_S, self._every_s)
        async with AsyncExitStack() as stack:
            get = self._get
            if get is None:
                get = await stack.enter_async_context(self._client.opened())
            while True:
                try:
                    dump = await self._read(get)
                except NetboxError as err:
                    self.errors[self._client.url] = f"{err.reason}: {err}"
                    log.warning("NetBox at %s: %s", self._client.url, err)
                    yield SourceFailure(self._client.url, err.reason, round(self._clock() * 1000), self._site)
                    await self._sleep(retry_s)
                    retry_s = min(2 * retry_s, self._every_s)
                    continue
                self.errors.clear()
                retry_s = min(FIRST_RETRY_S, self._every_s)
                rows = rows_of(dump, self._site)
                for event in self._rows.update(rows, round(self._clock() * 1000)):
                    yield event
                    await asyncio.sleep(0)
                log.info("NetBox at %s: %d rows of %s", self._client.url, len(rows), ", ".join(dump))
                await self._sleep(self._every_s)

    async def _read(self, get: Get) -> dict[str, list[NetboxObject]]:
        """Returns all collections that this NetBox has. Raises NetboxError."""
        dump: dict[str, list[NetboxObject]] = {}
        for name, query in COLLECTIONS.items():
            objects = await self._client.collection(get, name, query)
            if objects is not None:
                dump[name] = objects
            elif name in NEEDED:
                raise NetboxError("http-404", f"{self._client.url}/api/dcim/{name}/ is not there: is this NetBox?")
            elif name not in self._lacks:
                self._lacks.add(name)
                log.info("NetBox at %s has no %s", self._client.url, name)
        return dump
