"""A proxy in front of ClickHouse that injects faults: it refuses inserts with a code, answers late, or forwards an
insert and closes the connection without an answer.
"""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass

import aiohttp
from aiohttp import web

from pipeline.embedded.ports import free_port

_HOP = ("host", "content-length", "transfer-encoding", "connection", "content-encoding", "keep-alive")


@dataclass(frozen=True, slots=True)
class FaultMode:
    """`code` and `text` refuse inserts; `late_s` delays every answer; `hang_up` forwards inserts and never answers."""

    code: int = 0
    text: str = ""
    late_s: float = 0.0
    hang_up: bool = False


class Proxy:
    """Serves on loopback in a thread of its own; `mode` may be set from any thread."""

    def __init__(self, target: str) -> None:
        self._target, self._loop, self._ready = target, asyncio.new_event_loop(), threading.Event()
        self.mode = FaultMode()
        self.misbehaved = 0
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._thread.start()
        if not self._ready.wait(10):
            raise OSError(f"the proxy in front of {target} did not start")

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", self._serve)
        runner = web.AppRunner(app, access_log=None)
        self._loop.run_until_complete(runner.setup())
        self._loop.run_until_complete(web.TCPSite(runner, "127.0.0.1", self.port).start())
        self._ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        mode, insert = self.mode, "INSERT INTO" in request.query.get("query", "")
        body = await request.read()
        if insert and mode.code:
            self.misbehaved += 1
            return web.Response(
                status=500,
                text=f"Code: {mode.code}. DB::Exception: {mode.text}\n",
                headers={"X-ClickHouse-Exception-Code": str(mode.code)},
            )
        if mode.late_s:
            self.misbehaved += 1
            await asyncio.sleep(mode.late_s)
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _HOP}
        try:
            async with (
                aiohttp.ClientSession(auto_decompress=False) as session,
                session.request(request.method, self._target + request.path_qs, data=body, headers=headers) as answer,
            ):
                content = await answer.read()
                kept = {k: v for k, v in answer.headers.items() if k.lower() not in _HOP}
        except aiohttp.ClientError as err:
            return web.Response(status=502, text=f"no ClickHouse behind the proxy: {err}\n")
        if insert and mode.hang_up:
            self.misbehaved += 1
            assert request.transport is not None
            request.transport.abort()
        return web.Response(status=answer.status, body=content, headers=kept)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
