"""Who has been seen: device identities as dense row numbers, so that state can live in flat arrays."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from schemas.arrays import Ints
from schemas.frame import IDENTITY, Frame

_CACHE = 65_536


class Registry:
    """Maps (site, rack, device) to a row; a row is never reused. Identity blocks are compared as bytes, not parsed.

    `version` changes whenever any identity does, for those who derive something from it.
    """

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str, str], int] = {}
        self._blocks: dict[bytes, Ints] = {}
        self._current: dict[int, bytes] = {}
        self.columns: dict[str, list[str]] = {name: [] for name in IDENTITY}
        self.version = 0

    def __len__(self) -> int:
        return len(self._rows)

    def rows_of(self, frame: Frame) -> Ints:
        """int64[rows]: the row of every device of the frame; new devices are added, changed jobs and models noted."""
        batch = frame.batch
        block = b"".join(_block(batch.column(1 + i)) for i in range(len(IDENTITY)))
        rows = self._blocks.get(block)
        if rows is None or self._current.get(int(rows[0])) != block:
            rows = self._learn(batch)
            if len(self._blocks) >= _CACHE:
                self._blocks.clear()
            self._blocks[block] = rows
            self._current[int(rows[0])] = block
        return rows

    def take(self, name: str, rows: Ints) -> pa.Array:
        """One identity column of the given rows."""
        return pa.array(self.columns[name], pa.string()).take(pa.array(rows))

    def group(self, *names: str) -> tuple[Ints, int]:
        """(int64[devices] group number by the named identity columns, how many groups)."""
        keys: dict[tuple[str, ...], int] = {}
        found = [keys.setdefault(key, len(keys)) for key in zip(*(self.columns[n] for n in names), strict=True)]
        return np.array(found, np.int64), len(keys)

    def _learn(self, batch: pa.RecordBatch) -> Ints:
        columns = [batch.column(1 + i).to_pylist() for i in range(len(IDENTITY))]
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
    """The bytes that make up a string column: its offsets and characters (copied out when it is a slice)."""
    if column.offset:
        column = pa.concat_arrays([column])
    return b"".join(bytes(b) for b in column.buffers()[1:] if b is not None)
