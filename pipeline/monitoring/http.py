"""HTTP for Prometheus and for probes: `/metrics`, `/live`, `/ready` and `/health`, on loopback or with a token."""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Mapping

from aiohttp import web

from pipeline import settings
from pipeline.monitoring.health import Health, judge
from pipeline.monitoring.metrics import METRICS, exposition
from pipeline.monitoring.statuses import ProcessStatus, kind_of
from schemas.errors import AddressError
from schemas.loopback import is_loopback

#: Returns the statuses of processes by name.
Statuses = Callable[[], Mapping[str, ProcessStatus]]


def overall(statuses: Mapping[str, ProcessStatus], now: float) -> dict[str, Health]:
    """Health by process."""
    return {name: judge(status, now) for name, status in statuses.items() if kind_of(name) in METRICS}


async def serve(listen: str, statuses: Statuses) -> web.AppRunner:
    """Serves on HOST:PORT until the runner is cleaned up. Raises AddressError when it cannot, or without a token where
    one is needed.

    `/metrics` is for Prometheus; `/live` and `/ready` answer 200 or 503; `/health` gives the reasons as JSON. Off
    loopback every request but `/live` needs the token of GIGAWATCH_METRICS_TOKEN.
    """
    host, _, port = listen.rpartition(":")
    token = settings.value("metrics", "token")
    if not port.isdigit() or not host:
        raise AddressError(f"--metrics {listen!r}: it is HOST:PORT, such as 127.0.0.1:9100")
    if not is_loopback(host) and not token:
        raise AddressError(
            f"--metrics {listen} is open to other machines: set GIGAWATCH_METRICS_TOKEN or "
            "GIGAWATCH_METRICS_TOKEN_FILE first"
        )

    async def answer(request: web.Request) -> web.Response:
        if request.path != "/live" and token and not _bears(request, token):
            return web.Response(status=401, text="a bearer token is needed\n", headers={"WWW-Authenticate": "Bearer"})
        return _answer(request.path, statuses(), time.time())

    app = web.Application(client_max_size=1 << 16)
    for path in ("/metrics", "/live", "/ready", "/health"):
        app.router.add_get(path, answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, host.strip("[]"), int(port)).start()
    except (OSError, OverflowError) as err:
        await runner.cleanup()
        reason = getattr(err, "strerror", None) or err
        raise AddressError(f"--metrics {listen}: cannot listen there: {reason}; give another port") from err
    return runner


def address(runner: web.AppRunner) -> str:
    host, port = runner.addresses[0][:2]
    return f"http://{host}:{port}"


def _bears(request: web.Request, token: str) -> bool:
    given = request.headers.get("Authorization", "").removeprefix("Bearer ")
    return hmac.compare_digest(given.encode("utf-8", "replace"), token.encode())


def _answer(path: str, statuses: Mapping[str, ProcessStatus], now: float) -> web.Response:
    if path == "/metrics":
        return web.Response(
            body=exposition(statuses, now), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        )
    found = overall(statuses, now)
    good = all(h.live if path == "/live" else h.ready for h in found.values()) and bool(found)
    if path == "/health":
        body = {
            "live": all(h.live for h in found.values()),
            "ready": all(h.ready for h in found.values()),
            "processes": {
                name: {"live": h.live, "ready": h.ready, "why": list(h.why), "degraded": list(h.degraded)}
                for name, h in found.items()
            },
        }
        return web.json_response(body, status=200 if good else 503)
    return web.Response(
        status=200 if good else 503,
        text="yes\n" if good else "; ".join(f"{n}: {h}" for n, h in found.items() if h.why) + "\n",
    )
