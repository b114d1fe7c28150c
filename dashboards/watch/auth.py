"""Access to the watch page: this machine's user, or holders of the token; no page of another origin."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Middleware

from schemas.loopback import host_is_loopback

COOKIE = "gigawatch_watch"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
#: Scripts and data from this page alone; Plotly sets styles in the page.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src "
    "'self' data: blob:; connect-src "
    "'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}


def middleware(token: str) -> Middleware:
    """Returns the check of every request: its origin and, with a `token`, the cookie that `/?token=...` sets once or
    `Authorization: Bearer ...`.
    """

    def is_token(given: str | None) -> bool:
        return given is not None and hmac.compare_digest(given.encode("utf-8", "replace"), token.encode())

    @web.middleware
    async def authorize(request: web.Request, handler: Handler) -> web.StreamResponse:
        host, origin = request.headers.get("Host", ""), request.headers.get("Origin")
        foreign = origin is not None and urlsplit(origin).netloc != host
        reading = (
            request.headers.get("Sec-Fetch-Mode") == "navigate" and request.method == "GET"
        )  # a link from elsewhere may open the page
        if foreign or (request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin") and not reading):
            raise web.HTTPForbidden(text="requests from pages of another origin are refused\n")
        if not token and not host_is_loopback(host):
            raise web.HTTPForbidden(text="without a token this page answers to this machine's own address only\n")
        if token and not (
            is_token(request.cookies.get(COOKIE))
            or is_token(request.headers.get("Authorization", "").removeprefix("Bearer "))
        ):
            if is_token(request.query.get("token")):
                moved = web.HTTPSeeOther(request.path)
                moved.set_cookie(COOKIE, token, httponly=True, samesite="Strict")
                raise moved
            raise web.HTTPUnauthorized(text="this page wants its token: open it once as /?token=...\n")
        answer = await handler(request)
        answer.headers.update(_HEADERS)
        return answer

    return authorize
