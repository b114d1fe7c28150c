"""Frames on the wire: an Arrow IPC stream of one record batch. Schemas are parsed once and cached by their bytes."""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache

import pyarrow as pa

from schemas.catalogue import KINDS
from schemas.errors import GigawatchError, first_line
from schemas.frame import Frame, schema
from schemas.identity import VERSION
from schemas.layout import Layout

MAX_BYTES = 64 << 20
MAX_ROWS = 1 << 20
_EOS = b"\xff\xff\xff\xff\x00\x00\x00\x00"
_PREFIX = struct.Struct("<Ii")
_CACHE_SIZE = 4096
_MAX_BLOCK_BYTES = 256 << 20
#: What pyarrow raises for bytes that are no Arrow (found by tests/fuzz.py).
_UNREADABLE = (pa.ArrowException, OSError, EOFError, ValueError, LookupError, TypeError, MemoryError)
_HINT = 24  # enough of the first device's name to distinguish places; a clash costs a parse, nothing more


class InvalidFrame(GigawatchError, ValueError):
    """Bytes that are no frame of ours. `reason` is one of a few words for counters, `detail` is what was found."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@lru_cache(maxsize=_CACHE_SIZE)
def _schema_bytes(schema: pa.Schema) -> bytes:
    return bytes(schema.serialize())


def encode_batch(batch: pa.RecordBatch) -> bytes:
    """One record batch as a whole Arrow IPC stream; the schema's bytes are made once per schema."""
    return b"".join((_schema_bytes(batch.schema), batch.serialize(), _EOS))


def encode(frame: Frame) -> bytes:
    return frame.wire or encode_batch(frame.batch)


class _Known:
    """A layout and the identity blocks seen in it, by the bytes around the first device's name."""

    __slots__ = ("blocks", "layout")

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.blocks: dict[bytes, bytes] = {}


class Decoder:
    """Bytes to frames. One per consumer: it remembers the schemas and layouts it has met (least recently used out).

    A message in a known layout, from devices whose identity columns it has seen, is not parsed: its prefix and its
    identity are compared as bytes, and its length checked. Everything else is parsed and validated in full.
    """

    def __init__(self) -> None:
        self._schemas: OrderedDict[bytes, tuple[pa.Schema, str, Callable[[pa.RecordBatch], Frame] | None]] = (
            OrderedDict()
        )
        self._layouts: OrderedDict[bytes, _Known] = OrderedDict()
        self._recent: _Known | None = None
        self._block_bytes = 0

    def decode(self, data: bytes, expect: str | None = None) -> Frame:
        """Raises InvalidFrame with reason `size`, `not-arrow`, `version`, `kind`, `schema`, `truncated` or
        `corrupt`.
        """
        known = self._recent
        if known is None or len(data) != known.layout.length or not data.startswith(known.layout.prefix):
            known = self._find(data)
        if known is not None:
            layout = known.layout
            begin, end = layout.identity
            block = known.blocks.get(data[layout.hint : layout.hint + _HINT])
            if block is not None and data[begin:end] == block and (expect is None or expect == layout.kind):
                self._recent = known
                return Frame(layout.kind, None, layout, data, block)
        return self._parse(data, expect, known)

    def _find(self, data: bytes) -> _Known | None:
        head = _PREFIX.unpack_from(data)[1] + 8 if len(data) >= 8 else 0
        if not 8 < head <= len(data) - 8:
            return None
        known = self._layouts.get(data[: head + 8 + _PREFIX.unpack_from(data, head)[1]])
        return known if known is not None and known.layout.length == len(data) else None

    def _parse(self, data: bytes, expect: str | None, known: _Known | None) -> Frame:
        head_end = _head_length(data)
        head = data[:head_end]
        found = self._schemas.get(head)
        if found is None:
            found = _read_schema(head)
            self._schemas[head] = found
            if len(self._schemas) > _CACHE_SIZE:
                self._schemas.popitem(last=False)
        wire, kind, upgrade = found
        if expect is not None and kind != expect:
            raise InvalidFrame("kind", f"a {kind} frame where {expect} was expected")
        batch = read_batch(data, head_end, wire)
        if upgrade is not None:
            return upgrade(batch)
        if known is None:
            layout = Layout.of(kind, data, head_end, batch, wire)
            if layout is None:
                return Frame(kind, batch)
            known = self._layouts[layout.prefix] = _Known(layout)
            if len(self._layouts) > _CACHE_SIZE:
                self._layouts.popitem(last=False)
        self._recent, layout = known, known.layout
        block = data[layout.identity[0] : layout.identity[1]]
        self._block_bytes += len(block)
        if self._block_bytes > _MAX_BLOCK_BYTES:
            self._block_bytes = len(block)
            for other in self._layouts.values():
                other.blocks.clear()
        known.blocks[data[layout.hint : layout.hint + _HINT]] = block
        return Frame(kind, batch, layout, data, block)


