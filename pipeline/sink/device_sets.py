"""Sets of devices that are stored together: each has an id, the column `who`, that names exactly its devices.

A message whose identity columns were met before is compared as bytes, not read.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.store.table import NAMED
from schemas.arrays import Ints
from schemas.frame import Frame
from schemas.identity import IDENTITY

_MOST_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class RowGroup:
    """Rows that are stored together, of the device set `who`; `rack` is empty where they are of several."""

    site: str
    rack: str
    who: int
    rows: int


@dataclass(frozen=True, slots=True)
class RowGroups:
    """The row groups of a message; `order` sorts its rows by group, None when they lie so."""

    groups: tuple[RowGroup, ...]
    order: Ints | None


#: Racks of derived messages that are stored together fall into so many groups, by their names, so that the publisher
#: and the order do not matter.
_GROUPS = 16


class DeviceSets:
    """The device sets of one table. `new` collects rows for the identities table until `mark_stored` names them."""

    def __init__(self, by_rack: bool) -> None:
        self._by_rack = by_rack
        self._blocks: dict[tuple[int, bytes], RowGroups] = {}
        self._columns: dict[tuple[int, Any, Any], tuple[list[pa.Buffer | None], RowGroups]] = {}
        self._bytes = 0
        self._stored_ids: set[int] = set()
        self.new: dict[int, dict[str, Any]] = {}

    def of_frame(self, frame: Frame) -> RowGroups:
        """The row groups of a frame with one time stamp."""
        if frame.layout is None:
            return self.of_columns({name: frame.batch.column(name) for name in IDENTITY}, whole=True)
        key = frame.rows, frame.block
        found = self._blocks.get(key)
        if found is None:
            self._make_room(len(frame.block))
            found = self._blocks[key] = self._learn({name: frame.batch.column(name) for name in IDENTITY}, whole=True)
        return found

    def of_columns(self, columns: Mapping[str, pa.Array], whole: bool = False) -> RowGroups:
        """The row groups of rows with these identity columns; `whole` when a message is stored as one."""
        device = columns["device"]
        key = len(device), device[0].as_py(), device[-1].as_py()
        buffers = [b for name in IDENTITY for b in columns[name].buffers()[1:]]
        plain = all(columns[name].offset == 0 for name in IDENTITY)
        found = self._columns.get(key)
        if found is not None and plain and all(_same(a, b) for a, b in zip(found[0], buffers, strict=True)):
            return found[1]
        row_groups = self._learn(columns, whole)
        if plain:
            self._make_room(sum(b.size for b in buffers if b is not None))
            self._columns[key] = [None if b is None else pa.py_buffer(b.to_pybytes()) for b in buffers], row_groups
        return row_groups

    def mark_stored(self, rows: Mapping[int, Any]) -> None:
        """These rows of the identities table are stored."""
        self._stored_ids |= rows.keys()
        self.new = {who: row for who, row in self.new.items() if who not in rows}

    def _make_room(self, size: int) -> None:
        self._bytes += size
        if self._bytes > _MOST_BYTES:
            self._bytes = size
            self._blocks.clear()
            self._columns.clear()

    def _learn(self, columns: Mapping[str, pa.Array], whole: bool = False) -> RowGroups:
        """Groups rows by rack, or by what of a message shares a group (`whole`: all of it); within one, rows are sorted
        by name and board, so that the same devices have the same id in every message.
        """
        lists = {name: columns[name].to_pylist() for name in IDENTITY}
        device, racks, board = lists["device"], lists["rack"], lists["board"]
        keys = {
            rack: rack if self._by_rack else "" if whole else zlib.crc32(rack.encode()) % _GROUPS for rack in set(racks)
        }
        together: dict[tuple[str, object], list[int]] = {}
        for row, (site, rack) in enumerate(zip(lists["site"], racks, strict=True)):
            together.setdefault((site, keys[rack]), []).append(row)
        groups, order = [], list[int]()
        for (site, _), rows in sorted(together.items(), key=lambda item: str(item[0])):
            rows.sort(key=lambda row: (racks[row], device[row], board[row]))
            named = {name: [lists[name][row] for row in rows] for name in ("rack", *NAMED)}
            who = _number(site, named)
            if who not in self._stored_ids:
                self.new[who] = {"who": who, "site": site, **named}
            groups.append(RowGroup(site, racks[rows[0]] if self._by_rack else "", who, len(rows)))
            order += rows
        return RowGroups(tuple(groups), None if order == list(range(len(device))) else np.array(order))


def _number(site: str, named: Mapping[str, Sequence[str]]) -> int:
    """64 bits of a hash: of a million identities, two are taken for each other once in forty million installations."""
    text = "\x1e".join((site, *("\x1f".join(names) for names in named.values())))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _same(a: pa.Buffer | None, b: pa.Buffer | None) -> bool:
    return a is b if a is None or b is None else bool(a.equals(b))
