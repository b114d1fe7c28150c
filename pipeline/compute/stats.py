"""Statistics over arrays with gaps (NaN): mean, max and p95 along an axis, robust z."""

from __future__ import annotations

import numpy as np

from pipeline.compute.groups import Groups
from schemas.arrays import Bools, Floats

FEW = 16
#: A median absolute deviation times this is the standard deviation of normal noise.
MAD_TO_SIGMA = 1.4826


def mean_and_max(samples: Floats) -> tuple[Floats, Floats, Bools]:
    """Returns (mean over axis 0, maximum over axis 0, where something is missing); NaN where nothing was measured.

    A pane's few samples are added up in their own float32, which is right to a millionth and four times as fast; more
    in float64.
    """
    total = np.add.reduce(samples, axis=0, dtype=np.float64 if len(samples) > FEW else None)
    maximum = np.maximum.reduce(samples, axis=0)
    mean = total / len(samples)
    gaps = np.isnan(total)
    if gaps.any():
        some = samples[:, gaps]
        there = ~np.isnan(some)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean[gaps] = np.where(there, some, 0.0).sum(axis=0, dtype=np.float64) / there.sum(axis=0)
        maximum[gaps] = np.fmax.reduce(some, axis=0)
    return mean, maximum, gaps


def increase(samples: Floats, before: Floats) -> tuple[Floats, Floats, Bools]:
    """Returns (growth of counters over axis 0 since `before`; their latest values; which went backwards).

    A counter that goes backwards has started again at 0. One without a value `before` (NaN) grows from its first
    sample; growth is NaN where there is no sample, and the latest value is then the one before.
    """
    start, latest, banked = before.copy(), before.copy(), np.zeros(before.shape)
    reset = np.zeros(before.shape, bool)
    for now in samples:
        start = np.where(np.isnan(start), now, start)
        with np.errstate(invalid="ignore"):
            fell = now < latest
        if fell.any():
            banked[fell] += latest[fell] - start[fell]
            start[fell] = 0.0
            reset |= fell
        latest = np.where(np.isnan(now), latest, now)
    unseen = np.isnan(samples).all(axis=0)
    return np.where(unseen, np.nan, banked + (latest - start)), latest, reset


def quantile_last(samples: Floats, q: float, gaps: Bools) -> Floats:
    """Returns the quantile along the last axis, linear between ranks (numpy's default); NaN where nothing was measured.

    Reorders `samples`. `gaps`: which lines have missing values.
    """
    size = samples.shape[-1]
    place = (size - 1) * q
    low = int(place)
    high = min(low + 1, size - 1)
    samples.partition((low, high) if low != high else low, axis=-1)
    below, above = samples[..., low].astype(np.float64), samples[..., high].astype(np.float64)
    found = below + (above - below) * (place - low)
    if gaps.any():
        found[gaps] = quantile(samples[gaps].T, q)
    return np.asarray(found)


def quantile(samples: Floats, q: float) -> Floats:
    """Returns the quantile over axis 0, linear between ranks (numpy's default); NaN where nothing was measured."""
    ordered = np.sort(samples, axis=0)  # NaN sorts last
    count = np.count_nonzero(~np.isnan(ordered), axis=0)
    place = np.maximum(count - 1, 0) * q
    low = np.floor(place).astype(np.int64)
    high = np.minimum(low + 1, np.maximum(count - 1, 0))
    below = np.take_along_axis(ordered, low[None], 0)[0].astype(np.float64)
    above = np.take_along_axis(ordered, high[None], 0)[0].astype(np.float64)
    return np.where(count > 0, below + (above - below) * (place - low), np.nan)


def group_robust(values: Floats, groups: Groups, least: int) -> tuple[Floats, Floats]:
    """Returns each value's (group median, group's robust sigma); NaN where the group has fewer than `least` values."""
    centre, count = groups.median(values)
    centre = np.where(count >= least, centre, np.nan)
    spread, _ = groups.median(np.abs(values - centre[groups.group]))
    return centre[groups.group], MAD_TO_SIGMA * spread[groups.group]


def robust(history: Floats, least: int) -> tuple[Floats, Floats]:
    """Returns (median, robust sigma) over axis 0; NaN where there are fewer than `least` values."""
    last = np.ascontiguousarray(np.moveaxis(history, 0, -1))
    count = np.count_nonzero(~np.isnan(last), axis=-1)
    gaps = count < len(history)
    centre = np.where(count >= least, quantile_last(last.copy(), 0.5, gaps), np.nan)
    return centre, MAD_TO_SIGMA * quantile_last(np.abs(last - centre[..., None]), 0.5, gaps)


def z(values: Floats, centre: Floats, sigma: Floats, floor: float, direction: str) -> Floats:
    """Returns how many sigmas (at least `floor` each) a value lies on its bad side, negative on its good side; NaN for
    unknown.
    """
    distance = (values - centre) / np.maximum(sigma, floor)
    if direction == "low":
        return np.asarray(-distance)
    return np.asarray(np.abs(distance) if direction == "both" else distance)
