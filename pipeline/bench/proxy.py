"""A proxy before ClickHouse that misbehaves on demand: refuses inserts with a code, answers late, or takes an insert
and hangs up.
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
class Mood:
    """`code` and `text`: inserts are refused so; `late_s`: answers come later; `hang_up`: inserts are handed on and
    never answered.
    """

    code: int = 0
    text: str = ""
    late_s: float = 0.0
    hang_up: bool = False


class Proxy:
    """Serves on loopback in a thread of its own; `mood` may be set from any thread."""

    def __init__(self, target: str) -> None:
        self._target, self._loop, self._ready = target, asyncio.new_event_loop(), threading.Event()
        self.mood = Mood()
        self.misbehaved = 0
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._thread.start()
        if not self._ready.wait(10):
            raise OSError(f"the proxy before {target} did not start")

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
        mood, insert = self.mood, "INSERT INTO" in request.query.get("query", "")
        body = await request.read()
        if insert and mood.code:
            self.misbehaved += 1
            return web.Response(
                status=500,
                text=f"Code: {mood.code}. DB::Exception: {mood.text}\n",
                headers={"X-ClickHouse-Exception-Code": str(mood.code)},
            )
        if mood.late_s:
            self.misbehaved += 1
            await asyncio.sleep(mood.late_s)
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _HOP}
        try:
            async with (
                aiohttp.ClientSession(auto_decompress=False) as session,
                session.request(request.method, self._target + request.path_qs, data=body, headers=headers) as answer,
            ):
                said = await answer.read()
                kept = {k: v for k, v in answer.headers.items() if k.lower() not in _HOP}
        except aiohttp.ClientError as err:
            return web.Response(status=502, text=f"no ClickHouse behind the proxy: {err}\n")
        if insert and mood.hang_up:
            self.misbehaved += 1
            assert request.transport is not None
            request.transport.abort()
        return web.Response(status=answer.status, body=said, headers=kept)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
