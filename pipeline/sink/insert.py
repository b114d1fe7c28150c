"""One insert: frames as an Arrow block, a token that names its exact content, and what ClickHouse's refusals mean."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from enum import Enum

import pyarrow as pa
import pyarrow.compute as pc
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from pipeline.sink import array_rows
from pipeline.sink.device_sets import DeviceSets
from pipeline.sink.stored_message import StoredMessage, provenance
from pipeline.store.table import Table
from schemas.frame import Frame
from schemas.tables import DATABASE
from schemas.validation import Counts

#: One insert is one block and so one part: it is stored whole or not at all.
_ONE_BLOCK = {
    "max_insert_block_size": 100_000_000,
    "min_insert_block_size_rows": 100_000_000,
    "min_insert_block_size_bytes": 4_000_000_000,
    "max_insert_threads": 1,
    "async_insert": 0,
    "wait_for_async_insert": 1,
    "insert_deduplicate": 1,
    "input_format_parallel_parsing": 0,
    # rows with the same key are collapsed when parts are merged; to look for them on every insert doubles its cost
    "optimize_on_insert": 0,
}


class Refusal(Enum):
    """What to do when an insert fails."""

    TRANSIENT = "retry the same bytes until it works"
    POISON = "find the failing messages and dead-letter them"
    CONFIG = "stop: an operator must fix it"


#: Codes that are a bad value or bad bytes: cannot parse, type mismatch, incorrect data, value out of range, ...
_POISON = frozenset((6, 26, 27, 33, 38, 41, 43, 53, 69, 70, 72, 117, 130, 131, 349, 1001))
#: Codes that an operator must fix: unknown table, column, database or setting, no rights, wrong password, syntax.
_CONFIG = frozenset((16, 36, 47, 60, 62, 81, 115, 192, 193, 194, 497, 516))


def classify(err: Exception) -> Refusal:
    """Transient unless it is known to be otherwise: giving up loses rows, trying again does not."""
    code = getattr(err, "code", None)
    if isinstance(err, ClickHouseError) and code is not None:
        if code in _CONFIG:
            return Refusal.CONFIG
        if code in _POISON:
            return Refusal.POISON
        return Refusal.TRANSIENT
    if isinstance(err, (pa.ArrowInvalid, TypeError)) or (isinstance(err, ValueError) and not isinstance(err, OSError)):
        return Refusal.POISON
    return Refusal.TRANSIENT


def build_body(
    table: Table, messages: Sequence[StoredMessage], log_id: str, device_sets: DeviceSets, missing: Counts | None = None
) -> pa.Table:
    """Returns the messages as one table with their provenance: of frames, or of rows in which NaN becomes NULL."""
    if table.frames:
        return array_rows.frame_table(table, messages, log_id, device_sets, missing)
    batches = [p.content.batch if isinstance(p.content, Frame) else p.content for p in messages]
    body = pa.concat_tables([pa.table(b) for b in batches], promote_options="default")
    columns = {
        name: _null_for_nan(column) if pa.types.is_floating(column.type) else column
        for name, column in zip(body.column_names, body.columns, strict=True)
        if name in table.inserted
    }
    return pa.table(columns | provenance(messages, [b.num_rows for b in batches], log_id))


def _null_for_nan(column: pa.ChunkedArray) -> pa.ChunkedArray:
    nan = pc.is_nan(column)
    return pc.if_else(nan, pa.scalar(None, column.type), column) if pc.any(nan).as_py() else column


def token(table: Table, messages: Sequence[StoredMessage], log_id: str, day: str) -> str:
    """Names exactly these messages (of this day): the same token always means the same rows."""
    content = hashlib.blake2b(digest_size=12)
    for p in messages:
        content.update(f"{p.partition}:{p.offset}:{p.kafka_ms}:{p.rows};".encode())
    return f"{log_id}/{table.name}/{day}/{content.hexdigest()}"


class Sender:
    """Inserts through one client, one at a time, from one buffer that grows: fresh memory costs more than what is
    written to it.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._buffer = pa.allocate_buffer(0)

    def send(self, table: Table, body: pa.Table, name: str) -> None:
        """Inserts and waits for ClickHouse to have it; `name` is the deduplication token.

        Raises the driver's errors.
        """
        most = body.nbytes + body.num_columns * 4096 + 65_536
        if self._buffer.size < most:
            self._buffer = pa.allocate_buffer(most + most // 4)
        out = pa.FixedSizeBufferWriter(self._buffer)
        with pa.ipc.new_stream(out, body.schema) as writer:
            writer.write_table(body)
        size = out.tell()
        self._client.raw_insert(
            f"{DATABASE}.{table.stored_as}",
            body.column_names,
            memoryview(self._buffer)[:size],  # type: ignore[arg-type]
            fmt="ArrowStream",
            settings={**_ONE_BLOCK, "insert_deduplication_token": name},
        )
