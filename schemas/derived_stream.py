"""A derived stream: its columns, its Kafka topic and its ClickHouse table, declared once."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from schemas.codec import encode_batch
from schemas.identity import VERSION


@dataclass(frozen=True, slots=True)
class Derived:
    """A derived stream, from its Kafka topic to its ClickHouse table.

    `key` names the columns that identify a row; a later row with the same key replaces it. `table` is empty for a
    stream that is not stored. `partitions` of the topic: 1, or 0 for as many as telemetry has; `keep_h`: hours that
    Kafka keeps it, -1 for good, 0 for the broker's own setting. `dated` is the column by
    which the table is partitioned and forgotten, after the days of `tier` (`schemas.tables.TTL_DAYS`). `stored_by`:
    rows of devices are stored together, a rack's or a message's; empty: a row is a row. `from_log`: rows are a function
    of the log alone, so that recomputing them gives the same bits.
    """

    name: str
    help: str
    columns: tuple[tuple[str, pa.DataType], ...]
    key: tuple[str, ...]
    topic: str
    table: str = ""
    partitions: Literal[0, 1] = 0
    dated: str = "ts"
    tier: str = "derived"
    stored_by: Literal["", "rack", "message"] = ""
    from_log: bool = False
    keep_h: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.columns)

    @property
    def schema(self) -> pa.Schema:
        return self.schema_of(self.names)

    def schema_of(self, names: Collection[str]) -> pa.Schema:
        """The Arrow schema with all columns but those floating-point ones that are not named: a metric may be left
        out.
        """
        fields = [
            pa.field(name, dtype, nullable=False)
            for name, dtype in self.columns
            if name in names or not pa.types.is_floating(dtype)
        ]
        return pa.schema(fields, {b"gigawatch": f"{VERSION}/{self.name}".encode()})

    def build(self, columns: Mapping[str, Any]) -> pa.RecordBatch:
        """A batch from arrays or lists; a floating-point column may be left out, every other must be there."""
        wire = self.schema_of(columns)
        arrays = [c if isinstance(c := columns[f.name], pa.Array) else pa.array(_cast(c, f.type), f.type) for f in wire]
        return pa.RecordBatch.from_arrays([a.cast(f.type) for a, f in zip(arrays, wire, strict=True)], schema=wire)

    def build_rows(self, rows: Sequence[Mapping[str, Any]]) -> pa.RecordBatch:
        return self.build({name: [row[name] for row in rows] for name, _ in self.columns})

    def encode(self, batch: pa.RecordBatch) -> bytes:
        return encode_batch(batch)


#: Every derived stream by its name.
DERIVED: dict[str, Derived] = {}


def declare(stream: Derived) -> Derived:
    """Registers a stream: its topic and its table follow."""
    DERIVED[stream.name] = stream
    return stream


def columns_of(batch: pa.RecordBatch, *names: str) -> list[list[Any]]:
    """Returns the values of the named columns; times as ms since 1970."""
    columns = [batch.column(batch.schema.get_field_index(name)) for name in names]
    return [(c.cast(pa.int64()) if pa.types.is_timestamp(c.type) else c).to_pylist() for c in columns]


def _cast(values: Any, dtype: pa.DataType) -> Any:
    """Numbers in the column's own width, which pyarrow then takes without a copy."""
    if isinstance(values, np.ndarray) and values.dtype.kind in "fiu" and not pa.types.is_timestamp(dtype):
        return np.ascontiguousarray(values, dtype.to_pandas_dtype())
    return values
