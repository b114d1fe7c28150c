"""NetBox's REST interface: whole collections, page by page."""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from producers.sources.source import SourceError
from schemas.errors import GigawatchError

PAGE, MOST_PAGES, MOST_BYTES = 500, 10_000, 64 << 20
PAGE_TIMEOUT_S = 60.0

#: (URL, headers) -> (HTTP status, body). May raise what aiohttp raises.
Get = Callable[[str, Mapping[str, str]], Awaitable[tuple[int, bytes]]]

#: An object of a collection as NetBox gives it.
NetboxObject = dict[str, Any]


class NetboxError(GigawatchError, RuntimeError):
    """NetBox gives no inventory; `reason` for counters, the text for people."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class NetboxClient:
    """Where a NetBox is and what it is asked with. The token shows nowhere."""

    url: str
    token: str = field(default="", repr=False)
    ssl_context: ssl.SSLContext | None = field(default=None, repr=False, compare=False)

    @staticmethod
    def of(url: str, token: str, token_file: str, ca: str) -> NetboxClient:
        """Returns the client of an address such as https://netbox.example.com. Raises SourceError."""
        if not url:
            raise SourceError("no NetBox given: name its address, --netbox-url https://HOST")
        try:
            parts = urlsplit(url)
            wrong = (
                "it holds a user's name or password; the token belongs into GIGAWATCH_NETBOX_TOKEN or a file"
                if parts.username or parts.password
                else "wanted is http(s)://HOST[:PORT][/PATH]"
                if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0 or parts.query
                else ""
            )
        except ValueError as err:  # a port that is no number
            wrong = str(err)
        if wrong:
            raise SourceError(f"NetBox address {re.sub(r'(?<=//)[^/]*@', '', url)!r}: {wrong}")
        if token_file:
            try:
                token = Path(token_file).read_text().strip()
            except (OSError, UnicodeDecodeError) as err:
                raise SourceError(f"NetBox token file {token_file}: cannot be read: {err}") from err
        if token and not re.fullmatch(r"[!-~]+", token):
            raise SourceError("the NetBox token has characters that no token has: give the token alone")
        try:
            context = ssl.create_default_context(cafile=ca) if ca else None
        except (OSError, ssl.SSLError) as err:
            raise SourceError(f"NetBox authority {ca}: no certificate can be read: {err}") from err
        base = url.rstrip("/").removesuffix("/api")
        return NetboxClient(base, token, context)

    @property
    def headers(self) -> dict[str, str]:
        """Tokens of NetBox 4.5 and later begin with `nbt_` and are bearer tokens."""
        kind = "Bearer" if self.token.startswith("nbt_") else "Token"
        return {"Accept": "application/json"} | ({"Authorization": f"{kind} {self.token}"} if self.token else {})

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Get]:
        """Yields the HTTP getter of one session."""
        connector = aiohttp.TCPConnector(ssl=self.ssl_context) if self.ssl_context else aiohttp.TCPConnector()
        timeout = aiohttp.ClientTimeout(total=PAGE_TIMEOUT_S)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:

            async def get(url: str, headers: Mapping[str, str]) -> tuple[int, bytes]:
                async with session.get(url, headers=headers, allow_redirects=False) as response:
                    body = await response.content.read(MOST_BYTES + 1)
                    while len(body) <= MOST_BYTES and (more := await response.content.read(MOST_BYTES + 1 - len(body))):
                        body += more
                    return response.status, body

            yield get

    async def collection(self, get: Get, name: str, query: str = "") -> list[NetboxObject] | None:
        """Returns every object of /api/dcim/NAME/; None where this NetBox has no such collection. Raises NetboxError.

        Of a page's `next` the query counts alone: the token goes to no other host.
        """
        path, found = f"{self.url}/api/dcim/{name}/", list[NetboxObject]()
        query = f"limit={PAGE}{query}"
        for _ in range(MOST_PAGES):
            status, body = await self._get(get, f"{path}?{query}")
            if status == 404:
                return None
            page = _page(name, status, body)
            found += page["results"]
            if not page.get("next"):
                return found
            query = urlsplit(str(page["next"])).query
        raise NetboxError("endless", f"{name} does not end after {MOST_PAGES} pages")

    async def _get(self, get: Get, url: str) -> tuple[int, bytes]:
        try:
            return await get(url, self.headers)
        except TimeoutError:
            raise NetboxError("timeout", f"no answer within {PAGE_TIMEOUT_S:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as err:
            raise NetboxError("unreachable", f"cannot be reached: {err or type(err).__name__}") from err


def _page(name: str, status: int, body: bytes) -> dict[str, Any]:
    """Returns a page of a collection. Raises NetboxError."""
    if status in (401, 403):
        raise NetboxError(f"http-{status}", f"{name}: refused (HTTP {status}): the token is wrong or may not read it")
    if 300 <= status < 400:
        raise NetboxError(f"http-{status}", f"{name}: redirects (HTTP {status}): give the address that it redirects to")
    if status != 200:
        raise NetboxError(f"http-{status}", f"{name}: answers with HTTP status {status}")
    if len(body) > MOST_BYTES:
        raise NetboxError("too-large", f"{name}: answers with more than {MOST_BYTES >> 20} MB")
    try:
        page = json.loads(body)
    except (ValueError, RecursionError):
        page = None
    results = page.get("results") if isinstance(page, dict) else None
    if not isinstance(page, dict) or not isinstance(results, list) or not all(isinstance(o, dict) for o in results):
        raise NetboxError("json", f"{name}: the answer is no page of NetBox objects: is this NetBox's address?")
    return page
