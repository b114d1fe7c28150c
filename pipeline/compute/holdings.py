"""Holdings: which devices of one kind and partition each job holds, as arrays."""

from __future__ import annotations

import numpy as np

from pipeline.compute.allocations import Allocations, Hold
from pipeline.compute.context import Context
from pipeline.compute.devices import Devices
from schemas.arrays import Bools, Ints


class Holdings:
    """A slot is one device of one hold: int64[slots] `number` of the hold and `row` of the device. With `by` "rack" a
    hold is on all devices of the racks that its nodes are in.
    """

    def __init__(self, devices: Devices, by: str) -> None:
        self._devices, self._by = devices, by
        self._seen: tuple[int, ...] = ()
        self._read = self._entered = 0  # news and holds that are taken over
        self._mine: set[int] = set()
        self._room = np.zeros((2, 0), np.int64)
        self._count = 0

    @property
    def number(self) -> Ints:
        return np.asarray(self._room[0, : self._count])

    @property
    def row(self) -> Ints:
        return np.asarray(self._room[1, : self._count])

    def update(self, context: Context) -> int | None:
        """Takes over what changed; returns the earliest event time, ms, that it affects; None without any."""
        allocations = context.allocations
        seen = allocations.generation, self._devices.version, len(context.racks) if self._by == "rack" else 0
        if self._seen != seen:
            if self._seen[:1] != seen[:1]:
                self._read = len(allocations.news)
            self._seen = seen
            self._count = self._entered = 0
            self._mine.clear()
        for number in range(self._entered, len(allocations)):
            self._enter(number, self._rows(allocations.holds[number], context))
        self._entered = len(allocations)
        news, self._read = allocations.news[self._read :], len(allocations.news)
        return min((at for number, at in news if number in self._mine), default=None)

    def _rows(self, hold: Hold, context: Context) -> list[int]:
        site, devices = hold.site, self._devices
        if self._by == "rack":
            rack = hold.rack or context.racks.get((site, hold.node), "")
            return devices.rows_in(site, rack) if rack else []
        if hold.devices:
            return [row for name in hold.devices if (row := devices.row_named(site, name)) is not None]
        return devices.rows_at(site, hold.node)

    def _enter(self, number: int, rows: list[int]) -> None:
        if not rows:
            return
        self._mine.add(number)
        end = self._count + len(rows)
        if end > self._room.shape[1]:
            self._room = np.concatenate([self._room, np.zeros((2, max(1024, end)), np.int64)], axis=1)
        self._room[:, self._count : end] = [[number] * len(rows), rows]
        self._count = end

    def current(self, allocations: Allocations, at_ms: int) -> Ints:
        """Returns int64[devices]: the code of the job that holds each device at that time, -1 for none; of several the
        one that began last.
        """
        out = np.full(len(self._devices), -1, np.int64)
        held = np.flatnonzero(self.between(allocations, at_ms, at_ms + 1))
        held = held[np.argsort(allocations.started[self.number[held]], kind="stable")]
        out[self.row[held]] = allocations.job[self.number[held]]
        return out

    def between(self, allocations: Allocations, begin_ms: int, end_ms: int) -> Bools:
        """Returns bool[slots]: which hold their device at some time in [begin, end)."""
        number = self.number
        return np.asarray((allocations.started[number] < end_ms) & (allocations.until()[number] > begin_ms))

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_seen": ()}  # numbers are valid only with the allocations that gave them
