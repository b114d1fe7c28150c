"""ClickHouse's HTTP interface over the embedded engine, on loopback: what clickhouse-connect and Grafana speak.

Supported: any query in any format, inserts in any format, server-side parameters, settings, sessions, `readonly`,
compression both ways (gzip, deflate, lz4, zstd), ClickHouse's error codes and headers. Not supported, and refused with
an error: external data tables (multipart files) and the native block compression of `compress=1`.
"""

from __future__ import annotations

import asyncio
import logging
import re
import resource
import uuid
from dataclasses import replace
from pathlib import Path
from typing import TypedDict

from aiohttp import web
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from pipeline.embedded.clickhouse import native_format, responses, statement
from pipeline.embedded.clickhouse.auth import authorize, check_origin
from pipeline.embedded.clickhouse.chdb_engine import ChdbEngine, EngineError, QueryResult
from pipeline.embedded.clickhouse.insert_body import INSERT, MAX_BODY, InsertBodies, insert_from
from pipeline.embedded.clickhouse.sql_guard import ForbiddenAccessError, SqlGuard
from pipeline.embedded.clickhouse.statement import StatementRequest

log = logging.getLogger("gigawatch.clickhouse")

_FORMAT = re.compile(rb"\bFORMAT\s+(\w+)\s*(?:SETTINGS\s[^)]*)?;?\s*$", re.IGNORECASE)
_READS = re.compile(
    rb"\s*(?:--[^\n]*\n\s*|/\*.*?\*/\s*)*(SELECT|WITH|SHOW|DESC|DESCRIBE|EXISTS|EXPLAIN|\(|FROM|VALUES)\b",
    re.IGNORECASE | re.DOTALL,
)


class _RunOptions(TypedDict):
    params: dict[str, str]
    settings: dict[str, str]
    database: str
    session: str
    session_timeout_s: float
    session_check: bool
    readonly: bool


class ClickHouseServer:
    """`app` serves the engine. `password`, when set, must come with every request but `/ping`."""

    def __init__(self, engine: ChdbEngine, scratch: Path, password: str = "") -> None:
        self._engine, self._password = engine, password
        self._bodies, self._guard = InsertBodies(scratch), SqlGuard(self._explain)
        self.requests = self.refused = 0
        self.app = web.Application(client_max_size=MAX_BODY)
        for path in ("/ping", "/replicas_status", "/live", "/ready"):
            self.app.router.add_get(path, self._ping)
        self.app.router.add_get("/metrics", self._metrics)
        self.app.router.add_route("*", "/{path:.*}", self._serve)

    async def _ping(self, _: web.Request) -> web.Response:
        return web.Response(text="Ok.\n")

    async def _metrics(self, request: web.Request) -> web.Response:
        try:
            authorize(request, self._password)
        except EngineError as err:
            return responses.failure(err, "")
        used = resource.getrusage(resource.RUSAGE_SELF)
        registry = CollectorRegistry()
        for name, help_, value in (
            ("requests_served", "Requests so far.", self.requests),
            ("requests_refused", "Requests that failed.", self.refused),
            ("cpu_seconds", "CPU seconds used.", used.ru_utime + used.ru_stime),
            ("peak_memory_megabytes", "Largest resident memory so far.", used.ru_maxrss // 1024),
        ):
            Gauge(f"gigawatch_clickhouse_{name}", help_, registry=registry).set(value)
        return web.Response(
            body=generate_latest(registry), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        )

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        query_id = request.query.get("query_id") or str(uuid.uuid4())
        self.requests += 1
        try:
            check_origin(request, self._password)
            authorize(request, self._password)
            parsed = await statement.parse(request, self._bodies)
            if not parsed.statement.strip():
                return web.Response(text="Ok.\n")
            result, fmt, wrote = await asyncio.to_thread(self._run, parsed)
        except EngineError as err:
            log.debug("%s", err)
            self.refused += 1
            return responses.failure(err, query_id)
        compressed = parsed.options.get("enable_http_compression") == "1"
        return responses.success(request, result, fmt, wrote=wrote, query_id=query_id, compressed=compressed)

    def _run(self, request: StatementRequest) -> tuple[QueryResult, str, bool]:
        """(result, its format, whether the statement wrote)."""
        try:
            return self._execute(request)
        finally:
            if request.body is not None:
                self._bodies.release(request.body)

    def _execute(self, request: StatementRequest) -> tuple[QueryResult, str, bool]:
        options: _RunOptions = {
            "params": request.params,
            "settings": request.settings,
            "database": request.options.get("database", ""),
            "session": request.options.get("session_id", ""),
            "session_timeout_s": request.session_timeout_s,
            "session_check": request.options.get("session_check") == "1",
            "readonly": request.readonly,
        }
        insert = INSERT.match(request.statement)
        if insert and insert["into"].upper().startswith(b"FUNCTION"):
            raise _access_denied("a table function")
        if insert and not request.readonly:
            if request.body is None:
                request.body = self._bodies.write(memoryview(request.statement)[insert.end() :])
            result = self._engine.run(insert_from(insert, request.body), **options)
            return result, insert["format"].decode(), True
        named = _FORMAT.search(request.statement)
        fmt = named[1].decode() if named else request.options.get("default_format", "TabSeparated")
        text = request.statement.decode("utf-8", "surrogateescape").rstrip().rstrip(";")
        try:
            self._guard.check(text, request.params)
        except ForbiddenAccessError as err:
            raise _access_denied(str(err)) from err
        result = self._engine.run(text, fmt, **options)
        if fmt == "Native" and request.protocol_revision >= native_format.MARKED:
            try:
                data = native_format.upgrade_protocol_revision(result.data, request.protocol_revision)
            except native_format.NativeError as err:
                raise EngineError(f"Code: 48. DB::Exception: {err}. (NOT_IMPLEMENTED)") from err
            result = replace(result, data=data)
        return result, fmt, not _READS.match(request.statement)

    def _explain(self, text: str, params: dict[str, str]) -> str:
        """The engine's parse of a statement; ValueError when it does not parse."""
        try:
            result = self._engine.run(f"EXPLAIN AST {text}", "TSVRaw", params=params, readonly=True)
        except EngineError as err:
            raise ValueError(err.text) from err
        return result.data.decode("utf-8", "replace")


def _access_denied(what: str) -> EngineError:
    return EngineError(
        f"Code: 497. DB::Exception: {what}: the embedded ClickHouse reads and writes nothing but its own tables, since "
        "it runs with the rights of the user who started it; a ClickHouse server has grants for this. (ACCESS_DENIED)"
    )


async def start(server: ClickHouseServer, host: str, port: int) -> web.AppRunner:
    """Serves until the runner is cleaned up."""
    runner = web.AppRunner(
        server.app, access_log=None, auto_decompress=False, shutdown_timeout=5.0, read_bufsize=1 << 20
    )
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    return runner
