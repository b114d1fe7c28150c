"""Closing panes and windows: means, maxima and counter increases from the raw samples that the intake holds."""

from __future__ import annotations

from functools import partial

import numpy as np
import pyarrow as pa

from pipeline.compute import derived_rows, stats
from pipeline.compute.devices import Devices
from pipeline.compute.groups import CHUNK, Groups
from pipeline.compute.intake import Intake
from pipeline.compute.quality import Quality
from pipeline.compute.ring import widen
from pipeline.compute.timing import HISTORY_PANES, PANE_MS
from pipeline.compute.versioned import Versioned
from pipeline.compute.windows import Pane, WindowStats
from schemas.arrays import Bools, Floats
from schemas.catalogue import KINDS
from schemas.derived import WINDOWS


class Panes:
    """Computes the panes and windows of one kind, panes in order; keeps each counter's last value between them."""

    def __init__(self, kind: str, intake: Intake, devices: Devices, quality: Quality) -> None:
        self._kind, self._intake, self._devices, self._quality = kind, intake, devices, quality
        metrics = KINDS[kind].metrics
        self._names = [metrics[i].name for i in intake.windowed]
        self._counters = [metrics[i].name for i in intake.counters]
        #: (position among the counters, name) of those whose increase windows carry
        self._windowed_counters = [(k, metrics[i].name) for k, i in enumerate(intake.counters) if metrics[i].windowed]
        self._metrics = len(metrics)
        self._ticks = PANE_MS // intake.tick_ms
        self._last_value = np.zeros((len(self._counters), 0))
        self._increases = np.zeros((len(self._windowed_counters), HISTORY_PANES, 0))
        self._groups: Versioned[Groups] = Versioned()

    def grow_history(self) -> None:
        """Makes room for the past of new devices."""
        devices = len(self._devices)
        self._last_value = widen(self._last_value, devices, np.nan)
        self._increases = widen(self._increases, devices, np.nan)

    def close(self, end: int) -> Pane:
        """Returns the statistics of the pane that ends at `end`, computed a chunk of devices at a time."""
        intake, devices = self._intake, len(self._devices)
        first = (end - PANE_MS) // intake.tick_ms
        mean, maxima = (np.full((self._metrics, devices), np.nan, np.float32) for _ in range(2))
        carried_by_any = np.zeros(self._metrics, bool)
        begin = intake.filled.first(first, self._ticks)  # a pane that began in its middle has nothing before
        for ring, which in ((intake.windowed_ring, intake.windowed), (intake.other_ring, intake.others)):
            carried = np.flatnonzero(ring.carried(first, self._ticks))
            carried_by_any[which[carried]] = True
            for at in range(0, devices if len(carried) else 0, CHUNK):
                rows = slice(at, min(at + CHUNK, devices))
                mean[which[carried], rows], maxima[which[carried], rows], _ = stats.mean_and_max(
                    ring.window(begin, first + self._ticks - begin, carried, rows)
                )
        increase = np.full((len(self._counters), devices), np.nan)
        for k in np.flatnonzero(intake.counter_ring.carried(first, self._ticks)).tolist():
            carried_by_any[intake.counters[k]] = True
            samples = intake.counter_ring.window(first, self._ticks, [k])[:, 0]
            increase[k], self._last_value[k], reset = stats.increase(samples, self._last_value[k])
            self._quality.note_devices(end, "counter-reset", self._devices, np.flatnonzero(reset), self._counters[k])
        for n, (k, _) in enumerate(self._windowed_counters):
            self._increases[n, end // PANE_MS % HISTORY_PANES] = increase[k]
        return Pane(mean, maxima, increase, intake.filled.samples(first, self._ticks), carried_by_any)

    def windows(self, end: int, expected: Bools) -> dict[str, pa.RecordBatch]:
        """Returns the batches `window` and `part` of all windows that end at `end`; parts also of racks that are dark,
        but of which devices are `expected`; nothing when all are empty.
        """
        intake = self._intake
        groups = self._groups.get(self._devices.version, lambda: Groups(*self._devices.group("site", "rack", "model")))
        windows, parts = [], []
        for width_s, hop_s in WINDOWS:
            if end % (hop_s * 1000):
                continue
            first, ticks = (end - width_s * 1000) // intake.tick_ms, width_s * 1000 // intake.tick_ms
            samples = intake.filled.samples(first, ticks)
            if not samples.any() and not expected.any():
                continue
            slots = np.arange(end - width_s * 1000 + PANE_MS, end + 1, PANE_MS) // PANE_MS % HISTORY_PANES
            increase = {}
            for n, (_, name) in enumerate(self._windowed_counters):
                by_pane = self._increases[n, slots]
                increase[name] = np.where(np.isnan(by_pane).all(axis=0), np.nan, np.nansum(by_pane, axis=0))
            begin = intake.filled.first(first, ticks)  # a window that is not full yet has nothing before
            rolled = WindowStats.of(
                self._names,
                partial(intake.windowed_ring.window, begin, first + ticks - begin, slice(None)),
                ticks,
                samples,
                increase,
                groups,
            )
            if samples.any():
                windows.append(derived_rows.window_rows(self._kind, end, width_s, self._devices, rolled))
            parts.append(derived_rows.part_rows(self._kind, end, width_s, self._devices, rolled, groups, expected))
        found = {"window": windows, "part": parts}
        return {name: pa.concat_batches(batches) for name, batches in found.items() if batches}

    def increases(self, counter: str) -> Floats:
        """Returns float64[panes, devices]: a windowed counter's increase in each of the last panes, by slot."""
        at = [name for _, name in self._windowed_counters].index(counter)
        return np.asarray(self._increases[at])
