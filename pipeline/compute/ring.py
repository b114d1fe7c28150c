"""A ring of recent ticks: raw samples, for exact panes and rolling windows."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from typing import Any

import numpy as np

from schemas.arrays import Bools, Floats, Ints

Rows = Ints | slice
_HUGE = 64 << 20


class Ring:
    """float[slots, metrics, devices], one slot a tick. Memory that no metric or device has used is never touched.

    A metric is wiped in a slot (NaN) when the slot's tick first carries it, so what was not measured reads as missing.
    """

    def __init__(self, slots: int, metrics: int, dtype: str = "float32") -> None:
        self.slots, self._metrics, self._dtype = slots, metrics, dtype
        self.devices = self._room = 0
        self._samples = np.empty((slots, metrics, 0), dtype)
        self._carried = np.zeros((slots, metrics), bool)
        self._tick = np.full(slots, -1, np.int64)

    def grow(self, devices: int) -> None:
        """Makes room for that many devices."""
        if devices > self._room:
            self._room = max(devices, self._room * 2)
            wider = _untouched((self.slots, self._metrics, self._room), self._dtype)
            for slot, metric in zip(*np.nonzero(self._carried), strict=True):
                wider[slot, metric, : self.devices] = self._samples[slot, metric, : self.devices]
            self._samples = wider
        if devices > self.devices:
            for slot, metric in zip(*np.nonzero(self._carried), strict=True):
                self._samples[slot, metric, self.devices : devices] = np.nan
            self.devices = devices

    def open(self, tick: int) -> int:
        """Returns the slot of a tick; the samples of an older tick in it are dropped."""
        slot = tick % self.slots
        if self._tick[slot] != tick:
            self._tick[slot] = tick
            self._carried[slot] = False
        return slot

    def put(self, slot: int, metric: int, rows: Rows, values: Floats) -> None:
        """Stores float[len(rows)] of one metric in a slot that `open` gave."""
        row = self._samples[slot, metric]
        if not self._carried[slot, metric]:
            if isinstance(rows, slice):  # what is written anyway need not be wiped
                row[: rows.start] = np.nan
                row[rows.stop : self.devices] = np.nan
            else:
                row[: self.devices] = np.nan
            self._carried[slot, metric] = True
        row[rows] = values

    def window(
        self, first_tick: int, ticks: int, metrics: Ints | Sequence[int] | slice = slice(None), rows: Rows = slice(None)
    ) -> Floats:
        """Returns float[ticks, metrics, len(rows)] of that span; NaN where nothing came."""
        wanted = np.arange(first_tick, first_tick + ticks)
        slots = wanted % self.slots
        chosen = np.arange(self._metrics)[metrics]
        count = len(np.arange(self.devices)[rows]) if isinstance(rows, slice) else len(rows)
        out = np.empty((ticks, len(chosen), count), self._dtype)
        there = self._carried[slots][:, chosen] & (self._tick[slots] == wanted)[:, None]
        rows = slice(*rows.indices(self.devices)) if isinstance(rows, slice) else rows
        for t, slot in enumerate(slots):
            for m, metric in enumerate(chosen):
                out[t, m] = self._samples[slot, metric][rows] if there[t, m] else np.nan
        return out

    def carried(self, first_tick: int, ticks: int) -> Bools:
        """Returns bool[metrics]: whether any tick of the span carries the metric."""
        wanted = np.arange(first_tick, first_tick + ticks)
        slots = wanted % self.slots
        return np.asarray((self._carried[slots] & (self._tick[slots] == wanted)[:, None]).any(axis=0))

    def __getstate__(self) -> dict[str, object]:
        held = [
            (int(s), int(m), self._samples[s, m, : self.devices])
            for s, m in zip(*np.nonzero(self._carried), strict=True)
        ]
        return {k: v for k, v in self.__dict__.items() if k != "_samples"} | {"held": held}

    def __setstate__(self, state: dict[str, Any]) -> None:
        held = state.pop("held")
        self.__dict__.update(state)
        self._samples = _untouched((self.slots, self._metrics, self._room), self._dtype)
        for slot, metric, values in held:
            self._samples[slot, metric, : self.devices] = values


def widen(array: Floats, devices: int, fill: float) -> Floats:
    """Returns the array with room for `devices` along its last axis; what is new holds `fill`."""
    more = devices - array.shape[-1]
    return np.concatenate([array, np.full((*array.shape[:-1], more), fill, array.dtype)], -1) if more > 0 else array


def _untouched(shape: tuple[int, ...], dtype: str) -> Floats:
    """Returns an array in pages of its own: the system provides a page when it is first written, and frees all of them
    with the array.
    """
    size = int(np.prod(shape))
    pages = mmap.mmap(-1, max(1, size) * np.dtype(dtype).itemsize, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if size * np.dtype(dtype).itemsize >= _HUGE:
        pages.madvise(mmap.MADV_HUGEPAGE)  # 512 times fewer page faults
    return np.frombuffer(pages, dtype)[:size].reshape(shape)


class Filled:
    """bool[slots, devices]: which devices gave a sample in which tick."""

    def __init__(self, slots: int) -> None:
        self._slots, self._devices = slots, 0
        self._room = np.zeros((slots, 0), bool)
        self._filled = self._room
        self._tick = np.full(slots, -1, np.int64)

    def grow(self, devices: int) -> None:
        if devices > self._room.shape[1]:
            wider = np.zeros((self._slots, max(devices, 2 * self._room.shape[1])), bool)
            wider[:, : self._devices] = self._filled
            self._room = wider
        self._devices = devices
        self._filled = self._room[:, :devices]

    def first_samples(self, tick: int, rows: Rows) -> Bools | None:
        """Returns bool[len(rows)]: which are the first sample of their device in this tick; None when all are.

        Marks their devices as filled.
        """
        slot = tick % self._slots
        filled = self._filled[slot]
        if self._tick[slot] != tick:
            self._tick[slot] = tick
            filled[:] = False
        seen = filled[rows].copy()
        filled[rows] = True
        if not seen.any() and (isinstance(rows, slice) or np.bincount(rows - rows.min()).max() == 1):
            return None
        assert not isinstance(rows, slice) or seen.any()
        listed = np.arange(len(filled))[rows]
        _, earliest = np.unique(listed, return_index=True)
        first = np.zeros(len(listed), bool)
        first[earliest] = True
        return np.asarray(~seen & first)

    def samples(self, first_tick: int, ticks: int) -> Ints:
        """Returns uint32[devices]: the number of ticks of the span in which each device gave a sample."""
        wanted = np.arange(first_tick, first_tick + ticks)
        slots = wanted % self._slots
        return np.asarray(self._filled[slots[self._tick[slots] == wanted]].sum(axis=0, dtype=np.uint32))

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_room": self._filled.copy(), "_filled": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._filled = self._room

    def newest(self) -> int:
        """Returns the newest tick with a sample, or -1."""
        return int(self._tick.max())

    def first(self, first_tick: int, ticks: int) -> int:
        """Returns the earliest tick of the span with a sample; `first_tick` when there is none."""
        inside = self._tick[(self._tick >= first_tick) & (self._tick < first_tick + ticks)]
        return int(inside.min()) if len(inside) else first_tick
