"""Windows of jobs: a minute of a job in a rack, from the panes of the devices that it holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.compute.allocations import Allocations
from pipeline.compute.devices import Devices
from pipeline.compute.holdings import Holdings
from pipeline.compute.intake import Intake
from pipeline.compute.timing import HISTORY_PANES, PANE_MS
from pipeline.compute.versioned import Versioned
from schemas.arrays import Bools, Floats, Ints
from schemas.jobs import JOB_WINDOW
from schemas.thresholds import IDLE_PCT

WINDOW_MS = 60_000
_PANES = WINDOW_MS // PANE_MS
#: Minutes that are computed again when news of them comes late: their panes are still here.
MINUTES_KEPT = HISTORY_PANES // _PANES - 1
#: Metrics whose pane means are weighed by the time that a job holds the device.
_MEANS = ("util_pct", "tensor_active", "power_w")
_ENERGY = len(_MEANS)  # the row of the energy after them

_MemberKey = tuple[str, str, str]  # site, job, rack


@dataclass(frozen=True, slots=True)
class PaneHistory:
    """The panes of the last five minutes: float[panes, devices] by metric, and the end of each pane, int64[panes]."""

    ends: Ints
    means: Mapping[str, Floats]
    energy: Floats


@dataclass(frozen=True, slots=True)
class _Split:
    """Parts of a pane: float[metrics + 1, parts] `found` for slots of the holdings, which had this hold and row."""

    slot: Ints
    number: Ints
    row: Ints
    found: Floats

    def put(self, values: Floats, slots: Ints, number: Ints, row: Ints) -> None:
        """Puts what is known in the place of the whole pane's values, float[metrics + 1, slots]."""
        at = np.minimum(np.searchsorted(slots, self.slot), len(slots) - 1)
        same = (slots[at] == self.slot) & (number[at] == self.number) & (row[at] == self.row)
        if not same.all():  # the holdings were numbered again
            where = {key: i for i, key in enumerate(zip(number.tolist(), row.tolist(), strict=True))}
            mine = zip(self.number.tolist(), self.row.tolist(), strict=True)
            at = np.array([where.get(key, -1) for key in mine])
            same = at >= 0
        known = ~np.isnan(self.found) & same
        metric, part = np.nonzero(known)
        values[metric, at[part]] = self.found[metric, part]


