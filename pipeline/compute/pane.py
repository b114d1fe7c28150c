"""A pane: sum, count and maximum of every metric over ten seconds, and the first and last value of every counter."""

from __future__ import annotations

import numpy as np

from schemas.arrays import Floats, Ints

_NEVER = np.iinfo(np.int64).max


class Pane:
    """Arrays are [metrics, devices]. Sums are float64, so that ten float32 samples add up without loss."""

    def __init__(self, metrics: int, counters: Ints, devices: int) -> None:
        self._counters = counters
        self.total = np.zeros((metrics, devices))
        self.count = np.zeros((metrics, devices), np.uint32)
        self.high = np.full((metrics, devices), np.nan)
        self.last = np.full((len(counters), devices), np.nan)
        self._last_tick = np.full((len(counters), devices), -1, np.int64)
        self.first = np.full((len(counters), devices), np.nan)
        self._first_tick = np.full((len(counters), devices), _NEVER, np.int64)
        self.samples = np.zeros(devices, np.uint32)

    def grow(self, devices: int) -> None:
        more = devices - len(self.samples)
        if more <= 0:
            return
        metrics, counters = len(self.total), len(self.last)
        self.total = np.concatenate([self.total, np.zeros((metrics, more))], 1)
        self.count = np.concatenate([self.count, np.zeros((metrics, more), np.uint32)], 1)
        self.high = np.concatenate([self.high, np.full((metrics, more), np.nan)], 1)
        self.last = np.concatenate([self.last, np.full((counters, more), np.nan)], 1)
        self._last_tick = np.concatenate([self._last_tick, np.full((counters, more), -1, np.int64)], 1)
        self.first = np.concatenate([self.first, np.full((counters, more), np.nan)], 1)
        self._first_tick = np.concatenate([self._first_tick, np.full((counters, more), _NEVER, np.int64)], 1)
        self.samples = np.concatenate([self.samples, np.zeros(more, np.uint32)])

    def add(self, tick: int, rows: Ints | slice, values: Floats) -> None:
        """Adds float[metrics, len(rows)], each device at most once a call."""
        there = ~np.isnan(values)
        self.total[:, rows] += np.where(there, values, 0.0)
        self.count[:, rows] += there
        self.high[:, rows] = np.fmax(self.high[:, rows], values)
        self.samples[rows] += 1
        if len(self._counters):
            current = values[self._counters]
            newer = there[self._counters] & (tick >= self._last_tick[:, rows])
            self.last[:, rows] = np.where(newer, current, self.last[:, rows])
            self._last_tick[:, rows] = np.where(newer, tick, self._last_tick[:, rows])
            older = there[self._counters] & (tick < self._first_tick[:, rows])
            if older.any():
                self.first[:, rows] = np.where(older, current, self.first[:, rows])
                self._first_tick[:, rows] = np.where(older, tick, self._first_tick[:, rows])

    def mean(self) -> Floats:
        """float64[metrics, devices], NaN where nothing was measured."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.total / self.count


def increase(last: Floats, before: Floats) -> Floats:
    """A counter's growth from `before` to `last`; after a reset, what it has counted since. NaN where either is unknown."""
    grown = last - before
    return np.where(grown < 0, last, grown)
