"""Who the rows of messages are: a rack's devices get a number, `who`, that names exactly them; frames are stored under it.

A message whose identity columns were met before is compared as bytes, not read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.store.tables import NAMED
from schemas.arrays import Ints
from schemas.frame import IDENTITY, Frame

_MOST_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class Run:
    """Rows of one rack that follow each other."""

    site: str
    rack: str
    who: int
    rows: int


@dataclass(frozen=True, slots=True)
class Place:
    """The runs of a message; `order` is how its rows must be taken for them, None when they lie so. `number` counts places as they were met."""

    number: int
    runs: tuple[Run, ...]
    order: Ints | None


class Identities:
    """`new` collects rows for the identities table that have not been taken by `taken` yet."""

    def __init__(self) -> None:
        self._blocks: dict[tuple[int, bytes], Place] = {}
        self._columns: dict[tuple[int, Any, Any], tuple[list[pa.Buffer | None], Place]] = {}
        self._bytes = 0
        self._whos: set[int] = set()
        self.new: dict[int, dict[str, Any]] = {}

    def of_frame(self, frame: Frame) -> Place:
        """The place of a frame of one moment."""
        if frame.layout is None:
            return self.of_columns({name: frame.batch.column(1 + i) for i, name in enumerate(IDENTITY)})
        key = frame.rows, frame.block
        found = self._blocks.get(key)
        if found is None:
            self._make_room(len(frame.block))
            found = self._blocks[key] = self._learn({name: frame.batch.column(1 + i) for i, name in enumerate(IDENTITY)})
        return found

    def of_columns(self, columns: Mapping[str, pa.Array]) -> Place:
        """The place of rows with these identity columns."""
        device = columns["device"]
        key = len(device), device[0].as_py(), device[-1].as_py()
        buffers = [b for name in IDENTITY for b in columns[name].buffers()[1:]]
        whole = all(columns[name].offset == 0 for name in IDENTITY)
        found = self._columns.get(key)
        if found is not None and whole and all(_same(a, b) for a, b in zip(found[0], buffers, strict=True)):
            return found[1]
        place = self._learn(columns)
        if whole:
            self._make_room(sum(b.size for b in buffers if b is not None))
            self._columns[key] = [None if b is None else pa.py_buffer(b.to_pybytes()) for b in buffers], place
        return place

    def taken(self, rows: Mapping[int, Any]) -> None:
        """These are stored."""
        self._whos |= rows.keys()
        self.new = {who: row for who, row in self.new.items() if who not in rows}

    def _make_room(self, size: int) -> None:
        self._bytes += size
        if self._bytes > _MOST_BYTES:
            self._bytes = size
            self._blocks.clear()
            self._columns.clear()

    def _learn(self, columns: Mapping[str, pa.Array]) -> Place:
        """By rack as they come, in a rack by name: so that the same devices have the same number wherever they are met."""
        lists = {name: columns[name].to_pylist() for name in IDENTITY}
        device = lists["device"]
        racks: dict[tuple[str, str], list[int]] = {}
        for row, rack in enumerate(zip(lists["site"], lists["rack"], strict=True)):
            racks.setdefault(rack, []).append(row)
        runs, order = [], list[int]()
        for (site, rack), rows in racks.items():
            rows.sort(key=device.__getitem__)
            named = {name: [lists[name][row] for row in rows] for name in NAMED}
            who = _number(site, rack, named)
            if who not in self._whos:
                self.new[who] = {"who": who, "site": site, "rack": rack, **named}
            runs.append(Run(site, rack, who, len(rows)))
            order += rows
        return Place(len(self._blocks) + len(self._columns), tuple(runs), None if order == list(range(len(device))) else np.array(order))


def _number(site: str, rack: str, named: Mapping[str, Sequence[str]]) -> int:
    """64 bits of a hash: of a million identities, two are taken for each other once in forty million installations."""
    text = "\x1e".join(("\x1f".join((site, rack)), *("\x1f".join(named[name]) for name in NAMED)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _same(a: pa.Buffer | None, b: pa.Buffer | None) -> bool:
    return a is b if a is None or b is None else bool(a.equals(b))