class JobWindows:
    """Makes JOB_WINDOW rows of one kind on one partition.

    `close` is called for every pane in order; at a full minute it returns its rows, and those of earlier minutes that
    news of an allocation changed.
    """

    def __init__(self, devices: Devices, intake: Intake, holdings: Holdings) -> None:
        self._devices, self._intake, self._holdings = devices, intake, holdings
        self._racks: Versioned[tuple[Ints, int]] = Versioned()
        #: pane end -> what was computed from single samples, of devices that changed jobs within the pane
        self._splits: dict[int, _Split] = {}
        self._members: dict[int, set[_MemberKey]] = {}
        self._affected_ms: int | None = None  # windows from then on are computed again

    def affect(self, from_ms: int) -> None:
        """Windows from that time on are computed again at the next pane."""
        self._affected_ms = from_ms if self._affected_ms is None else min(from_ms, self._affected_ms)

    def close(self, end: int, history: PaneHistory, allocations: Allocations) -> pa.RecordBatch | None:
        """Returns the rows that the pane which ends at `end` completes or changes; None without any."""
        affected_ms, self._affected_ms = self._affected_ms, None
        oldest = end // WINDOW_MS * WINDOW_MS - (MINUTES_KEPT - 1) * WINDOW_MS
        for at in [t for t in self._splits if t <= oldest - WINDOW_MS]:
            del self._splits[at]
        for at in [t for t in self._members if t < oldest]:
            del self._members[at]
        self._split(end, allocations)
        minutes = [end] if end % WINDOW_MS == 0 else []
        if affected_ms is not None:
            first = max(oldest, affected_ms // WINDOW_MS * WINDOW_MS + WINDOW_MS)
            again = range(first, end, WINDOW_MS)
            for at in {t for m in again for t in range(m - WINDOW_MS + PANE_MS, m + 1, PANE_MS)}:
                self._split(at, allocations)
            minutes = [*again, *minutes]
        rows = [row for minute in minutes for row in [self._minute(minute, history, allocations)] if row is not None]
        return pa.concat_batches(rows) if rows else None

    def _split(self, end: int, allocations: Allocations) -> None:
        """Computes from single samples the part of a pane in which a hold that begins or ends in it had its devices."""
        begin = end - PANE_MS
        number, row = self._holdings.number, self._holdings.row
        started, until = allocations.started[number], allocations.until()[number]
        partly = ((started > begin) & (started < end)) | ((until > begin) & (until < end))
        chosen = np.flatnonzero(partly & (started < end) & (until > begin))
        self._splits.pop(end, None)
        if not len(chosen):
            return
        rows = row[chosen]
        ticks = PANE_MS // self._intake.tick_ms
        first = begin // self._intake.tick_ms
        stamps = (first + np.arange(ticks)) * self._intake.tick_ms
        mine = (stamps[:, None] >= started[chosen]) & (stamps[:, None] < until[chosen])
        found = np.full((_ENERGY + 1, len(chosen)), np.nan)
        for k, name in enumerate(_MEANS):
            samples = self._intake.samples(name, first, ticks, rows)
            there = mine & ~np.isnan(samples)
            with np.errstate(invalid="ignore", divide="ignore"):
                found[k] = np.where(there, samples, 0.0).sum(axis=0, dtype=np.float64) / there.sum(axis=0)
        grown = _grown(self._intake.samples("energy_j", first - 1, ticks + 1, rows))
        found[_ENERGY] = np.where(mine & ~np.isnan(grown), grown, 0.0).sum(axis=0)
        found[_ENERGY][(~np.isnan(grown) & mine).sum(axis=0) == 0] = np.nan
        self._splits[end] = _Split(chosen, number[chosen], rows, found)

    def _minute(self, end: int, history: PaneHistory, allocations: Allocations) -> pa.RecordBatch | None:
        begin, holdings = end - WINDOW_MS, self._holdings
        slots = np.flatnonzero(holdings.between(allocations, begin, end))
        before = self._members.get(end, set())
        if not len(slots) and not before:
            return None
        number, row = holdings.number[slots], holdings.row[slots]
        weight, values = self._weighed(begin, slots, history, allocations)
        with np.errstate(invalid="ignore", divide="ignore"):
            share = allocations.share[number].astype(np.float64)
            known = np.where(np.isnan(values[:_ENERGY]), 0.0, weight)
            mean = np.nansum(values[:_ENERGY] * known, axis=1) / known.sum(axis=1)
            joules = np.where(np.isnan(values[_ENERGY]).all(axis=0), np.nan, np.nansum(values[_ENERGY], axis=0)) * share
        columns, members = self._grouped(
            number, row, weight.sum(axis=0) / _PANES * share, mean, joules, share, allocations
        )
        self._members[end] = {*members}
        gone = sorted(before - self._members[end])  # a hold that is corrected away leaves nothing behind
        self._members[end] |= before
        return _build(end, columns, members, gone) if members or gone else None

    def _weighed(
        self, begin: int, slots: Ints, history: PaneHistory, allocations: Allocations
    ) -> tuple[Floats, Floats]:
        """Returns (float[panes, slots] share of each pane in which the hold lasts, float[metrics + 1, panes, slots] the
        metrics' means and the energy of that time).
        """
        number, row = self._holdings.number[slots], self._holdings.row[slots]
        started, until = allocations.started[number], allocations.until()[number]
        weight = np.zeros((_PANES, len(row)))
        values = np.full((_ENERGY + 1, _PANES, len(row)), np.nan)
        for p in range(_PANES):
            end = begin + (p + 1) * PANE_MS
            lasts = np.minimum(until, end) - np.maximum(started, end - PANE_MS)
            weight[p] = np.clip(lasts, 0, PANE_MS) / PANE_MS
            slot = end // PANE_MS % HISTORY_PANES
            if history.ends[slot] != end:
                continue
            for k, name in enumerate(_MEANS):
                if name in history.means:
                    values[k, p] = history.means[name][slot, row]
            values[_ENERGY, p] = history.energy[slot, row] * weight[p]
            if end in self._splits:
                self._splits[end].put(values[:, p], slots, number, row)
        return weight, values

    def _grouped(
        self,
        number: Ints,
        row: Ints,
        gpus: Floats,
        mean: Floats,
        joules: Floats,
        share: Floats,
        allocations: Allocations,
    ) -> tuple[dict[str, Any], list[_MemberKey]]:
        """Returns the columns of JOB_WINDOW by job and rack, and the (site, job, rack) of each row."""
        if not len(row):
            return {}, []
        rack, _ = self._racks.get(self._devices.version, lambda: self._devices.group("site", "rack"))
        keys = rack[row] * len(allocations.jobs) + allocations.job[number]
        _, first, group = np.unique(keys, return_index=True, return_inverse=True)
        site_of, rack_of, job_of = self._devices.columns["site"], self._devices.columns["rack"], allocations.jobs
        members = [
            (site_of[r], job_of[j], rack_of[r])
            for r, j in zip(row[first].tolist(), allocations.job[number[first]].tolist(), strict=True)
        ]
        count = len(members)
        util, tensor, power = mean
        heard, slowest = ~np.isnan(mean).all(axis=0), np.full(count, -1)
        order = np.flatnonzero(~np.isnan(util))
        order = order[np.argsort(-util[order], kind="stable")]
        slowest[group[order]] = order  # the last one written has the least
        device = self._devices.columns["device"]

        def total(values: Floats, where: Bools) -> Floats:
            return np.bincount(group[where], weights=values[where], minlength=count)

        def average(values: Floats) -> Floats:
            there = ~np.isnan(values)
            with np.errstate(invalid="ignore", divide="ignore"):
                return np.asarray(total(values * gpus, there) / total(gpus, there))

        def summed(values: Floats) -> Floats:
            there = ~np.isnan(values)
            return np.where(np.bincount(group[there], minlength=count) > 0, total(values, there), np.nan)

        lowest = np.where(slowest >= 0, util[slowest], np.nan)
        return {
            "gpus": np.bincount(group, weights=gpus, minlength=count),
            "heard": np.bincount(group[heard], minlength=count),
            "idle": np.bincount(group[heard & (util < IDLE_PCT)], minlength=count),
            "util_pct_mean": average(util),
            "tensor_active_mean": average(tensor),
            "power_w": summed(power * gpus),
            "energy_j": summed(joules),
            "slowest": [device[row[i]] if i >= 0 else "" for i in slowest.tolist()],
            "slowest_util_pct": lowest,
        }, members


def _build(end: int, columns: dict[str, Any], members: list[_MemberKey], gone: list[_MemberKey]) -> pa.RecordBatch:
    """Returns the rows, and rows without GPUs for those of `gone`, which replace what was published of them."""
    site, job, rack = zip(*members, *gone, strict=True)
    values = {
        name: [*columns.get(name, ()), *["" if name == "slowest" else 0] * len(gone)] for name in JOB_WINDOW.names[5:]
    }
    rows = len(site)
    whole = {"ts": [end] * rows, "window_s": [WINDOW_MS // 1000] * rows, "site": site, "job": job, "rack": rack}
    return JOB_WINDOW.build(whole | values)


def _grown(samples: Floats) -> Floats:
    """Returns float[ticks - 1, n]: how much a counter grew up to each tick since its last known value; NaN where it is
    not known. One that goes backwards starts again at 0.
    """
    latest, out = samples[0].copy(), np.full((len(samples) - 1, samples.shape[1]), np.nan)
    for i, now in enumerate(samples[1:]):
        with np.errstate(invalid="ignore"):
            out[i] = np.where(now < latest, now, now - latest)
        latest = np.where(np.isnan(now), latest, now)
    return out
