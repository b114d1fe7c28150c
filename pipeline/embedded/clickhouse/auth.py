"""Which requests the embedded ClickHouse answers: with its password, and not for web pages of another origin."""

from __future__ import annotations

import base64
import binascii
import hmac
from urllib.parse import urlsplit

from aiohttp import web

from pipeline.embedded.clickhouse.chdb_engine import EngineError
from schemas.loopback import host_is_loopback


def authorize(request: web.Request, password: str) -> None:
    """Raises EngineError unless the request carries `password` in one of ClickHouse's three ways; "" asks for none."""
    if not password:
        return
    given = request.headers.get("X-ClickHouse-Key") or request.query.get("password") or ""
    basic = request.headers.get("Authorization", "")
    if not given and basic.startswith("Basic "):
        try:
            given = base64.b64decode(basic[6:], validate=True).decode("utf-8", "replace").partition(":")[2]
        except (binascii.Error, ValueError):
            given = ""
    if not hmac.compare_digest(given.encode("utf-8", "replace"), password.encode()):
        raise EngineError(
            "Code: 516. DB::Exception: Authentication failed: password is incorrect. (AUTHENTICATION_FAILED)"
        )


def check_origin(request: web.Request, password: str) -> None:
    """Raises EngineError for a web page of another origin that reads or writes through its visitor's browser (CSRF),
    and, without a password, for a name made to point to this machine (DNS rebinding).
    """
    host, origin = request.headers.get("Host", ""), request.headers.get("Origin")
    foreign = request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin") or (
        origin is not None and urlsplit(origin).netloc != host
    )
    if foreign or (not password and not host_is_loopback(host)):
        raise EngineError(
            "Code: 497. DB::Exception: requests from web pages of another origin, or under another name than this "
            "machine's loopback address without a password, are refused. (ACCESS_DENIED)"
        )
