"""One insert: frames as an Arrow block, a token that names its exact content, and what ClickHouse's refusals mean."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from pipeline.store.identities import Identities
from pipeline.store.tables import DATABASE, Table
from schemas.frame import Frame
from schemas.layout import Layout
from schemas.quality import Counts, clean, clean_values
from schemas.stack import Stack

_STAMP = pa.timestamp("ms", "UTC")

#: Rows of one Arrow batch inside an insert.
CHUNK_ROWS = 65_536
#: Columns are a fifth as large with LZ4: less to send, to receive and to read than the packing costs, even on loopback.
_PACKED = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)

#: One insert is one block and so one part: it is stored whole or not at all.
_ONE_BLOCK = {"max_insert_block_size": 100_000_000, "min_insert_block_size_rows": 100_000_000,
              "min_insert_block_size_bytes": 4_000_000_000, "max_insert_threads": 1, "async_insert": 0,
              "wait_for_async_insert": 1, "insert_deduplicate": 1, "input_format_parallel_parsing": 0,
              # rows with the same key are collapsed when parts are merged; to look for them on every insert doubles its cost
              "optimize_on_insert": 0}


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

    content: Frame | pa.RecordBatch
    partition: int
    offset: int
    kafka_ms: int

    @property
    def rows(self) -> int:
        return self.content.rows if isinstance(self.content, Frame) else int(self.content.num_rows)


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


def block(table: Table, pieces: Sequence[Piece], log_id: str, identities: Identities | None = None, missing: Counts | None = None) -> pa.Table:
    """The pieces as one table with their origin; NaN becomes NULL, metrics that a frame lacks are NULL, impossible values are
    made missing and counted. Frames of one layout are stacked: no row is touched."""
    counts: Counts = Counter() if missing is None else missing
    known: dict[Layout, list[Piece]] = {}
    plain: list[Piece] = []
    for piece in pieces:
        layout = piece.content.layout if isinstance(piece.content, Frame) else None
        if layout is None:
            plain.append(piece)
        else:
            known.setdefault(layout, []).append(piece)
    tables = [_stacked(table, found, log_id, identities or Identities(), counts) for found in known.values()]
    if plain:
        tables.append(_plain(table, plain, log_id, counts))
    return (pa.concat_tables(tables, promote_options="default") if len(tables) > 1 else tables[0]).combine_chunks()


def _stacked(table: Table, pieces: Sequence[Piece], log_id: str, identities: Identities, counts: Counts) -> pa.Table:
    """By tick and place, so that rows come out nearly as the table sorts them."""
    frames = [p.content for p in pieces if isinstance(p.content, Frame)]
    starts = identities.places(frames)
    order = sorted(range(len(frames)), key=lambda i: (frames[i].span()[0], starts[i]))
    pieces, frames = [pieces[i] for i in order], [frames[i] for i in order]
    stack = Stack(frames)
    rows = [f.rows for f in frames]
    columns: dict[str, pa.Array] = {"ts": pa.array(stack.ts_ms(), _STAMP), **identities.columns([starts[i] for i in order], rows)}
    for name in stack.names:
        values = clean_values(frames[0].catalogue[name], stack.column(name), counts)
        gaps = np.isnan(values)
        columns[name] = pa.array(values, mask=gaps) if gaps.any() else pa.array(values)
    return pa.table({n: c for n, c in columns.items() if n in table.inserted} | _origin(pieces, rows, log_id))


def _plain(table: Table, pieces: Sequence[Piece], log_id: str, counts: Counts) -> pa.Table:
    batches = [clean(p.content, counts).batch if isinstance(p.content, Frame) else p.content for p in pieces]
    body = pa.concat_tables([pa.table(b) for b in batches], promote_options="default")
    columns = {name: _null_for_nan(column) if pa.types.is_floating(column.type) else column
               for name, column in zip(body.column_names, body.columns, strict=True) if name in table.inserted}
    return pa.table(columns | _origin(pieces, [b.num_rows for b in batches], log_id))


def _origin(pieces: Sequence[Piece], rows: Sequence[int], log_id: str) -> dict[str, pa.Array]:
    def each(values: list[int], dtype: type) -> Any:
        return np.repeat(np.array(values, dtype), rows)

    return {"kafka_log": pa.DictionaryArray.from_arrays(np.zeros(sum(rows), np.int8), [log_id]),
            "kafka_partition": pa.array(each([p.partition for p in pieces], np.uint16)),
            "kafka_offset": pa.array(each([p.offset for p in pieces], np.uint64)),
            "kafka_ts": pa.array(each([p.kafka_ms for p in pieces], np.int64), _STAMP)}


def _null_for_nan(column: pa.ChunkedArray) -> pa.ChunkedArray:
    nan = pc.is_nan(column)
    return pc.if_else(nan, pa.scalar(None, column.type), column) if pc.any(nan).as_py() else column


def token(table: Table, pieces: Sequence[Piece], log_id: str, day: str) -> str:
    """Names exactly these pieces (of this day): the same token always means the same rows."""
    content = hashlib.blake2b(digest_size=12)
    for p in pieces:
        content.update(f"{p.partition}:{p.offset}:{p.kafka_ms}:{p.rows};".encode())
    return f"{log_id}/{table.name}/{day}/{content.hexdigest()}"


class Sender:
    """Inserts through one client, one at a time, from one buffer that grows: fresh memory costs more than what is written to it."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._buffer = pa.allocate_buffer(0)

    def send(self, table: Table, body: pa.Table, name: str) -> None:
        """Inserts and waits for ClickHouse to have it; `name` is the deduplication token. Raises the driver's errors."""
        most = body.nbytes + body.num_columns * (1024 + 256 * (body.num_rows // CHUNK_ROWS + 1)) + 65_536
        if self._buffer.size < most:
            self._buffer = pa.allocate_buffer(most + most // 4)
        out = pa.FixedSizeBufferWriter(self._buffer)
        with pa.ipc.new_stream(out, body.schema, options=_PACKED) as writer:
            writer.write_table(body, max_chunksize=CHUNK_ROWS)
        size = out.tell()
        self._client.raw_insert(f"{DATABASE}.{table.name}", body.column_names, memoryview(self._buffer)[:size], fmt="ArrowStream",  # type: ignore[arg-type]
                                settings={**_ONE_BLOCK, "insert_deduplication_token": name})
