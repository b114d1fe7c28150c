"""One insert: frames as an Arrow block, a token that names its exact content, and what ClickHouse's refusals mean."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from pipeline.store.tables import DATABASE, Table

#: One insert is one block and so one part: it is stored whole or not at all.
_ONE_BLOCK = {"max_insert_block_size": 100_000_000, "min_insert_block_size_rows": 100_000_000,
              "min_insert_block_size_bytes": 4_000_000_000, "max_insert_threads": 1, "async_insert": 0,
              "wait_for_async_insert": 1, "insert_deduplicate": 1, "input_format_parallel_parsing": 0}


class Refusal(Enum):
    """What to do when an insert fails."""

    TRANSIENT = "retry the same bytes until it works"
    POISON = "find the guilty rows and set them aside"
    CONFIG = "stop: only a person can mend it"


#: Codes that are a bad value or bad bytes: cannot parse, type mismatch, incorrect data, value out of range, ...
_POISON = frozenset((6, 26, 27, 33, 38, 41, 43, 53, 69, 70, 72, 117, 130, 131, 349, 1001))
#: Codes that only a person can mend: unknown table, column, database or setting, no rights, wrong password, syntax.
_CONFIG = frozenset((16, 36, 47, 60, 62, 81, 115, 192, 193, 194, 497, 516))


@dataclass(frozen=True, slots=True)
class Piece:
    """One message's rows for one table, and where it came from."""

    batch: pa.RecordBatch
    partition: int
    offset: int
    kafka_ms: int


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


def block(table: Table, pieces: Sequence[Piece], log_id: str) -> pa.Table:
    """The pieces as one table with their origin; NaN becomes NULL, metrics that a frame lacks are NULL."""
    body = pa.concat_tables([pa.table(p.batch) for p in pieces], promote_options="default")
    columns: dict[str, pa.ChunkedArray | pa.Array] = {}
    for name, column in zip(body.column_names, body.columns, strict=True):
        if name not in table.inserted:
            continue
        columns[name] = _null_for_nan(column) if pa.types.is_floating(column.type) else column
    rows = [p.batch.num_rows for p in pieces]
    columns["kafka_log"] = pa.array(np.full(len(pieces), log_id)).take(pa.array(np.repeat(np.arange(len(pieces)), rows)))
    columns["kafka_partition"] = pa.array(np.repeat(np.array([p.partition for p in pieces], np.uint16), rows))
    columns["kafka_offset"] = pa.array(np.repeat(np.array([p.offset for p in pieces], np.uint64), rows))
    columns["kafka_ts"] = pa.array(np.repeat(np.array([p.kafka_ms for p in pieces], np.int64), rows)).cast(pa.timestamp("ms", "UTC"))
    return pa.table(columns).combine_chunks()


def _null_for_nan(column: pa.ChunkedArray) -> pa.ChunkedArray:
    nan = pc.is_nan(column)
    return pc.if_else(nan, pa.scalar(None, column.type), column) if pc.any(nan).as_py() else column


def token(table: Table, pieces: Sequence[Piece], log_id: str, day: str) -> str:
    """Names exactly these pieces (of this day): the same token always means the same rows."""
    content = hashlib.blake2b(digest_size=12)
    for p in pieces:
        content.update(f"{p.partition}:{p.offset}:{p.kafka_ms}:{p.batch.num_rows};".encode())
    return f"{log_id}/{table.name}/{day}/{content.hexdigest()}"


def send(client: Client, table: Table, body: pa.Table, name: str) -> None:
    """Inserts and waits for ClickHouse to have it; `name` is the deduplication token. Raises the driver's errors."""
    out = pa.BufferOutputStream()
    with pa.ipc.new_stream(out, body.schema) as writer:
        writer.write_table(body)
    client.raw_insert(f"{DATABASE}.{table.name}", body.column_names, out.getvalue().to_pybytes(), fmt="ArrowStream",
                      settings={**_ONE_BLOCK, "insert_deduplication_token": name})
