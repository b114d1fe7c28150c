"""Rows of the derived streams: roll-ups, windows, rack parts, scores, incidents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.compute.devices import Devices
from pipeline.compute.groups import Groups
from pipeline.compute.incidents import Judgement
from pipeline.compute.scores import Scored
from pipeline.compute.windows import Pane, WindowStats
from schemas.arrays import Bools, Floats, Ints
from schemas.catalogue import KINDS
from schemas.derived import INCIDENT, PART, ROLLUPS, SCORE, WINDOW
from schemas.identity import IDENTITY

#: Counters whose increase a window carries, under the counter's own name.
WINDOW_COUNTERS = tuple(
    dict.fromkeys(m.name for c in KINDS.values() for m in c.metrics if m.windowed and m.kind == "counter")
)
#: Columns of PART that are sums, and averages, of the devices' means.
SUMMED, AVERAGED = ("power_w", "flow_lpm", "heat_w"), ("supply_temp_c", "return_temp_c")


@dataclass(slots=True)
class ClosedPane:
    """What one closed pane gives: batches by derived stream name, and the pane's end, ms."""

    end_ms: int
    batches: dict[str, pa.RecordBatch] = field(default_factory=dict)


def _identity(devices: Devices, rows: Ints | slice) -> dict[str, pa.Array]:
    return {name: devices.column(name, rows) for name in IDENTITY}


def rollup_rows(kind: str, end: int, devices: Devices, rows: Ints | slice, pane: Pane) -> pa.RecordBatch:
    """Returns every metric of one pane for the devices in `rows`; metrics that no device gave are left out."""
    samples = pane.samples[rows]
    columns: dict[str, Any] = {"ts": np.full(len(samples), end), **_identity(devices, rows), "samples": samples}
    counter = 0
    for index, metric in enumerate(KINDS[kind].metrics):
        if metric.kind == "counter":
            stats_of = {"inc": pane.increase[counter]}
            counter += 1
        else:
            stats_of = {"mean": pane.mean[index], "max": pane.max[index]}
        if not np.isnan(stats_of[metric.rolled[-1]]).all():
            columns |= {f"{metric.name}_{name}": stats_of[name][rows] for name in metric.rolled}
    return ROLLUPS[kind].build(columns)


def window_rows(kind: str, end: int, width_s: int, devices: Devices, rolled: WindowStats) -> pa.RecordBatch:
    """Returns the window's row of every device that gave a sample, with all windowed metrics of the kind."""
    rows = devices.present_rows(rolled.present)
    samples = rolled.samples[rows]
    unknown = np.full(len(samples), np.nan)
    columns: dict[str, Any] = {
        "ts": np.full(len(samples), end),
        "kind": pa.repeat(kind, len(samples)),
        "window_s": np.full(len(samples), width_s),
        **_identity(devices, rows),
        "samples": samples,
        **{name: rolled.increase[name][rows] if name in rolled.increase else unknown for name in WINDOW_COUNTERS},
    }
    if "util_pct" in rolled.names:
        columns["busy_fraction"] = rolled.busy[rows]
    for stat, source in (("mean", rolled.mean), ("max", rolled.max), ("p95", rolled.p95)):
        columns |= {f"{name}_{stat}": source[name][rows] for name in rolled.names}
    return WINDOW.build(columns)


def part_rows(
    kind: str, end: int, width_s: int, devices: Devices, rolled: WindowStats, groups: Groups, expected: Bools
) -> pa.RecordBatch:
    """Returns a row per rack and model, from which rack and site figures are joined; power is the sum of the devices'
    means. A rack of which nothing is heard has a row too while devices of it are `expected`.
    """
    present = rolled.present
    count = np.bincount(groups.group, weights=present, minlength=groups.count)
    ought = np.bincount(groups.group, weights=present | expected, minlength=groups.count)
    here = np.flatnonzero(ought)
    some = np.zeros(groups.count, np.int64)
    some[groups.group] = np.arange(len(groups.group))  # any device of each group

    def total(values: Floats) -> Floats:
        known = ~np.isnan(values) & present
        found = np.bincount(groups.group, weights=np.where(known, values, 0.0), minlength=groups.count)
        return np.where(np.bincount(groups.group, weights=known, minlength=groups.count) > 0, found, np.nan)[here]

    def average(values: Floats) -> Floats:
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(total(values) / total(np.where(np.isnan(values), np.nan, 1.0)))

    unknown = np.full(len(here), np.nan)
    energy = rolled.increase.get("energy_j")
    columns: dict[str, Any] = {
        "ts": np.full(len(here), end),
        "kind": pa.repeat(kind, len(here)),
        "window_s": np.full(len(here), width_s),
        **{n: devices.column(n, some[here]) for n in ("site", "rack", "model")},
        "devices": count[here],
        "expected": ought[here],
        "coverage": np.bincount(groups.group, weights=rolled.samples, minlength=groups.count)[here]
        / np.maximum(count[here], 1)
        / rolled.ticks,
        "energy_j": unknown if energy is None else total(energy),
    }
    columns |= {name: values[here] for name, values in rolled.parts.items()}
    columns |= {name: total(rolled.mean[name]) if name in rolled.names else unknown for name in SUMMED}
    columns |= {name: average(rolled.mean[name]) if name in rolled.names else unknown for name in AVERAGED}
    counts = rolled.util_counts[here]
    lists = np.where(counts.any(axis=1), 101, 0)
    columns["util_counts"] = pa.ListArray.from_arrays(
        pa.array(np.concatenate([[0], np.cumsum(lists)]), pa.int32()), pa.array(counts[lists > 0].ravel())
    )
    return PART.build(columns)


def score_rows(
    kind: str, end: int, devices: Devices, rows: Ints, scored: Scored, jobs: Sequence[str]
) -> pa.RecordBatch:
    """Returns the scores of the devices in `rows`, each with its cause and the job that holds it."""
    return SCORE.build(
        {
            "ts": np.full(len(rows), end),
            "kind": [kind] * len(rows),
            **_identity(devices, rows),
            "job": jobs,
            "score": scored.score[rows],
            "cause": scored.cause[rows].tolist(),
            "value": scored.value[rows],
            "expected": scored.expected[rows],
            "z_self": scored.z_self[rows],
            "z_peer": scored.z_peer[rows],
        }
    )


def judgements(devices: Devices, rows: Ints, scored: Scored, jobs: Sequence[str]) -> Iterator[Judgement]:
    """Yields what the detector found of the devices in `rows`, as incidents take it."""
    for row, job in zip(rows.tolist(), jobs, strict=True):
        identity = {name: devices.columns[name][row] for name in IDENTITY}
        yield Judgement(identity, float(scored.score[row]), scored.cause[row], job)


def incident_rows(rows: list[dict[str, Any]]) -> pa.RecordBatch:
    return INCIDENT.build_rows(rows)
