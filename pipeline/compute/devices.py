"""Devices as dense row numbers, so that state can live in flat arrays. A device is its board; its place may change."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping

import numpy as np
import pyarrow as pa

from pipeline.compute.groups import as_slice
from pipeline.compute.versioned import Versioned
from schemas.arrays import Bools, Ints
from schemas.frame import Frame
from schemas.identity import IDENTITY, DeviceKey, device_key

_CACHE = 65_536
_SHARED = frozenset(IDENTITY) - {"device", "board"}  # columns that many rows share


class Devices:
    """Maps devices to rows by their board, or by (site, rack, device) where they have none; a row is never reused.

    Identity blocks are compared as bytes, not parsed. `version` changes whenever any identity does, for what is derived
    from it.
    """

    def __init__(self) -> None:
        self._rows: dict[DeviceKey, int] = {}
        self._at: dict[tuple[str, str, str], int] = {}  # (site, rack, device) -> the row that is there now
        self._named: dict[tuple[str, str], int] = {}  # (site, device or board) -> row
        self._nodes: dict[tuple[str, str], set[int]] = {}
        self._blocks: dict[tuple[int, bytes], Ints] = {}
        self._arrays: Versioned[dict[str, pa.Array]] = Versioned()
        self._by_rack: Versioned[tuple[Ints | None]] = Versioned()
        self._of_rack: Versioned[dict[tuple[str, str], list[int]]] = Versioned()
        self.columns: dict[str, list[str]] = {name: [] for name in IDENTITY}
        self.version = 0

    def __len__(self) -> int:
        return len(self.columns["device"])

    def key_of(self, key: DeviceKey) -> DeviceKey | None:
        """Returns the key of a device that is known here by this key, or that is at this place now; None for others."""
        row = self._rows.get(key, self._at.get(key) if len(key) == 3 else None)
        return None if row is None else self._key(row)

    def row_named(self, site: str, name: str) -> int | None:
        """Returns the row of a device by its name or board; an instance of a board that is not known counts as it."""
        row = self._named.get((site, name))
        if row is None:
            board, _, instance = name.partition("/") if "/" in name else name.rpartition("-MIG")
            row = self._named.get((site, board)) if board and instance else None
        return row

    def rows_at(self, site: str, node: str) -> list[int]:
        """Returns the rows of the devices that are in a node."""
        return sorted(self._nodes.get((site, node), ()))

    def rows_in(self, site: str, rack: str) -> list[int]:
        """Returns the rows of the devices that are in a rack."""
        of_rack = self._of_rack.get(self.version, self._racks)
        return of_rack.get((site, rack), [])

    def rows_of(self, frame: Frame) -> Ints:
        """Returns int64[rows]: the row of every device of the frame. Adds new devices, and takes over changed places,
        names and models.
        """
        key = frame.rows, frame.block or b"".join(_block(frame.batch.column(1 + i)) for i in range(len(IDENTITY)))
        rows = self._blocks.get(key)
        if rows is None:
            rows = self._learn({name: frame.identity(name) for name in IDENTITY})
            if len(self._blocks) >= _CACHE:
                self._blocks.clear()
            self._blocks[key] = rows
        return rows

    def declare(self, identities: Iterable[Mapping[str, str]]) -> list[int]:
        """Adds devices that ought to be there and returns their rows; one that is known keeps what is known of it."""
        rows = []
        for identity in identities:
            row = self._find(**{n: identity[n] for n in ("site", "rack", "device", "board")})
            rows.append(self._add(identity) if row is None else row)
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
        return self.__dict__ | {"_blocks": {}}

    def _as_arrays(self) -> dict[str, pa.Array]:
        return {n: pa.array(values, pa.string()) for n, values in self.columns.items()}

    def _racks(self) -> dict[tuple[str, str], list[int]]:
        found: dict[tuple[str, str], list[int]] = {}
        for row, rack in enumerate(zip(self.columns["site"], self.columns["rack"], strict=True)):
            found.setdefault(rack, []).append(row)
        return found

    def _rack_order(self) -> tuple[Ints | None]:
        """Returns the rows sorted by rack; None when they already are."""
        names = zip(self.columns["site"], self.columns["rack"], strict=True)
        _, rack = np.unique(np.array(["\x1f".join(name) for name in names]), return_inverse=True)
        return (None if bool((np.diff(rack) >= 0).all()) else np.argsort(rack, kind="stable"),)

    def _learn(self, columns: Mapping[str, list[str]]) -> Ints:
        shared = {n: [*map(sys.intern, values)] if n in _SHARED else values for n, values in columns.items()}
        rows = np.empty(len(shared["device"]), np.int64)
        for i, values in enumerate(zip(*(shared[n] for n in IDENTITY), strict=True)):
            identity = dict(zip(IDENTITY, values, strict=True))
            row = self._find(identity["site"], identity["rack"], identity["device"], identity["board"])
            if row is None:
                row = self._add(identity)
            elif any(self.columns[n][row] != identity[n] for n in IDENTITY):
                self._change(row, identity)
            rows[i] = row
        return rows

    def _find(self, site: str, rack: str, device: str, board: str) -> int | None:
        """Returns the row of the board; of the device at the place where either of the two has no board."""
        row = self._rows.get(device_key(site, rack, device, board))
        if row is not None:
            return row
        there = self._at.get((site, rack, device))
        return there if there is not None and not (board and self.columns["board"][there]) else None

    def _add(self, identity: Mapping[str, str]) -> int:
        row = len(self)
        for name in IDENTITY:
            self.columns[name].append(identity[name])
        self._enter(row)
        return row

    def _change(self, row: int, identity: Mapping[str, str]) -> None:
        """Takes over a device's place, name and model; a board that was known is not forgotten.

        Blocks are learned again, since one that was seen before may hold what has changed.
        """
        self._blocks.clear()
        site, rack, node, device, board = (self.columns[n][row] for n in ("site", "rack", "node", "device", "board"))
        for named in ((site, device), (site, board)):
            if self._named.get(named) == row:
                del self._named[named]
        if self._at.get((site, rack, device)) == row:
            del self._at[site, rack, device]
        self._nodes[site, node].discard(row)
        self._rows.pop(self._key(row), None)
        for name in IDENTITY:
            self.columns[name][row] = identity[name] or (board if name == "board" else "")
        self._enter(row)

    def _enter(self, row: int) -> None:
        site, rack, node, device, board = (self.columns[n][row] for n in ("site", "rack", "node", "device", "board"))
        self._rows[self._key(row)] = self._at[site, rack, device] = self._named[site, device] = row
        if board:
            self._named[site, board] = row
        self._nodes.setdefault((site, node), set()).add(row)
        self.version += 1

    def _key(self, row: int) -> DeviceKey:
        return device_key(*(self.columns[n][row] for n in ("site", "rack", "device", "board")))


def _block(column: pa.Array) -> bytes:
    """Returns the bytes that make up a string column: its offsets and characters (copied out of a slice)."""
    if column.offset:
        column = pa.concat_arrays([column])
    return b"".join(bytes(b) for b in column.buffers()[1:] if b is not None)
