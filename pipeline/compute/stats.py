"""Statistics over arrays with gaps (NaN): mean, max and p95 along an axis, medians by group, robust z."""

from __future__ import annotations

import numpy as np

from schemas.arrays import Floats, Ints

#: A median absolute deviation times this is the standard deviation of normal noise.
MAD_TO_SIGMA = 1.4826


def mean(samples: Floats) -> Floats:
    """Mean over axis 0, float64 inside; NaN where nothing was measured."""
    count = np.count_nonzero(~np.isnan(samples), axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.nansum(samples, axis=0, dtype=np.float64) / count)


def quantile(samples: Floats, q: float) -> Floats:
    """Quantile over axis 0, linear between ranks (numpy's default); NaN where nothing was measured."""
    ordered = np.sort(samples, axis=0)  # NaN sorts last
    count = np.count_nonzero(~np.isnan(ordered), axis=0)
    place = np.maximum(count - 1, 0) * q
    low = np.floor(place).astype(np.int64)
    high = np.minimum(low + 1, np.maximum(count - 1, 0))
    below = np.take_along_axis(ordered, low[None], 0)[0].astype(np.float64)
    above = np.take_along_axis(ordered, high[None], 0)[0].astype(np.float64)
    return np.where(count > 0, below + (above - below) * (place - low), np.nan)


def group_median(values: Floats, group: Ints, groups: int) -> tuple[Floats, Ints]:
    """(median per group, how many finite values it is of); NaN for a group without any."""
    fine = np.flatnonzero(~np.isnan(values))
    order = fine[np.lexsort((values[fine], group[fine]))]
    count = np.bincount(group[fine], minlength=groups)
    start = np.concatenate([[0], np.cumsum(count)[:-1]])
    ordered = values[order].astype(np.float64)
    if not len(ordered):
        return np.full(groups, np.nan), count
    last = len(ordered) - 1
    low = np.minimum(start + np.maximum(count - 1, 0) // 2, last)
    high = np.minimum(start + count // 2, last)
    return np.where(count > 0, (ordered[low] + ordered[high]) / 2, np.nan), count


def group_robust(values: Floats, group: Ints, groups: int, least: int) -> tuple[Floats, Floats]:
    """Per value: (its group's median, the group's robust sigma); NaN where the group has fewer than `least` values."""
    centre, count = group_median(values, group, groups)
    centre = np.where(count >= least, centre, np.nan)
    spread, _ = group_median(np.abs(values - centre[group]), group, groups)
    return centre[group], MAD_TO_SIGMA * spread[group]


def robust(history: Floats, least: int) -> tuple[Floats, Floats]:
    """Over axis 0: (median, robust sigma); NaN where there are fewer than `least` values."""
    count = np.count_nonzero(~np.isnan(history), axis=0)
    centre = np.where(count >= least, quantile(history, 0.5), np.nan)
    return centre, MAD_TO_SIGMA * quantile(np.abs(history - centre), 0.5)


def z(values: Floats, centre: Floats, sigma: Floats, floor: float, direction: str) -> Floats:
    """Signed so that positive is bad: how many sigmas (at least `floor` each) a value lies on its bad side; NaN for unknown."""
    distance = (values - centre) / np.maximum(sigma, floor)
    if direction == "low":
        return np.asarray(-distance)
    return np.asarray(np.abs(distance) if direction == "both" else distance)
