"""Device identities as dense row numbers, so that state can live in flat arrays."""

from __future__ import annotations

import sys

import numpy as np
import pyarrow as pa

from pipeline.compute.groups import as_slice
from pipeline.compute.versioned import Versioned
from schemas.arrays import Bools, Ints
from schemas.frame import Frame
from schemas.identity import IDENTITY

_CACHE = 65_536


class Devices:
    """Maps (site, rack, device) to a row; a row is never reused. Identity blocks are compared as bytes, not parsed.

    `version` changes whenever any identity does, for what is derived from it.
    """

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str, str], int] = {}
        self._blocks: dict[tuple[int, bytes], tuple[Ints, int]] = {}
        self._current: dict[int, Ints] = {}  # first row -> the rows of the block that was learned last
        self._arrays: Versioned[dict[str, pa.Array]] = Versioned()
        self._by_rack: Versioned[tuple[Ints | None]] = Versioned()
        self.columns: dict[str, list[str]] = {name: [] for name in IDENTITY}
        self.version = 0

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, key: object) -> bool:
        """Whether (site, rack, device) has been seen."""
        return key in self._rows

    def rows_of(self, frame: Frame) -> Ints:
        """Returns int64[rows]: the row of every device of the frame. Adds new devices, and takes over changed jobs and
        models.
        """
        key = frame.rows, frame.block or b"".join(_block(frame.batch.column(1 + i)) for i in range(len(IDENTITY)))
        found = self._blocks.get(key)
        if found is not None and self._current.get(found[1]) is found[0]:
            return found[0]
        rows = self._learn(frame.batch)
        if len(self._blocks) >= _CACHE:
            self._blocks.clear()
        self._blocks[key] = rows, int(rows[0])
        self._current[int(rows[0])] = rows
        return rows

    def column(self, name: str, rows: Ints | slice) -> pa.Array:
        """Returns one identity column of the given rows."""
        column = self._arrays.get(self.version, self._as_arrays)[name]
        return column[rows] if isinstance(rows, slice) else column.take(pa.array(rows))

    def group(self, *names: str) -> tuple[Ints, int]:
        """Returns (int64[devices] group number by the named identity columns, number of groups)."""
        keys: dict[tuple[str, ...], int] = {}
        found = [keys.setdefault(key, len(keys)) for key in zip(*(self.columns[n] for n in names), strict=True)]
        return np.array(found, np.int64), len(keys)

    def present_rows(self, present: Bools) -> Ints | slice:
        """Row indices of present devices, sorted by rack, so one rack's rows land in one message and one stored row."""
        (order,) = self._by_rack.get(self.version, self._rack_order)
        return as_slice(np.flatnonzero(present)) if order is None else order[present[order]]

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_blocks": {}, "_current": {}}

    def _as_arrays(self) -> dict[str, pa.Array]:
        return {n: pa.array(values, pa.string()) for n, values in self.columns.items()}

    def _rack_order(self) -> tuple[Ints | None]:
        """Returns the rows sorted by rack; None when they already are."""
        names = zip(self.columns["site"], self.columns["rack"], strict=True)
        _, rack = np.unique(np.array(["\x1f".join(name) for name in names]), return_inverse=True)
        return (None if bool((np.diff(rack) >= 0).all()) else np.argsort(rack, kind="stable"),)

    def _learn(self, batch: pa.RecordBatch) -> Ints:
        columns = [batch.column(1 + i).to_pylist() for i in range(len(IDENTITY))]
        for i in (0, 1, 2, 4, 5):  # all but the device: many rows share them
            columns[i] = [*map(sys.intern, columns[i])]
        site, rack, _, device, _, _ = columns
        rows = np.empty(batch.num_rows, np.int64)
        for i, key in enumerate(zip(site, rack, device, strict=True)):
            row = self._rows.get(key)
            if row is None:
                row = self._rows[key] = len(self._rows)
                for name, values in zip(IDENTITY, columns, strict=True):
                    self.columns[name].append(values[i])
                self.version += 1
            else:
                for name, values in zip(IDENTITY, columns, strict=True):
                    if self.columns[name][row] != values[i]:
                        self.columns[name][row] = values[i]
                        self.version += 1
            rows[i] = row
        return rows


def _block(column: pa.Array) -> bytes:
    """Returns the bytes that make up a string column: its offsets and characters (copied out of a slice)."""
    if column.offset:
        column = pa.concat_arrays([column])
    return b"".join(bytes(b) for b in column.buffers()[1:] if b is not None)
