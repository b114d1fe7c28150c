"""The ring of recent ticks: raw samples of the windowed metrics, for exact rolling windows."""

from __future__ import annotations

import numpy as np

from schemas.arrays import Bools, Floats, Ints


class Ring:
    """float32[slots, metrics, devices], one slot a tick; a slot is wiped when a new tick takes it."""

    def __init__(self, slots: int, metrics: int) -> None:
        self.slots, self._metrics = slots, metrics
        self._samples = np.empty((slots, metrics, 0), np.float32)
        self._filled = np.zeros((slots, 0), bool)
        self._tick = np.full(slots, -1, np.int64)

    def grow(self, devices: int) -> None:
        """Makes room for that many devices."""
        more = devices - self._filled.shape[1]
        if more > 0:
            self._samples = np.concatenate([self._samples, np.full((self.slots, self._metrics, more), np.nan, np.float32)], 2)
            self._filled = np.concatenate([self._filled, np.zeros((self.slots, more), bool)], 1)

    def fresh(self, tick: int, rows: Ints) -> Bools | None:
        """bool[len(rows)]: the first sample of a device in this tick, which counts; None when all are."""
        slot = self._slot(tick)
        seen = self._filled[slot, rows]
        first = ~seen
        if first.all():
            self._filled[slot, rows] = True
            if len(rows) == np.count_nonzero(np.bincount(rows - rows.min()) == 1):
                return None
        _, earliest = np.unique(rows, return_index=True)
        unique = np.zeros(len(rows), bool)
        unique[earliest] = True
        self._filled[slot, rows] = True
        return np.asarray(first & unique)

    def put(self, tick: int, rows: Ints | slice, samples: Floats) -> None:
        """Stores float32[metrics, len(rows)]."""
        self._samples[self._slot(tick), :, rows] = samples.T if not isinstance(rows, slice) else samples

    def window(self, first_tick: int, ticks: int) -> Floats:
        """float32[ticks, metrics, devices] of that span; NaN where nothing came."""
        wanted = np.arange(first_tick, first_tick + ticks)
        slots = wanted % self.slots
        found = self._samples[slots]
        found[self._tick[slots] != wanted] = np.nan
        return np.asarray(found)

    def _slot(self, tick: int) -> int:
        slot = tick % self.slots
        if self._tick[slot] != tick:
            self._tick[slot] = tick
            self._samples[slot] = np.nan
            self._filled[slot] = False
        return slot
