"""ClickHouse's HTTP interface over the embedded engine, on loopback: what clickhouse-connect and Grafana speak.

Supported: any query in any format, inserts in any format, server-side parameters, settings, sessions, `readonly`,
compression both ways (gzip, deflate, lz4, zstd), ClickHouse's error codes and headers. Not supported, and said so with
an error: external data tables (multipart files) and the native block compression of `compress=1`.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import json
import logging
import re
import resource
import uuid
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import web
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from pipeline.embedded.clickhouse import encoding, native_format, sql_guard
from pipeline.embedded.clickhouse.chdb_engine import Engine, EngineError, Result
from schemas.loopback import host_is_loopback

log = logging.getLogger("gigawatch.clickhouse")

MAX_BODY = 1 << 30
MAX_PACKED = 256 << 20  # what a compressed body may grow to, since it is held in memory
_MOST_REMEMBERED = 4096

#: URL parameters that are the interface's own; all others are settings, `param_*` are query parameters.
_OWN = frozenset(
    (
        "query",
        "database",
        "user",
        "password",
        "default_format",
        "session_id",
        "session_timeout",
        "session_check",
        "query_id",
        "quota_key",
        "compress",
        "decompress",
        "enable_http_compression",
        "wait_end_of_query",
        "buffer_size",
        "client_protocol_version",
        "role",
        "send_progress_in_http_headers",
        "http_headers_progress_interval_ms",
        "http_zlib_compression_level",
        "stacktrace",
        "cancel_http_readonly_queries_on_client_close",
        "add_http_cors_header",
        "max_result_bytes",
        "hash",
    )
)

_INSERT = re.compile(
    rb"\s*INSERT\s+INTO\s+(?:TABLE\s+)?(?P<into>(?:FUNCTION\s+)?[^\s(]+\s*(?:\((?:[^()]|\([^()]*\))*\))?)"
    rb"(?P<settings>\s*SETTINGS\s+[^;]*?)?\s*FORMAT\s+(?P<format>\w+)[ \t]*(?:\r?\n|;?[ \t]*$|[ \t])",
    re.IGNORECASE,
)
_FORMAT = re.compile(rb"\bFORMAT\s+(\w+)\s*(?:SETTINGS\s[^)]*)?;?\s*$", re.IGNORECASE)
_READS = re.compile(
    rb"\s*(?:--[^\n]*\n\s*|/\*.*?\*/\s*)*(SELECT|WITH|SHOW|DESC|DESCRIBE|EXISTS|EXPLAIN|\(|FROM|VALUES)\b",
    re.IGNORECASE | re.DOTALL,
)

_TYPES = {
    "JSON": "application/json; charset=UTF-8",
    "CSV": "text/csv; charset=UTF-8; header=absent",
    "Native": "application/octet-stream",
    "TabSeparated": "text/tab-separated-values; charset=UTF-8",
}

#: ClickHouse's code -> HTTP status, for the codes that are not 500 there.
_STATUS = {
    code: status
    for status, codes in {
        HTTPStatus.BAD_REQUEST: (
            6,
            26,
            27,
            36,
            38,
            40,
            41,
            42,
            43,
            46,
            47,
            53,
            57,
            62,
            69,
            70,
            72,
            115,
            117,
            130,
            349,
            372,
            386,
            456,
            457,
            636,
        ),
        HTTPStatus.NOT_FOUND: (60, 81),
        HTTPStatus.FORBIDDEN: (164, 291, 497),
        HTTPStatus.UNAUTHORIZED: (192, 193, 194, 516),
        HTTPStatus.NOT_IMPLEMENTED: (48,),
        HTTPStatus.REQUEST_TIMEOUT: (159,),
        HTTPStatus.SERVICE_UNAVAILABLE: (202,),
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE: (161,),
    }.items()
    for code in codes
}


@dataclass(slots=True)
class _Request:
    statement: bytes
    options: dict[str, str]
    params: dict[str, str] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    readonly: bool = False
    body: Path | None = None  # an insert's data, when that came as it is


class ClickHouseServer:
    """`app` serves the engine. `password`, when set, must come with every request but `/ping`."""

    def __init__(self, engine: Engine, scratch: Path, password: str = "") -> None:
        self._engine, self._scratch, self._password = engine, scratch, password
        scratch.mkdir(parents=True, exist_ok=True)
        self.requests = self.refused = 0
        self._harmless: set[int] = set()
        self._spare: list[
            Path
        ] = []  # scratch files that are not in use: written over, since fresh pages cost more than the copy
        self.app = web.Application(client_max_size=MAX_BODY)
        self.app.router.add_get("/ping", self._ping)
        self.app.router.add_get("/replicas_status", self._ping)
        for path in ("/live", "/ready"):
            self.app.router.add_get(path, self._ping)
        self.app.router.add_get("/metrics", self._metrics)
        self.app.router.add_route("*", "/{path:.*}", self._serve)

    async def _ping(self, _: web.Request) -> web.Response:
        return web.Response(text="Ok.\n")

    async def _metrics(self, request: web.Request) -> web.Response:
        try:
            self._authorize(request)
        except EngineError as err:
            return self._failed(err, "")
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
            self._refuse_strangers(request)
            self._authorize(request)
            parsed = await self._parse(request)
            if not parsed.statement.strip():
                return web.Response(text="Ok.\n")
            result, fmt, wrote = await asyncio.to_thread(self._run, parsed)
        except EngineError as err:
            self.refused += 1
            return self._failed(err, query_id)
        return self._answer(request, parsed, result, fmt, wrote, query_id)

    def _authorize(self, request: web.Request) -> None:
        if not self._password:
            return
        given = request.headers.get("X-ClickHouse-Key") or request.query.get("password") or ""
        basic = request.headers.get("Authorization", "")
        if not given and basic.startswith("Basic "):
            try:
                given = base64.b64decode(basic[6:], validate=True).decode("utf-8", "replace").partition(":")[2]
            except (binascii.Error, ValueError):
                given = ""
        if not hmac.compare_digest(given.encode("utf-8", "replace"), self._password.encode()):
            raise EngineError(
                "Code: 516. DB::Exception: Authentication failed: password is incorrect. (AUTHENTICATION_FAILED)"
            )

    def _refuse_strangers(self, request: web.Request) -> None:
        """No web page of somewhere else reads or writes here through a visitor's browser, nor under a name made to
        point here.
        """
        host, origin = request.headers.get("Host", ""), request.headers.get("Origin")
        elsewhere = request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin") or (
            origin is not None and urlsplit(origin).netloc != host
        )
        if elsewhere or (not self._password and not host_is_loopback(host)):
            raise EngineError(
                "Code: 497. DB::Exception: requests from web pages of another origin, or under another name "
                "than this machine's loopback address "
                "without a password, are refused. (ACCESS_DENIED)"
            )

    async def _parse(self, request: web.Request) -> _Request:
        options = dict(request.query)
        for header, name in (("X-ClickHouse-Database", "database"), ("X-ClickHouse-Format", "default_format")):
            if header in request.headers:
                options.setdefault(name, request.headers[header])
        held: Path | None = None
        if request.content_type == "multipart/form-data":
            body = b""
            for name, value in (await request.post()).items():
                if not isinstance(value, str):
                    raise EngineError(
                        "Code: 48. DB::Exception: external data tables are not supported by the embedded ClickHouse; "
                        "use a ClickHouse server. (NOT_IMPLEMENTED)"
                    )
                options[name] = value
        elif (
            request.method == "POST"
            and not request.headers.get("Content-Encoding")
            and _INSERT.fullmatch(options.get("query", "").encode())
        ):
            body, held = b"", await self._received(request)
        else:
            try:
                body = encoding.decompress(
                    await request.read(), request.headers.get("Content-Encoding", ""), MAX_PACKED
                )
            except encoding.EncodingError as err:
                raise EngineError(f"Code: 271. DB::Exception: {err}. (CANNOT_DECOMPRESS)") from err
        if options.get("compress") == "1" or options.get("decompress") == "1":
            raise EngineError(
                "Code: 48. DB::Exception: native block compression (compress=1) is not supported by the embedded "
                "ClickHouse; use HTTP compression (enable_http_compression=1). (NOT_IMPLEMENTED)"
            )
        text = options.get("query", "").encode()
        statement = b"\n".join(part for part in (text, body) if part)
        parsed = _Request(statement, options, body=held)
        for name, value in options.items():
            if name.startswith("param_"):
                parsed.params[name.removeprefix("param_")] = value
            elif name not in _OWN:
                parsed.settings[name] = value
        parsed.readonly = request.method == "GET" or parsed.settings.get("readonly", "0") != "0"
        if parsed.readonly:
            parsed.settings.pop("readonly", None)
        return parsed

    async def _received(self, request: web.Request) -> Path:
        """The body as a file in the scratch folder, written as it comes: never whole in this process's memory."""
        path, size = self._spare.pop() if self._spare else self._scratch / f"{uuid.uuid4()}.insert", 0
        path.touch()
        with path.open("r+b", buffering=0) as file:
            try:
                async for chunk in request.content.iter_any():
                    size += len(chunk)
                    if size > MAX_BODY:
                        raise EngineError(
                            f"Code: 161. DB::Exception: the body is larger than {MAX_BODY} bytes. (TOO_LARGE)"
                        )
                    file.write(chunk)
                file.truncate(size)
            except BaseException:
                self._spare.append(path)
                raise
        return path

    def _run(self, request: _Request) -> tuple[Result, str, bool]:
        options = request.options
        session = options.get("session_id", "")
        common = {
            "params": request.params,
            "settings": request.settings,
            "database": options.get("database", ""),
            "session": session,
            "session_timeout_s": float(options.get("session_timeout", 60)),
            "session_check": options.get("session_check") == "1",
            "readonly": request.readonly,
        }
        insert = _INSERT.match(request.statement)
        if insert and insert["into"].upper().startswith(b"FUNCTION"):
            raise _trespasses("a table function")
        if insert and not request.readonly:
            file = request.body
            if file is None:
                file = self._scratch / f"{uuid.uuid4()}.insert"
                file.write_bytes(memoryview(request.statement)[insert.end() :])
            try:
                sql = (
                    b"INSERT INTO "
                    + insert["into"]
                    + f" FROM INFILE '{file}'".encode()
                    + (insert["settings"] or b"")
                    + b" FORMAT "
                    + insert["format"]
                )
                answer = self._engine.run(sql.decode(), **common)  # type: ignore[arg-type]
                return answer, insert["format"].decode(), True
            finally:
                self._spare.append(file)
        named = _FORMAT.search(request.statement)
        fmt = named[1].decode() if named else options.get("default_format", "TabSeparated")
        text = request.statement.decode("utf-8", "surrogateescape").rstrip().rstrip(";")
        self._fence(text, request.params)
        revision = (
            int(options["client_protocol_version"])
            if fmt == "Native" and options.get("client_protocol_version", "").isdigit()
            else 0
        )
        result = self._engine.run(text, fmt, **common)  # type: ignore[arg-type]
        if revision >= native_format.MARKED:
            try:
                result = replace(result, data=native_format.revised(result.data, revision))
            except native_format.NativeError as err:
                raise EngineError(f"Code: 48. DB::Exception: {err}. (NOT_IMPLEMENTED)") from err
        return result, fmt, not _READS.match(request.statement)

    def _fence(self, text: str, params: dict[str, str]) -> None:
        """Statements that were found harmless are remembered; dashboards ask the same things again and again."""
        key = hash((text, tuple(sorted(params.items()))))
        if key in self._harmless:
            return

        def explain(statement: str) -> str:
            try:
                return self._engine.run(f"EXPLAIN AST {statement}", "TSVRaw", params=params, readonly=True).data.decode(
                    "utf-8", "replace"
                )
            except EngineError as err:
                raise ValueError(err.text) from err

        found = sql_guard.forbidden_access(text, explain)
        if found:
            raise _trespasses(found)
        if len(self._harmless) >= _MOST_REMEMBERED:
            self._harmless.clear()
        self._harmless.add(key)

    def _answer(
        self, request: web.Request, parsed: _Request, result: Result, fmt: str, wrote: bool, query_id: str
    ) -> web.Response:
        summary = {
            "read_rows": result.rows_read,
            "read_bytes": result.bytes_read,
            "written_rows": result.rows_read if wrote else 0,
            "written_bytes": result.bytes_read if wrote else 0,
            "total_rows_to_read": 0,
            "result_rows": 0,
            "result_bytes": len(result.data),
            "elapsed_ns": int(result.elapsed_s * 1e9),
        }
        kind = next((t for prefix, t in _TYPES.items() if fmt.startswith(prefix)), "text/plain; charset=UTF-8")
        headers = {
            "X-ClickHouse-Query-Id": query_id,
            "X-ClickHouse-Summary": json.dumps({k: str(v) for k, v in summary.items()}),
            "X-ClickHouse-Server-Display-Name": "gigawatch-embedded",
            "X-ClickHouse-Timezone": "UTC",
            "Content-Type": kind,
        }
        if not wrote or result.data:
            headers["X-ClickHouse-Format"] = fmt
        data = result.data
        if parsed.options.get("enable_http_compression") == "1" and data:
            data, used = encoding.compress(data, request.headers.get("Accept-Encoding", ""))
            if used:
                headers["Content-Encoding"] = used
        return web.Response(body=data, headers=headers)

    def _failed(self, err: EngineError, query_id: str) -> web.Response:
        log.debug("%s", err)
        status = _STATUS.get(err.code, HTTPStatus.INTERNAL_SERVER_ERROR)
        headers = {
            "X-ClickHouse-Exception-Code": str(err.code),
            "X-ClickHouse-Query-Id": query_id,
            "X-ClickHouse-Server-Display-Name": "gigawatch-embedded",
            "X-ClickHouse-Timezone": "UTC",
        }
        return web.Response(status=status, text=err.text + "\n", headers=headers)


def _trespasses(what: str) -> EngineError:
    return EngineError(
        f"Code: 497. DB::Exception: {what}: the embedded ClickHouse reads and writes nothing but its own "
        "tables, since it runs with the rights "
        "of the user who started it; a ClickHouse server has grants for this. (ACCESS_DENIED)"
    )


async def start(gateway: ClickHouseServer, host: str, port: int) -> web.AppRunner:
    """Serves until the runner is cleaned up."""
    runner = web.AppRunner(
        gateway.app, access_log=None, auto_decompress=False, shutdown_timeout=5.0, read_bufsize=1 << 20
    )
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    return runner
