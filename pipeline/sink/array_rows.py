"""Messages as ClickHouse stores them: devices of one moment are a row, a metric is an array over them.

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
from pipeline.sink.stored_message import StoredMessage, origin
from pipeline.store.quantize import multiples
from pipeline.store.tables import IDENTITIES, Table
from schemas.arrays import Floats, Ints
from schemas.frame import Frame
from schemas.identity import IDENTITY
from schemas.stack import Stack
from schemas.validation import Counts, mask_invalid, mask_invalid_values

_STAMP = pa.timestamp("ms", "UTC")
_TEXT = pa.dictionary(pa.int32(), pa.string())


class _Moment(NamedTuple):
    """A piece, or that part of it that is of one moment; `frame` is set when its layout is known, else `batch`."""

    piece: StoredMessage
    place: RowGroups
    ts_ms: int
    frame: Frame | None = None
    batch: pa.RecordBatch | None = None


def block(
    table: Table, pieces: Sequence[StoredMessage], log_id: str, identities: DeviceSets, missing: Counts | None = None
) -> pa.Table:
    """The pieces as one table of frames with their origin; impossible values are made missing (NaN) and counted; an
    array that no device has
    is empty. Frames of one layout are stacked."""
    counts: Counts = Counter() if missing is None else missing
    groups: dict[object, list[_Moment]] = {}
    for piece in pieces:
        for moment in _moments(piece, identities, counts):
            key: Any = (
                moment.frame.layout
                if moment.frame is not None
                else moment.batch.schema
                if moment.batch is not None
                else None
            )
            groups.setdefault(key, []).append(moment)
    tables = [_grouped(table, found, log_id, counts) for found in groups.values()]
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


def _moments(piece: StoredMessage, identities: DeviceSets, counts: Counts) -> Iterator[_Moment]:
    content = piece.content
    if isinstance(content, Frame):
        first, last = content.span()
        if content.layout is not None and first == last:
            yield _Moment(piece, identities.of_frame(content), first, frame=content)
            return
        batch = mask_invalid(content, counts).batch
    else:
        batch = content
    for ts_ms, part in _by_moment(batch):
        columns = {n: part.column(part.schema.get_field_index(n)) for n in IDENTITY}
        yield _Moment(piece, identities.of_columns(columns, isinstance(content, Frame)), ts_ms, batch=part)


def _by_moment(batch: pa.RecordBatch) -> Iterator[tuple[int, pa.RecordBatch]]:
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


def _grouped(table: Table, moments: list[_Moment], log_id: str, counts: Counts) -> pa.Table:
    """In the table's order, so that ClickHouse has nothing to sort."""
    moments.sort(key=lambda m: (m.place.runs[0].site, m.place.runs[0].rack, m.ts_ms, m.place.runs[0].who))
    runs = [run for m in moments for run in m.place.runs]
    each = [len(m.place.runs) for m in moments]
    sizes = np.array([run.rows for run in runs], np.int64)
    offsets = pa.array(np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32))
    order = _order(moments)
    columns: dict[str, pa.Array] = {
        "ts": pa.array(np.repeat(np.array([m.ts_ms for m in moments], np.int64), each), _STAMP)
    }
    for name in ("kind", "window_s"):
        if name in table.inserted:
            columns[name] = pa.array(
                [
                    m.batch.column(m.batch.schema.get_field_index(name))[0].as_py()
                    for m in moments
                    if m.batch is not None
                    for _ in m.place.runs
                ]
            )
    columns |= {"site": pa.array([run.site for run in runs], _TEXT)} | (
        {"rack": pa.array([run.rack for run in runs], _TEXT)} if table.by_rack else {}
    )
    columns |= {
        "who": pa.array(np.array([run.who for run in runs], np.uint64)),
        "rows": pa.array(sizes.astype(np.uint32)),
    }
    for name, values in _values(table, moments, counts):
        whole = multiples(values, table.resolutions[name]) if name in table.resolutions else None
        column, found = (name, values) if whole is None else (f"{name}_n", whole)
        columns[column] = pa.ListArray.from_arrays(offsets, pa.array(found if order is None else found[order]))
    return pa.table(columns | origin([m.piece for m in moments], each, log_id))


def _values(table: Table, moments: Sequence[_Moment], counts: Counts) -> Iterator[tuple[str, Floats]]:
    """Each array's values, of all moments one after the other."""
    frames = [m.frame for m in moments if m.frame is not None]
    if frames:
        stack = Stack(frames)
        for name in stack.names:
            if name in table.arrays:
                yield name, mask_invalid_values(frames[0].catalogue[name], stack.column(name), counts)
        return
    batches = [m.batch for m in moments if m.batch is not None]
    for name in batches[0].schema.names:
        if name in table.arrays:
            yield name, np.concatenate([np.asarray(b.column(b.schema.get_field_index(name))) for b in batches])


def _order(moments: Sequence[_Moment]) -> Ints | None:
    """How the rows of all moments must be taken; None when they lie as they should."""
    if all(m.place.order is None for m in moments):
        return None
    out, at = [], 0
    for m in moments:
        rows = sum(run.rows for run in m.place.runs)
        out.append(at + (np.arange(rows) if m.place.order is None else m.place.order))
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
