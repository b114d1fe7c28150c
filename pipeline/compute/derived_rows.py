"""Closed panes as rows of the derived streams: roll-ups, windows, rack parts, scores, incidents."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.compute import stats
from pipeline.compute.devices import Devices
from pipeline.compute.groups import Groups
from pipeline.compute.scores import Scored
from schemas.arrays import Bools, Floats, Ints
from schemas.catalogue import KINDS
from schemas.derived import INCIDENT, PART, ROLLUPS, SCORE, WINDOW
from schemas.identity import IDENTITY
from schemas.metric import Metric

#: Causes that are no metric.
SILENT, FROZEN = -2, -3
_SPECIAL = {SILENT: "silent", FROZEN: "frozen", -1: ""}
#: A GPU is busy at a tick when its utilization is at least this.
BUSY_PCT = 10.0


@dataclass(slots=True)
class Pane:
    """One closed pane: float32[metrics, devices] means and maxima, float64[counters, devices] growth, uint32[devices]
    samples.
    """

    mean: Floats
    high: Floats
    grown: Floats
    samples: Ints


def _who(registry: Devices, rows: Ints | slice) -> dict[str, pa.Array]:
    return {name: registry.take(name, rows) for name in IDENTITY}


def rollup(kind: str, end: int, registry: Devices, rows: Ints | slice, pane: Pane) -> pa.RecordBatch:
    """Every metric of one pane, of the devices that gave a sample; metrics that no device gave are left out."""
    samples = pane.samples[rows]
    columns: dict[str, Any] = {"ts": np.full(len(samples), end), **_who(registry, rows), "samples": samples}
    counter = 0
    for index, metric in enumerate(KINDS[kind].metrics):
        if metric.kind == "counter":
            stats_of = {"inc": pane.grown[counter]}
            counter += 1
        else:
            stats_of = {"mean": pane.mean[index], "max": pane.high[index]}
        if not np.isnan(stats_of[metric.rolled[-1]]).all():
            columns |= {f"{metric.name}_{name}": stats_of[name][rows] for name in metric.rolled}
    return ROLLUPS[kind].build(columns)


@dataclass(slots=True)
class WindowStats:
    """One window's statistics: float64[devices] by metric and, of the same samples, float64[groups] by column of
    PART.
    """

    names: Sequence[str]
    mean: dict[str, Floats]
    high: dict[str, Floats]
    p95: dict[str, Floats]
    samples: Ints
    busy: Floats
    energy: Floats
    ticks: int
    parts: dict[str, Floats]
    util_counts: Ints

    @property
    def present(self) -> Bools:
        return np.asarray(self.samples > 0)

    @staticmethod
    def of(
        names: Sequence[str],
        window: Callable[[Ints | slice], Floats],
        ticks: int,
        samples: Ints,
        energy: Floats,
        groups: Groups,
    ) -> WindowStats:
        """`window` gives float32[ticks, metrics, len(rows)] in the order of `names`; it is asked for a few thousand
        devices at a time.
        """

        def empty(size: int) -> Floats:
            return np.full(size, np.nan)

        devices = len(samples)
        mean, high, p95 = ({n: empty(devices) for n in names} for _ in range(3))
        out = WindowStats(
            names,
            mean,
            high,
            p95,
            samples,
            empty(devices),
            energy,
            ticks,
            {f"{n}_{s}": empty(groups.count) for n in ("util_pct", "temp_c") for s in ("mean", "max", "p95")}
            | {"busy_fraction": empty(groups.count)},
            np.zeros((groups.count, 101), np.uint32),
        )
        for block in groups.blocks():
            found = window(block.where)
            means, highs, gaps = stats.mean_and_max(found)
            found = np.ascontiguousarray(found.transpose(1, 2, 0))  # metrics, devices, ticks
            for k, name in enumerate(names):
                mean[name][block.where], high[name][block.where] = means[k], highs[k]
                p95[name][block.where] = stats.quantile_last(found[k], 0.95, gaps[k])
                if name in ("util_pct", "temp_c"):
                    out._share(name, block.groups, block.where, found[k].reshape(len(block.groups), -1), found.shape[2])
        return out

    def _share(self, name: str, groups: Ints, where: Ints | slice, values: Floats, ticks: int) -> None:
        """A block of groups' own statistics, of float32[groups, devices x ticks]."""
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


