"""Messages as ClickHouse stores them: the devices of one time stamp are a row, a metric is an array over them.

No device is touched in Python.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.sink.device_sets import DeviceSets, RowGroups
from pipeline.sink.stored_message import StoredMessage, provenance
from pipeline.store.quantize import multiples
from pipeline.store.table import Table
from pipeline.store.tables import IDENTITIES
from schemas.arrays import Floats, Ints
from schemas.frame import Frame
from schemas.identity import IDENTITY
from schemas.stack import Stack
from schemas.validation import Counts, mask_invalid, mask_invalid_values

_STAMP = pa.timestamp("ms", "UTC")
_TEXT = pa.dictionary(pa.int32(), pa.string())


class _TimestampGroup(NamedTuple):
    """The rows of a message with one time stamp; `frame` is set when its layout is known, else `batch`."""

    message: StoredMessage
    row_groups: RowGroups
    ts_ms: int
    frame: Frame | None = None
    batch: pa.RecordBatch | None = None


def frame_table(
    table: Table, messages: Sequence[StoredMessage], log_id: str, device_sets: DeviceSets, missing: Counts | None = None
) -> pa.Table:
    """Returns the messages as one table of frames with their provenance.

    Impossible values become missing (NaN) and are counted; an array that no device has is empty. Frames of one layout
    are stacked.
    """
    counts: Counts = Counter() if missing is None else missing
    by_form: dict[object, list[_TimestampGroup]] = {}
    for message in messages:
        for group in _timestamp_groups(message, device_sets, counts):
            key: Any = (
                group.frame.layout
                if group.frame is not None
                else group.batch.schema
                if group.batch is not None
                else None
            )
            by_form.setdefault(key, []).append(group)
    tables = [_grouped(table, found, log_id, counts) for found in by_form.values()]
    names = [n for n in tables[0].column_names if all(n in t.column_names for t in tables)]
    names += [n for n in table.inserted if n not in names and any(n in t.column_names for t in tables)]
    return (
        pa.concat_tables([_with(t, names, tables) for t in tables]).unify_dictionaries()
        if len(tables) > 1
        else tables[0]
    )


def identities_table(rows: Mapping[int, Mapping[str, Any]]) -> pa.Table:
    """Rows for the identities table."""
    kinds = {"who": pa.uint64(), "site": pa.string()}
    return pa.table(
        {
            name: pa.array([row[name] for row in rows.values()], kinds.get(name, pa.list_(pa.string())))
            for name in (c.name for c in IDENTITIES.columns)
        }
    )


def _timestamp_groups(message: StoredMessage, device_sets: DeviceSets, counts: Counts) -> Iterator[_TimestampGroup]:
    content = message.content
    if isinstance(content, Frame):
        first, last = content.span()
        if content.layout is not None and first == last:
            yield _TimestampGroup(message, device_sets.of_frame(content), first, frame=content)
            return
        batch = mask_invalid(content, counts).batch
    else:
        batch = content
    for ts_ms, part in _by_timestamp(batch):
        columns = {n: part.column(part.schema.get_field_index(n)) for n in IDENTITY}
        yield _TimestampGroup(message, device_sets.of_columns(columns, isinstance(content, Frame)), ts_ms, batch=part)


def _by_timestamp(batch: pa.RecordBatch) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Rows that share time stamp, kind and width of window."""
    stamps = np.asarray(batch.column(batch.schema.get_field_index("ts")).cast(pa.int64()))
    times = np.unique(stamps)
    for ts in times.tolist():
        parts = [batch if len(times) == 1 else batch.filter(pa.array(stamps == ts))]
        for name in ("kind", "window_s"):
            at = batch.schema.get_field_index(name)
            if at >= 0:
                parts = [
                    p if len(values) == 1 else p.filter(pc.equal(p.column(at), value))
                    for p in parts
                    for values in [pc.unique(p.column(at))]
                    for value in values
                ]
        for part in parts:
            yield ts, part


def _grouped(table: Table, groups: list[_TimestampGroup], log_id: str, counts: Counts) -> pa.Table:
    """In the table's order, so that ClickHouse has nothing to sort."""
    groups.sort(key=_table_order)
    row_groups = [row_group for group in groups for row_group in group.row_groups.groups]
    each = [len(group.row_groups.groups) for group in groups]
    sizes = np.array([row_group.rows for row_group in row_groups], np.int64)
    offsets = pa.array(np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32))
    order = _order(groups)
    columns: dict[str, pa.Array] = {
        "ts": pa.array(np.repeat(np.array([group.ts_ms for group in groups], np.int64), each), _STAMP)
    }
    for name in ("kind", "window_s"):
        if name in table.inserted:
            columns[name] = pa.array(
                [
                    group.batch.column(group.batch.schema.get_field_index(name))[0].as_py()
                    for group in groups
                    if group.batch is not None
                    for _ in group.row_groups.groups
                ]
            )
    columns |= {"site": pa.array([row_group.site for row_group in row_groups], _TEXT)} | (
        {"rack": pa.array([row_group.rack for row_group in row_groups], _TEXT)} if table.by_rack else {}
    )
    columns |= {
        "who": pa.array(np.array([row_group.who for row_group in row_groups], np.uint64)),
        "rows": pa.array(sizes.astype(np.uint32)),
    }
    for name, values in _values(table, groups, counts):
        whole = multiples(values, table.resolutions[name]) if name in table.resolutions else None
        column, found = (name, values) if whole is None else (f"{name}_n", whole)
        columns[column] = pa.ListArray.from_arrays(offsets, pa.array(found if order is None else found[order]))
    return pa.table(columns | provenance([group.message for group in groups], each, log_id))


def _table_order(group: _TimestampGroup) -> tuple[str, str, int, int]:
    first = group.row_groups.groups[0]
    return first.site, first.rack, group.ts_ms, first.who


def _values(table: Table, groups: Sequence[_TimestampGroup], counts: Counts) -> Iterator[tuple[str, Floats]]:
    """Each array's values, of all groups one after the other."""
    frames = [group.frame for group in groups if group.frame is not None]
    if frames:
        stack = Stack(frames)
        for name in stack.names:
            if name in table.arrays:
                yield name, mask_invalid_values(frames[0].catalogue[name], stack.column(name), counts)
        return
    batches = [group.batch for group in groups if group.batch is not None]
    for name in batches[0].schema.names:
        if name in table.arrays:
            yield name, np.concatenate([np.asarray(b.column(b.schema.get_field_index(name))) for b in batches])


def _order(groups: Sequence[_TimestampGroup]) -> Ints | None:
    """The order in which the rows of all groups are stored; None when they lie in it."""
    if all(group.row_groups.order is None for group in groups):
        return None
    out, at = [], 0
    for group in groups:
        rows = sum(row_group.rows for row_group in group.row_groups.groups)
        out.append(at + (np.arange(rows) if group.row_groups.order is None else group.row_groups.order))
        at += rows
    return np.concatenate(out)


def _with(table: pa.Table, names: Sequence[str], like: Sequence[pa.Table]) -> pa.Table:
    """The table with all these columns: arrays that it lacks are empty."""
    columns = []
    for name in names:
        if name in table.column_names:
            columns.append(table[name])
        else:
            kind = next(t.schema.field(name).type for t in like if name in t.column_names)
            columns.append(
                pa.chunked_array(
                    [
                        pa.ListArray.from_arrays(
                            pa.array(np.zeros(table.num_rows + 1, np.int32)), pa.array([], kind.value_type)
                        )
                    ]
                )
            )
    return pa.table(columns, names=list(names))
