"""Answers of ClickHouse's HTTP interface: headers, content types, compression, and the HTTP status of an error."""

from __future__ import annotations

import json
from http import HTTPStatus

from aiohttp import web

from pipeline.embedded.clickhouse import encoding
from pipeline.embedded.clickhouse.chdb_engine import EngineError, QueryResult

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


def success(
    request: web.Request, result: QueryResult, fmt: str, *, wrote: bool, query_id: str, compressed: bool
) -> web.Response:
    """The result of a statement in `fmt`; `compressed`: when the client accepts an encoding that is known here."""
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
        **_common(query_id),
        "X-ClickHouse-Summary": json.dumps({k: str(v) for k, v in summary.items()}),
        "Content-Type": kind,
    }
    if not wrote or result.data:
        headers["X-ClickHouse-Format"] = fmt
    data = result.data
    if compressed and data:
        data, used = encoding.compress(data, request.headers.get("Accept-Encoding", ""))
        if used:
            headers["Content-Encoding"] = used
    return web.Response(body=data, headers=headers)


def failure(err: EngineError, query_id: str) -> web.Response:
    """An error with ClickHouse's code and text."""
    return web.Response(
        status=_STATUS.get(err.code, HTTPStatus.INTERNAL_SERVER_ERROR),
        text=err.text + "\n",
        headers={**_common(query_id), "X-ClickHouse-Exception-Code": str(err.code)},
    )


def _common(query_id: str) -> dict[str, str]:
    return {
        "X-ClickHouse-Query-Id": query_id,
        "X-ClickHouse-Server-Display-Name": "gigawatch-embedded",
        "X-ClickHouse-Timezone": "UTC",
    }
