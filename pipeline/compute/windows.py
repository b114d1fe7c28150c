"""Statistics of one pane and of one rolling window: arrays by device, and by rack and model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.compute import stats
from pipeline.compute.groups import Groups
from schemas.arrays import Bools, Floats, Ints
from schemas.derived import PART

#: A GPU is busy at a tick when its utilization is at least this.
BUSY_PCT = 10.0
#: Metrics whose samples are also summarized by rack and model: those that PART has a p95 of.
SHARED = tuple(name.removesuffix("_p95") for name in PART.names if name.endswith("_p95"))


@dataclass(slots=True)
class Pane:
    """One closed pane.

    float32[metrics, devices] means and maxima, float64[counters, devices] increases, uint32[devices] samples;
    `carried` bool[metrics]: whether any device gave the metric.
    """

    mean: Floats
    max: Floats
    increase: Floats
    samples: Ints
    carried: Bools


@dataclass(slots=True)
class WindowStats:
    """One window's statistics: float64[devices] by metric and, of the same samples, float64[groups] by column of
    PART.
    """

    names: Sequence[str]
    mean: dict[str, Floats]
    max: dict[str, Floats]
    p95: dict[str, Floats]
    samples: Ints
    busy: Floats
    increase: Mapping[str, Floats]
    ticks: int
    parts: dict[str, Floats]
    util_counts: Ints

    @property
    def present(self) -> Bools:
        return np.asarray(self.samples > 0)

    @staticmethod
    def of(
        names: Sequence[str],
        read: Callable[[Ints | slice], Floats],
        ticks: int,
        samples: Ints,
        increase: Mapping[str, Floats],
        groups: Groups,
    ) -> WindowStats:
        """Returns the statistics of the window that `read` gives, float32[ticks, metrics, len(rows)] in the order of
        `names`, a few thousand devices at a time. `increase`: float64[devices] by windowed counter.
        """

        def empty(size: int) -> Floats:
            return np.full(size, np.nan)

        devices = len(samples)
        mean, maxima, p95 = ({n: empty(devices) for n in names} for _ in range(3))
        out = WindowStats(
            names,
            mean,
            maxima,
            p95,
            samples,
            empty(devices),
            increase,
            ticks,
            {f"{n}_{s}": empty(groups.count) for n in SHARED for s in ("mean", "max", "p95")}
            | {"busy_fraction": empty(groups.count)},
            np.zeros((groups.count, 101), np.uint32),
        )
        for block in groups.blocks():
            found = read(block.where)
            block_mean, block_max, gaps = stats.mean_and_max(found)
            found = np.ascontiguousarray(found.transpose(1, 2, 0))  # metrics, devices, ticks
            for k, name in enumerate(names):
                mean[name][block.where], maxima[name][block.where] = block_mean[k], block_max[k]
                p95[name][block.where] = stats.quantile_last(found[k], 0.95, gaps[k])
                if name in SHARED:
                    out._share(name, block.groups, block.where, found[k].reshape(len(block.groups), -1), found.shape[2])
        return out

    def _share(self, name: str, groups: Ints, where: Ints | slice, values: Floats, ticks: int) -> None:
        """Fills in the statistics of a block of groups, from float32[groups, devices x ticks]."""
        there = ~np.isnan(values)
        count = there.sum(axis=1)
        whole = np.where(there, values, 0.0)
        with np.errstate(invalid="ignore", divide="ignore"):
            self.parts[f"{name}_mean"][groups] = whole.sum(axis=1, dtype=np.float64) / count
            self.parts[f"{name}_max"][groups] = np.fmax.reduce(values, axis=1)
            if name == "util_pct":
                busy = values >= BUSY_PCT
                self.parts["busy_fraction"][groups] = busy.sum(axis=1) / count
                each = (len(groups), -1, ticks)
                self.busy[where] = (busy.reshape(each).sum(axis=2) / there.reshape(each).sum(axis=2)).ravel()
                keys = (np.rint(whole).astype(np.int64) + 101 * np.arange(len(groups))[:, None])[there]
                self.util_counts[groups] = np.bincount(keys, minlength=101 * len(groups)).reshape(-1, 101)
        self.parts[f"{name}_p95"][groups] = stats.quantile_last(values, 0.95, count < values.shape[1])
