"""Closed panes as rows of the derived streams: roll-ups, windows, rack parts, scores, incidents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.compute import stats
from pipeline.compute.pane import Pane
from pipeline.compute.registry import Registry
from pipeline.compute.scores import Scored
from schemas.arrays import Bools, Floats, Ints
from schemas.catalogue import KINDS
from schemas.derived import INCIDENT, PART, ROLLUPS, SCORE, WINDOW
from schemas.frame import IDENTITY
from schemas.metric import Metric

#: Causes that are no metric.
SILENT, FROZEN = -2, -3
_SPECIAL = {SILENT: "silent", FROZEN: "frozen", -1: ""}
#: A GPU is busy at a tick when its utilization is at least this.
BUSY_PCT = 10.0


def _who(registry: Registry, rows: Ints) -> dict[str, pa.Array]:
    return {name: registry.take(name, rows) for name in IDENTITY}


def rollup(kind: str, end: int, registry: Registry, rows: Ints, pane: Pane, means: Floats, grown: Floats) -> pa.RecordBatch:
    """Every metric of one pane, of the devices that gave a sample."""
    columns: dict[str, Any] = {"ts": np.full(len(rows), end), **_who(registry, rows), "samples": pane.samples[rows]}
    counter = 0
    for index, metric in enumerate(KINDS[kind].metrics):
        if metric.kind == "counter":
            columns[f"{metric.name}_inc"] = grown[counter, rows]
            counter += 1
            continue
        if "mean" in metric.rolled:
            columns[f"{metric.name}_mean"] = means[index, rows]
        columns[f"{metric.name}_max"] = pane.high[index, rows]
    return ROLLUPS[kind].build(columns)


@dataclass(slots=True)
class Rolled:
    """Window statistics per device: float64[devices] by metric, NaN where nothing was measured."""

    mean: dict[str, Floats]
    high: dict[str, Floats]
    p95: dict[str, Floats]
    samples: Ints
    busy: Floats
    energy: Floats

    @property
    def present(self) -> Bools:
        return np.asarray(self.samples > 0)

    @staticmethod
    def of(names: Sequence[str], samples: Floats, energy: Floats) -> Rolled:
        """`samples` is float32[ticks, metrics, devices] in the order of `names`."""
        there = ~np.isnan(samples)
        columns = {name: samples[:, i] for i, name in enumerate(names)}
        busy = np.full(samples.shape[2], np.nan)
        if "util_pct" in columns:
            with np.errstate(invalid="ignore", divide="ignore"):
                util = columns["util_pct"]
                busy = (util >= BUSY_PCT).sum(axis=0) / (~np.isnan(util)).sum(axis=0)
        return Rolled({n: stats.mean(c) for n, c in columns.items()}, {n: np.fmax.reduce(c) for n, c in columns.items()},
                      {n: stats.quantile(c, 0.95) for n, c in columns.items()}, there.any(axis=1).sum(axis=0), busy, energy)


def window(kind: str, end: int, width_s: int, registry: Registry, rolled: Rolled) -> pa.RecordBatch:
    rows = np.flatnonzero(rolled.present)
    columns: dict[str, Any] = {"ts": np.full(len(rows), end), "kind": [kind] * len(rows), "window_s": np.full(len(rows), width_s),
                               **_who(registry, rows), "samples": rolled.samples[rows], "busy_fraction": rolled.busy[rows],
                               "energy_j": rolled.energy[rows]}
    for name, _ in WINDOW.columns:
        if name not in columns:
            metric, _, stat = name.rpartition("_")
            source = {"mean": rolled.mean, "max": rolled.high, "p95": rolled.p95}[stat]
            columns[name] = source[metric][rows] if metric in source else np.full(len(rows), np.nan)
    return WINDOW.build(columns)


def part(kind: str, end: int, width_s: int, registry: Registry, names: Sequence[str], samples: Floats,
         rolled: Rolled) -> pa.RecordBatch:
    """Per rack and model: what rack and site figures are joined from. Sums of power are sums of the devices' means."""
    group, groups = registry.group("site", "rack", "model")
    out: dict[str, list[Any]] = {name: [] for name, _ in PART.columns}
    order = np.argsort(group, kind="stable")
    edges = np.searchsorted(group[order], np.arange(groups + 1))
    for g in range(groups):
        rows = order[edges[g] : edges[g + 1]]
        here = rows[rolled.present[rows]]
        if not len(here):
            continue
        row: dict[str, Any] = {name: float("nan") for name, _ in PART.columns}
        row |= {"ts": end, "kind": kind, "window_s": width_s, "site": registry.columns["site"][rows[0]],
                "rack": registry.columns["rack"][rows[0]], "model": registry.columns["model"][rows[0]], "devices": len(here),
                "expected": len(rows),
                "coverage": float(rolled.samples[here].mean()) / len(samples), "util_counts": []}
        for name in ("util_pct", "temp_c"):
            if name in rolled.mean:
                flat = samples[:, list(names).index(name), here].ravel()
                flat = flat[~np.isnan(flat)]
                if len(flat):
                    row[f"{name}_mean"] = float(flat.mean(dtype=np.float64))
                    row[f"{name}_max"] = float(flat.max())
                    row[f"{name}_p95"] = float(stats.quantile(flat[:, None], 0.95)[0])
                    if name == "util_pct":
                        row["busy_fraction"] = float((flat >= BUSY_PCT).mean())
                        row["util_counts"] = np.bincount(np.rint(flat).astype(np.int64), minlength=101).tolist()
        if "power_w" in rolled.mean:
            row["power_w"] = _total(rolled.mean["power_w"][here])
        row["energy_j"] = _total(rolled.energy[here])
        for name in ("flow_lpm", "supply_temp_c", "return_temp_c", "heat_w"):
            if name in rolled.mean:
                value = rolled.mean[name][here]
                row[name] = _total(value) if name in ("flow_lpm", "heat_w") else float(np.nanmean(value)) if (~np.isnan(value)).any() else float("nan")
        for name, value in row.items():
            out[name].append(value)
    return PART.build(out)


def _total(values: Floats) -> float:
    return float(np.nansum(values)) if (~np.isnan(values)).any() else float("nan")


def cause_name(cause: int, metrics: Sequence[Metric]) -> str:
    return metrics[cause].name if cause >= 0 else _SPECIAL[cause]


def scores(kind: str, end: int, registry: Registry, rows: Ints, scored: Scored, metrics: Sequence[Metric]) -> pa.RecordBatch:
    return SCORE.build({
        "ts": np.full(len(rows), end), "kind": [kind] * len(rows), **_who(registry, rows), "score": scored.score[rows],
        "cause": [cause_name(int(c), metrics) for c in scored.cause[rows]], "value": scored.value[rows],
        "expected": scored.expected[rows], "z_self": scored.z_self[rows], "z_peer": scored.z_peer[rows]})


def score_rows(registry: Registry, rows: Ints, scored: Scored, metrics: Sequence[Metric]) -> Iterator[tuple[dict[str, str], float, str]]:
    for row in rows.tolist():
        identity = {name: registry.columns[name][row] for name in IDENTITY}
        yield identity, float(scored.score[row]), cause_name(int(scored.cause[row]), metrics)


def incidents(rows: list[dict[str, Any]]) -> pa.RecordBatch:
    return INCIDENT.build_rows(rows)
