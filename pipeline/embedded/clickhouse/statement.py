"""A request of ClickHouse's HTTP interface, parsed: the statement, its parameters and settings, an insert's data."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from pipeline.embedded.clickhouse import encoding
from pipeline.embedded.clickhouse.chdb_engine import EngineError
from pipeline.embedded.clickhouse.insert_body import INSERT, InsertBodies

MAX_PACKED = 256 << 20  # what a compressed body may grow to, since it is held in memory
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


@dataclass(slots=True)
class StatementRequest:
    """`options` are the URL parameters; `body` is the file of an insert's data, when they came apart from the SQL."""

    statement: bytes
    options: dict[str, str]
    params: dict[str, str] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    readonly: bool = False
    body: Path | None = None

    @property
    def session_timeout_s(self) -> float:
        return float(self.options.get("session_timeout", "60"))

    @property
    def protocol_revision(self) -> int:
        """The revision of the Native format that the client asks for, 0 for the oldest."""
        given = self.options.get("client_protocol_version", "")
        return int(given) if given.isdecimal() else 0


async def parse(request: web.Request, bodies: InsertBodies) -> StatementRequest:
    """Raises EngineError for what the embedded ClickHouse does not support, and for a body that does not decode."""
    options = dict(request.query)
    for header, name in (("X-ClickHouse-Database", "database"), ("X-ClickHouse-Format", "default_format")):
        if header in request.headers:
            options.setdefault(name, request.headers[header])
    _check(options)
    file: Path | None = None
    packing = request.headers.get("Content-Encoding", "")
    if request.content_type == "multipart/form-data":
        body = b""
        options |= await _form(request)
        _check(options)
    elif request.method == "POST" and not packing and INSERT.fullmatch(options.get("query", "").encode()):
        body, file = b"", await bodies.receive(request)
    else:
        try:
            body = encoding.decompress(await request.read(), packing, MAX_PACKED)
        except encoding.EncodingError as err:
            raise EngineError(f"Code: 271. DB::Exception: {err}. (CANNOT_DECOMPRESS)") from err
    text = options.get("query", "").encode()
    parsed = StatementRequest(b"\n".join(part for part in (text, body) if part), options, body=file)
    for name, value in options.items():
        if name.startswith("param_"):
            parsed.params[name.removeprefix("param_")] = value
        elif name not in _OWN:
            parsed.settings[name] = value
    parsed.readonly = request.method == "GET" or parsed.settings.get("readonly", "0") != "0"
    if parsed.readonly:
        parsed.settings.pop("readonly", None)
    return parsed


async def _form(request: web.Request) -> dict[str, str]:
    fields = dict[str, str]()
    for name, value in (await request.post()).items():
        if not isinstance(value, str):
            raise EngineError(
                "Code: 48. DB::Exception: external data tables are not supported by the embedded ClickHouse; "
                "use a ClickHouse server. (NOT_IMPLEMENTED)"
            )
        fields[name] = value
    return fields


def _check(options: dict[str, str]) -> None:
    if options.get("compress") == "1" or options.get("decompress") == "1":
        raise EngineError(
            "Code: 48. DB::Exception: native block compression (compress=1) is not supported by the embedded "
            "ClickHouse; use HTTP compression (enable_http_compression=1). (NOT_IMPLEMENTED)"
        )
    timeout = options.get("session_timeout", "60")
    if not timeout.isdecimal():
        raise EngineError(f"Code: 36. DB::Exception: Invalid session timeout: '{timeout}'. (BAD_ARGUMENTS)")