def read_batch(data: bytes, start: int, wire: pa.Schema) -> pa.RecordBatch:
    """The record batch that begins at byte `start`; checks its structure before anyone touches a value."""
    if len(data) - start < 16:
        raise InvalidFrame("truncated", "no record batch after the schema")
    try:
        batch = pa.ipc.read_record_batch(pa.py_buffer(memoryview(data)[start:]), wire)
        if batch.num_rows > MAX_ROWS:
            raise InvalidFrame("size", f"{batch.num_rows} rows, at most {MAX_ROWS}")
        batch.validate(full=True)
    except InvalidFrame:
        raise
    except _UNREADABLE as err:
        raise InvalidFrame("corrupt", first_line(err, 200)) from err
    if batch.num_rows == 0:
        raise InvalidFrame("empty", "a frame without rows")
    for index in range(batch.num_columns):
        if batch.column(index).null_count:
            raise InvalidFrame("schema", f"column {wire.field(index).name} has nulls; missing is NaN")
    return batch


def _head_length(data: bytes) -> int:
    if len(data) > MAX_BYTES:
        raise InvalidFrame("size", f"{len(data)} bytes, at most {MAX_BYTES}")
    if len(data) < 8:
        raise InvalidFrame("not-arrow", f"{len(data)} bytes")
    mark, length = _PREFIX.unpack_from(data)
    if mark != 0xFFFFFFFF or not 0 < length <= len(data) - 8:
        raise InvalidFrame("not-arrow", f"begins with {data[:8].hex(' ')}")
    return 8 + int(length)


def read_schema(head: bytes) -> pa.Schema:
    """The schema of an Arrow IPC schema message, its names checked to be text; raises InvalidFrame."""
    try:
        wire = pa.ipc.read_schema(pa.py_buffer(head))
        _ = wire.names
        return wire
    except _UNREADABLE as err:
        raise InvalidFrame("not-arrow", first_line(err, 200)) from err


def _read_schema(head: bytes) -> tuple[pa.Schema, str, Callable[[pa.RecordBatch], Frame] | None]:
    wire = read_schema(head)
    mark = (wire.metadata or {}).get(b"gigawatch")
    if mark is None:
        raise InvalidFrame("schema", "Arrow, but without the gigawatch mark in its metadata")
    number, _, kind = mark.decode("utf-8", "replace").partition("/")
    if kind not in KINDS:
        raise InvalidFrame("kind", f"kind {kind!r}, known: {', '.join(KINDS)}")
    if number == str(VERSION):
        _check(wire, kind)
        return wire, kind, None
    if number in _OLDER:
        return wire, kind, _from_older(wire, kind, number)
    raise InvalidFrame("version", f"version {number!r}; this program reads {', '.join(_OLDER)} and {VERSION}")


def _check(wire: pa.Schema, kind: str) -> None:
    """The columns must be ours, in our order and types; metrics may be missing, never unknown or doubled."""
    names = wire.names
    unknown = set(names) - set(schema(kind).names)
    if unknown:
        raise InvalidFrame("schema", f"unknown columns {', '.join(sorted(unknown))}")
    want = schema(kind, names)
    if not wire.equals(want, check_metadata=False):
        for field, wanted in zip(wire, want, strict=False):
            if not field.equals(wanted):
                raise InvalidFrame("schema", f"column {field.name} {field.type}, wanted {wanted.name} {wanted.type}")
        raise InvalidFrame("schema", f"{len(names)} columns, wanted {len(want.names)}")


#: Versions 1 and 2 had no `board`; version 2 carried the `job` of each device, which is an allocation now. Version 1
#: named the node `hostname` and stamped rows with plain int64 milliseconds.
_OLDER = {"1": {"hostname": "node"}, "2": {}}


def _from_older(wire: pa.Schema, kind: str, number: str) -> Callable[[pa.RecordBatch], Frame]:
    """Returns what makes a frame of a batch of version 1 or 2; raises InvalidFrame for columns that it cannot have."""
    now = schema(kind, [n for n in wire.names if n in KINDS[kind].names])
    renamed = [_OLDER[number].get(n, n) for n in wire.names]
    missing, unknown = set(now.names) - set(renamed) - {"board"}, set(renamed) - set(now.names) - {"job"}
    if missing or unknown or "board" in renamed:
        raise InvalidFrame("schema", f"version {number} without {', '.join(sorted(missing)) or 'known columns only'}")
    for field, name in zip(wire, renamed, strict=True):
        if number != "1" and name != "job" and not field.equals(now.field(name)):
            raise InvalidFrame("schema", f"column {name} {field.type}, wanted {now.field(name).type}")

    def upgrade(batch: pa.RecordBatch) -> Frame:
        columns = dict(zip(renamed, batch.columns, strict=True))
        jobs = columns.pop("job", None)
        columns["board"] = pa.array([""] * batch.num_rows, pa.string())
        try:
            arrays = [columns[field.name].cast(field.type) for field in now]
            held = None if jobs is None else jobs.cast(pa.string())
        except _UNREADABLE as err:
            raise InvalidFrame("schema", str(err)[:200]) from err
        frame = Frame(kind, pa.RecordBatch.from_arrays(arrays, schema=now))
        frame.jobs = held
        return frame

    return upgrade
