"""ClickHouse's Native format as newer clients want it: the embedded engine writes revision 0, which has no block info
and no serialization marks.

clickhouse-go (Grafana's plugin) asks for a revision in `client_protocol_version` and reads nothing else. Values are the
same; what goes in between is known once it is known where each column ends, so every type is walked over.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from schemas.errors import GigawatchError

#: The first revision with a mark before each column, DBMS_MIN_REVISION_WITH_CUSTOM_SERIALIZATION of ClickHouse's
#: ProtocolDefines.h.
MARKED = 54454
_HAS_KEYS = 1 << 9
#: Block info: field 1 is_overflows = 0, field 2 bucket_num = -1, end.
_INFO = b"\x01\x00\x02\xff\xff\xff\xff\x00"
_WIDTHS = {
    "UInt8": 1,
    "Int8": 1,
    "Bool": 1,
    "Enum8": 1,
    "Nothing": 1,
    "UInt16": 2,
    "Int16": 2,
    "Date": 2,
    "Enum16": 2,
    "BFloat16": 2,
    "UInt32": 4,
    "Int32": 4,
    "Float32": 4,
    "Date32": 4,
    "DateTime": 4,
    "IPv4": 4,
    "Decimal32": 4,
    "Time": 4,
    "UInt64": 8,
    "Int64": 8,
    "Float64": 8,
    "DateTime64": 8,
    "Decimal64": 8,
    "Time64": 8,
    "UUID": 16,
    "IPv6": 16,
    "UInt128": 16,
    "Int128": 16,
    "Decimal128": 16,
    "UInt256": 32,
    "Int256": 32,
    "Decimal256": 32,
}


class NativeError(GigawatchError, ValueError):
    """A type that is not known here, or data that end early."""


def revised(data: bytes, revision: int) -> bytes:
    """The blocks with block info and, from MARKED on, a mark before each column; raises NativeError."""
    out, at, mark = bytearray(), 0, b"\x00" if revision >= MARKED else b""
    while at < len(data):
        begin = at
        columns, at = _number(data, at)
        rows, at = _number(data, at)
        out += _INFO + data[begin:at]
        for _ in range(columns):
            begin = at
            _, at = _text(data, at)
            kind, at = _text(data, at)
            out += data[begin:at] + mark
            versions = (
                8 * kind.count("LowCardinality(") if rows else 0
            )  # each dictionary's version comes before all else
            begin, at = at, _over(data, at + versions, kind, rows)
            out += data[begin:at]
    return bytes(out)


def _number(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data):
            raise NativeError("the data end in a number")
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _text(data: bytes, at: int) -> tuple[str, int]:
    length, at = _number(data, at)
    return data[at : at + length].decode("utf-8", "replace"), at + length


def _over(data: bytes, at: int, kind: str, rows: int) -> int:
    """Where a column of `rows` values of a type ends."""
    name, _, rest = kind.partition("(")
    inner = rest.removesuffix(")")
    width = (
        8
        if name.startswith("Interval")
        else _decimal(inner)
        if name == "Decimal"
        else int(inner)
        if name == "FixedString"
        else _WIDTHS.get(name)
    )
    if width is not None:
        end = at + width * rows
    elif name == "String":
        end = at
        for _ in range(rows):
            length, end = _number(data, end)
            end += length
    elif name in _NESTED:
        end = _NESTED[name](data, at, inner, rows)
    else:
        raise NativeError(f"the type {kind} is not known to the embedded ClickHouse's Native format for this client")
    if end > len(data):
        raise NativeError(f"the data end within a {kind}")
    return end


def _decimal(inner: str) -> int:
    digits = int(inner.split(",", maxsplit=1)[0])
    return next(width for most, width in ((9, 4), (18, 8), (38, 16), (76, 32)) if digits <= most)


def _array(data: bytes, at: int, inner: str, rows: int) -> int:
    ends = at + 8 * rows
    if ends > len(data):
        raise NativeError("the data end within an array")
    return _over(data, ends, inner, int.from_bytes(data[ends - 8 : ends], "little") if rows else 0)


def _tuple(data: bytes, at: int, inner: str, rows: int) -> int:
    for part in _parts(inner):
        at = _over(data, at, re.sub(r"^(?:\w+|`(?:[^`\\]|\\.)*`) (?=\w)", "", part), rows)  # an element may have a name
    return at


def _dictionary(data: bytes, at: int, inner: str, rows: int) -> int:
    """Flags (with the width of an index), keys, indexes."""
    if not rows:
        return at
    flags, at = int.from_bytes(data[at : at + 8], "little"), at + 8
    if flags & _HAS_KEYS:
        keys, at = int.from_bytes(data[at : at + 8], "little"), at + 8
        at = _over(
            data,
            at,
            inner.removeprefix("Nullable(").removesuffix(")") if inner.startswith("Nullable(") else inner,
            keys,
        )
    return at + 8 + int.from_bytes(data[at : at + 8], "little") * (1 << (flags & 0xFF))


def _parts(inner: str) -> list[str]:
    """What stands between the commas of the outermost level."""
    out, depth, quoted, begin = [], 0, False, 0
    for k, char in enumerate(inner):
        quoted ^= char == "'" and inner[k - 1 : k] != "\\"
        depth += 0 if quoted else (char == "(") - (char == ")")
        if char == "," and not depth and not quoted:
            out.append(inner[begin:k].strip())
            begin = k + 1
    return [*out, inner[begin:].strip()] if inner.strip() else []


_NESTED: dict[str, Callable[[bytes, int, str, int], int]] = {
    "Nullable": lambda data, at, inner, rows: _over(data, at + rows, inner, rows),
    "Array": _array,
    "LowCardinality": _dictionary,
    "Tuple": _tuple,
    "Map": lambda data, at, inner, rows: _array(data, at, f"Tuple({inner})", rows),
    "SimpleAggregateFunction": lambda data, at, inner, rows: _over(data, at, _parts(inner)[-1], rows),
}
