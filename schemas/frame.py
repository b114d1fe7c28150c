"""A frame: all devices of one kind at one place at one tick, as columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from schemas.arrays import Floats, Ints
from schemas.catalogue import KINDS
from schemas.identity import IDENTITY, VERSION
from schemas.layout import Layout
from schemas.metric import Catalogue


class Frame:
    """`batch` has `ts` (ms since 1970, UTC), the IDENTITY columns as strings, then metrics as floats, NaN for missing.

    A frame that came over the wire in a known layout keeps its bytes (`wire`, `layout`, `block`: the identity columns'
    bytes) and parses them only when someone asks for the batch. `jobs`: each row's job, of a frame of wire version 2,
    which carried it; else None.
    """

    __slots__ = ("_batch", "_span", "block", "jobs", "kind", "layout", "wire")

    def __init__(
        self,
        kind: str,
        batch: pa.RecordBatch | None,
        layout: Layout | None = None,
        wire: bytes = b"",
        block: bytes = b"",
    ) -> None:
        self.kind, self._batch, self.layout, self.wire, self.block = kind, batch, layout, wire, block
        self._span: tuple[int, int] | None = None
        self.jobs: pa.Array | None = None

    @property
    def batch(self) -> pa.RecordBatch:
        if self._batch is None:
            assert self.layout is not None
            self._batch = pa.ipc.read_record_batch(
                pa.py_buffer(memoryview(self.wire)[self.layout.body :]), self.layout.schema
            )
        return self._batch

    @property
    def rows(self) -> int:
        return self.layout.rows if self.layout is not None else int(self.batch.num_rows)

    @property
    def metrics(self) -> int:
        """How many metrics it carries."""
        return len(self.layout.metrics) if self.layout is not None else int(self.batch.num_columns) - 1 - len(IDENTITY)

    def span(self) -> tuple[int, int]:
        """(earliest, latest) time stamp, ms."""
        if self._span is None:
            self._span = self._look()
        return self._span

    def _look(self) -> tuple[int, int]:
        layout, wire = self.layout, self.wire
        if layout is not None:
            at, end = layout.ts, layout.ts + 8 * layout.rows
            if wire[at : end - 8] == wire[at + 8 : end]:
                stamp = int.from_bytes(wire[at : at + 8], "little", signed=True)
                return stamp, stamp
        stamps = self.ts_ms()
        return int(stamps.min()), int(stamps.max())

    @property
    def catalogue(self) -> Catalogue:
        return KINDS[self.kind]

    def ts_ms(self) -> Ints:
        """int64[rows], ms since 1970."""
        if self.layout is not None:
            return np.frombuffer(self.wire, np.int64, self.layout.rows, self.layout.ts)
        return np.asarray(self.batch.column("ts").cast(pa.int64()))

    def values(self, name: str) -> Floats:
        """One metric, float[rows], NaN where missing; all NaN when the frame does not carry it."""
        index = self.batch.schema.get_field_index(name)
        if index < 0:
            return np.full(self.rows, np.nan, np.float32)
        return np.asarray(self.batch.column(index))

    def identity(self, name: str) -> list[str]:
        found: list[str] = self.batch.column(self.batch.schema.get_field_index(name)).to_pylist()
        return found

    def key(self) -> bytes:
        """The place, which is the Kafka key: rows of one rack stay in order and on one worker."""
        site, rack, device = (self.batch.column(name)[0].as_py() for name in ("site", "rack", "device"))
        return f"{site}/{rack or device}".encode()


def schema(kind: str, names: Sequence[str] | None = None) -> pa.Schema:
    """The Arrow schema of one kind, with all its stored metrics or the named ones (kept in catalogue order)."""
    metrics = [m for m in KINDS[kind].stored if names is None or m.name in names]
    fields = [pa.field("ts", pa.timestamp("ms", "UTC"), nullable=False)]
    fields += [pa.field(name, pa.string(), nullable=False) for name in IDENTITY]
    fields += [pa.field(m.name, getattr(pa, m.dtype)(), nullable=False) for m in metrics]
    return pa.schema(fields, {b"gigawatch": f"{VERSION}/{kind}".encode()})


def build(
    kind: str,
    ts_ms: int | Ints,
    identity: Mapping[str, Sequence[str] | pa.Array],
    values: Mapping[str, Floats | Sequence[float]],
) -> Frame:
    """Builds a frame from columns.

    `ts_ms` is one tick or one per row; missing values are NaN; unknown metrics are refused.
    """
    unknown = set(values) - set(KINDS[kind].names)
    if unknown:
        raise KeyError(f"not in the {kind} catalogue: {', '.join(sorted(unknown))}")
    wire = schema(kind, list(values))
    rows = len(identity["device"])
    stamps = np.full(rows, ts_ms, np.int64) if np.isscalar(ts_ms) else np.asarray(ts_ms, np.int64)
    columns: list[pa.Array] = [pa.array(stamps).cast(wire.field("ts").type)]
    for name in IDENTITY:
        column = identity.get(name)
        if column is None:
            column = [""] * rows
        columns.append(column if isinstance(column, pa.Array) else pa.array(column, pa.string()))
    for field in list(wire)[1 + len(IDENTITY) :]:
        columns += [pa.array(np.asarray(values[field.name], field.type.to_pandas_dtype()))]
    return Frame(kind, pa.RecordBatch.from_arrays(columns, schema=wire))


def concat(frames: Sequence[Frame]) -> Frame:
    """Frames of one kind as one, rows in the order given; metrics that a frame does not carry are missing in its
    rows.
    """
    if len(frames) == 1:
        return frames[0]
    kind = frames[0].kind
    if len({f.batch.schema for f in frames}) == 1:
        return Frame(kind, pa.concat_batches([f.batch for f in frames]))
    names = [m.name for m in KINDS[kind].stored if any(m.name in f.batch.schema.names for f in frames)]
    identity = {
        n: pa.concat_arrays([f.batch.column(f.batch.schema.get_field_index(n)) for f in frames]) for n in IDENTITY
    }
    return build(
        kind,
        np.concatenate([f.ts_ms() for f in frames]),
        identity,
        {n: np.concatenate([f.values(n) for f in frames]) for n in names},
    )
