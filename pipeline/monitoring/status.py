"""What a process says of itself: a small JSON file that supervisors read, and over HTTP `/metrics`, `/health`, `/live`
and `/ready`.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import os
import resource
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from aiohttp import web

from pipeline import settings
from pipeline.monitoring.health import Health, judge
from pipeline.monitoring.metrics import FIGURES, exposition, kind_of
from schemas.errors import AddressError

Statuses = Callable[[], Mapping[str, dict[str, Any]]]
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Status:
    """`name` is producer, sink, stream-0, ...; `listen` HOST:PORT (port 0: any) for HTTP.

    Without `path` and `listen` it does nothing.
    """

    def __init__(self, name: str, path: Path | None, collect: Callable[[], dict[str, Any]], listen: str = "") -> None:
        self._name, self._path, self._collect, self._listen = name, path, collect, listen
        self._address = ""
        self._runner: web.AppRunner | None = None
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)

    def said(self) -> dict[str, Any]:
        used = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "pid": os.getpid(),
            "at": time.time(),
            "cpu_s": round(used.ru_utime + used.ru_stime, 3),
            "peak_rss_mb": used.ru_maxrss // 1024,
            "metrics_at": self._address,
            **self._collect(),
        }

    def write(self) -> None:
        if self._path is None:
            return
        part = self._path.with_suffix(".part")
        part.write_text(json.dumps(self.said()))
        part.replace(self._path)

    async def begin(self) -> Self:
        """Listens, if asked to. Raises AddressError when it must not listen there, or cannot."""
        if self._listen:
            self._runner = await serve(self._listen, lambda: {self._name: self.said()})
            self._address = address(self._runner)
        return self

    async def keep(self, every_s: float = 1.0) -> None:
        """Writes until cancelled, and once more then."""
        try:
            while True:
                self.write()
                await asyncio.sleep(every_s)
        finally:
            self.write()
            if self._runner is not None:
                await self._runner.cleanup()


def read(path: Path) -> dict[str, Any]:
    """The last status, empty when there is none yet."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def read_all(folder: Path) -> dict[str, dict[str, Any]]:
    """The last status of every producer, worker and sink of a factory, by name."""
    return {p.stem: read(p) for p in folder.glob("*.json") if kind_of(p.stem) in FIGURES}


def overall(statuses: Mapping[str, dict[str, Any]], now: float) -> dict[str, Health]:
    """Health by process."""
    return {name: judge(kind_of(name), said, now) for name, said in statuses.items() if kind_of(name) in FIGURES}


async def serve(listen: str, statuses: Statuses) -> web.AppRunner:
    """`/metrics` for Prometheus; `/live` and `/ready` answer 200 or 503; `/health` says why, as JSON. Raises
    AddressError.

    Elsewhere than on loopback a token is wanted (GIGAWATCH_METRICS_TOKEN), and every request but `/live` must bear it.
    """
    host, _, port = listen.rpartition(":")
    token = settings.value("metrics", "token")
    if not port.isdigit() or not host:
        raise AddressError(f"--metrics {listen!r}: it is HOST:PORT, such as 127.0.0.1:9100")
    if host.strip("[]") not in _LOOPBACK and not token:
        raise AddressError(
            f"--metrics {listen} lets others in: set GIGAWATCH_METRICS_TOKEN or GIGAWATCH_METRICS_TOKEN_FILE first"
        )

    def allowed(request: web.Request) -> bool:
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        return not token or hmac.compare_digest(given.encode("utf-8", "replace"), token.encode())

    async def answer(request: web.Request) -> web.Response:
        if request.path != "/live" and not allowed(request):
            return web.Response(status=401, text="a bearer token is wanted\n", headers={"WWW-Authenticate": "Bearer"})
        said, now = statuses(), time.time()
        if request.path == "/metrics":
            return web.Response(
                body=exposition(said, now), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
            )
        found = overall(said, now)
        good = all(h.live if request.path == "/live" else h.ready for h in found.values()) and bool(found)
        body = {
            "live": all(h.live for h in found.values()),
            "ready": all(h.ready for h in found.values()),
            "processes": {name: {"live": h.live, "ready": h.ready, "why": list(h.why)} for name, h in found.items()},
        }
        if request.path == "/health":
            return web.json_response(body, status=200 if good else 503)
        return web.Response(
            status=200 if good else 503,
            text="yes\n" if good else "; ".join(f"{n}: {h}" for n, h in found.items() if h.why) + "\n",
        )

    app = web.Application(client_max_size=1 << 16)
    for path in ("/metrics", "/live", "/ready", "/health"):
        app.router.add_get(path, answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, host.strip("[]"), int(port)).start()
    except OSError as err:
        await runner.cleanup()
        raise AddressError(f"--metrics {listen}: cannot listen there: {err.strerror}") from err
    return runner


def address(runner: web.AppRunner) -> str:
    host, port = runner.addresses[0][:2]
    return f"http://{host}:{port}"
