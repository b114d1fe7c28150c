"""Derived messages of wire version 2, which named a device's job in place of its board."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pyarrow as pa

from schemas.codec import InvalidFrame
from schemas.derived_stream import Derived

#: Makes today's columns of a batch of version 2; raises InvalidFrame.
Upgrade = Callable[[pa.RecordBatch], pa.RecordBatch]


def upgrade(stream: Derived, wire: pa.Schema) -> Upgrade | None:
    """Returns the upgrade of a stream's messages with these columns; None when version 2 had no such columns."""
    if "job" not in wire.names or "board" in wire.names or "board" not in stream.names:
        return None
    now = stream.schema_of(wire.names)
    kept = {field.name: field for field in wire if field.name != "job" or "job" in stream.names}
    if set(now.names) != {*kept, "board"} or any(not kept[f.name].equals(f) for f in now if f.name != "board"):
        return None
    return partial(_with_board, now)


def _with_board(now: pa.Schema, batch: pa.RecordBatch) -> pa.RecordBatch:
    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    columns["board"] = pa.array([""] * batch.num_rows, pa.string())
    try:
        return pa.RecordBatch.from_arrays([columns[field.name] for field in now], schema=now)
    except pa.ArrowException as err:
        raise InvalidFrame("schema", str(err)[:200]) from err