def window(kind: str, end: int, width_s: int, registry: Devices, rolled: WindowStats) -> pa.RecordBatch:
    """The window's row of every device that gave a sample; only the kind's own metrics are carried."""
    where = registry.chosen(rolled.present)
    samples = rolled.samples[where]
    columns: dict[str, Any] = {
        "ts": np.full(len(samples), end),
        "kind": pa.repeat(kind, len(samples)),
        "window_s": np.full(len(samples), width_s),
        **_who(registry, where),
        "samples": samples,
        "energy_j": rolled.energy[where],
    }
    if "util_pct" in rolled.names:
        columns["busy_fraction"] = rolled.busy[where]
    for stat, source in (("mean", rolled.mean), ("max", rolled.high), ("p95", rolled.p95)):
        columns |= {f"{name}_{stat}": source[name][where] for name in rolled.names if f"{name}_{stat}" in WINDOW.names}
    return WINDOW.build(columns)


def part(kind: str, end: int, width_s: int, registry: Devices, rolled: WindowStats, groups: Groups) -> pa.RecordBatch:
    """Per rack and model: what rack and site figures are joined from. Sums of power are sums of the devices' means."""
    present = rolled.present
    devices = np.bincount(groups.group, weights=present, minlength=groups.count)
    here = np.flatnonzero(devices)
    some = np.zeros(groups.count, np.int64)
    some[groups.group] = np.arange(len(groups.group))  # any device of each group

    def total(values: Floats) -> Floats:
        known = ~np.isnan(values) & present
        found = np.bincount(groups.group, weights=np.where(known, values, 0.0), minlength=groups.count)
        return np.where(np.bincount(groups.group, weights=known, minlength=groups.count) > 0, found, np.nan)[here]

    def average(values: Floats) -> Floats:
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(total(values) / total(np.where(np.isnan(values), np.nan, 1.0)))

    columns: dict[str, Any] = {
        "ts": np.full(len(here), end),
        "kind": pa.repeat(kind, len(here)),
        "window_s": np.full(len(here), width_s),
        **{n: registry.take(n, some[here]) for n in ("site", "rack", "model")},
        "devices": devices[here],
        "expected": groups.sizes[here],
        "coverage": np.bincount(groups.group, weights=rolled.samples, minlength=groups.count)[here]
        / devices[here]
        / rolled.ticks,
        "energy_j": total(rolled.energy),
    }
    columns |= {name: values[here] for name, values in rolled.parts.items()}
    for name in ("power_w", "flow_lpm", "heat_w"):
        columns[name] = total(rolled.mean[name]) if name in rolled.names else np.full(len(here), np.nan)
    for name in ("supply_temp_c", "return_temp_c"):
        columns[name] = average(rolled.mean[name]) if name in rolled.names else np.full(len(here), np.nan)
    counts = rolled.util_counts[here]
    lists = np.where(counts.any(axis=1), 101, 0)
    columns["util_counts"] = pa.ListArray.from_arrays(
        pa.array(np.concatenate([[0], np.cumsum(lists)]), pa.int32()), pa.array(counts[lists > 0].ravel())
    )
    return PART.build(columns)


def cause_name(cause: int, metrics: Sequence[Metric]) -> str:
    return metrics[cause].name if cause >= 0 else _SPECIAL[cause]


def scores(
    kind: str, end: int, registry: Devices, rows: Ints, scored: Scored, metrics: Sequence[Metric]
) -> pa.RecordBatch:
    return SCORE.build(
        {
            "ts": np.full(len(rows), end),
            "kind": [kind] * len(rows),
            **_who(registry, rows),
            "score": scored.score[rows],
            "cause": [cause_name(int(c), metrics) for c in scored.cause[rows]],
            "value": scored.value[rows],
            "expected": scored.expected[rows],
            "z_self": scored.z_self[rows],
            "z_peer": scored.z_peer[rows],
        }
    )


def score_rows(
    registry: Devices, rows: Ints, scored: Scored, metrics: Sequence[Metric]
) -> Iterator[tuple[dict[str, str], float, str]]:
    for row in rows.tolist():
        identity = {name: registry.columns[name][row] for name in IDENTITY}
        yield identity, float(scored.score[row]), cause_name(int(scored.cause[row]), metrics)


def incidents(rows: list[dict[str, Any]]) -> pa.RecordBatch:
    return INCIDENT.build_rows(rows)
