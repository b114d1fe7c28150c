"""The site: joins the kinds' parts into rack rows (with heat balance) and site rows (fleet utilization, PUE). Pure
numpy.

Parts arrive from many partitions in any order. Whatever window a new part touches is computed again from all its parts,
in sorted order, so the last row of a key is the same however they came; the store keeps the last.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.compute import physics, scores
from pipeline.compute.incidents import Incidents
from schemas.arrays import Bools, Floats, Ints
from schemas.derived import INCIDENT, PANE_S, RACK, SCORE, SITE
from schemas.thresholds import HEAT_BALANCE

KEEP_MS = 600_000
BALANCE_WINDOW_S = 60
#: A balance is judged once its window is this full: a half-filled one may hold only the rise of a load step.
BALANCE_COVERAGE = 0.75

Key = tuple[str, int, int]  # site, window in seconds, its end in ms
Judged = tuple[dict[str, str], float, str]


@dataclass(slots=True)
class _Window:
    """The parts of one window so far; `members` are the (rack, kind, model) among them."""

    batches: list[pa.RecordBatch] = field(default_factory=list)
    members: set[tuple[str, str, str]] = field(default_factory=set)
    judged: list[Judged] = field(default_factory=list)


class SiteEngine:
    """Feed `add` batches of the `part` stream; it gives batches of `rack`, `site`, `score` and `incident`."""

    def __init__(self) -> None:
        self._windows: dict[Key, _Window] = {}
        self._seen_ms = 0
        self._waiting: set[Key] = set()
        self._newest: dict[tuple[str, int], int] = {}
        self.incidents = Incidents("heat_balance", PANE_S * 1000)
        self._judged_ms = 0

    def add(self, batch: pa.RecordBatch) -> dict[str, pa.RecordBatch]:
        touched = set(self._waiting)
        for key, part in _split(batch):
            window = self._windows.setdefault(key, _Window())
            window.batches.append(part)
            window.members.update(zip(*(part.column(n).to_pylist() for n in ("rack", "kind", "model")), strict=True))
            touched.add(key)
            self._seen_ms = max(self._seen_ms, key[2])
            self._newest[key[:2]] = max(self._newest.get(key[:2], 0), key[2])
        ready = {key for key in touched if self._complete(key)}
        self._waiting = touched - ready
        found: dict[str, list[pa.RecordBatch]] = {}
        for key in sorted(ready, key=lambda k: (k[2], k[0], k[1])):
            window = self._windows[key]
            joined = _Joined(key, window.batches)
            racks = joined.racks()
            if len(racks["rack"]):
                found.setdefault("rack", []).append(RACK.build(racks))
            found.setdefault("site", []).append(SITE.build_rows([joined.site(racks)]))
            if key[1] == BALANCE_WINDOW_S:
                judged = _balance_scores(racks)
                if len(judged["rack"]):
                    found.setdefault("score", []).append(SCORE.build(judged))
                window.judged = [
                    (
                        {n: str(judged[n][i]) for n in ("site", "rack", "node", "device", "model", "job")},
                        float(s),
                        "heat_balance",
                    )
                    for i, s in enumerate(judged["score"])
                ]
        for key in [k for k in self._windows if k[2] < self._seen_ms - KEEP_MS]:
            del self._windows[key]
        out = {name: pa.concat_batches(batches) for name, batches in found.items()}
        opened = self._incidents()
        if opened:
            out["incident"] = INCIDENT.build_rows(opened)
        return out

    def _complete(self, key: Key) -> bool:
        """The newest window waits until it has the parts that the one before had, so that people see no half of a site;
        an older one
        waits for nothing."""
        site, window_s, ts = key
        if ts < self._newest[site, window_s]:
            return True
        before = max((t for s, w, t in self._windows if (s, w) == (site, window_s) and t < ts), default=None)
        return before is None or self._windows[key].members >= self._windows[site, window_s, before].members

    def _incidents(self) -> list[dict[str, Any]]:
        """Judges a window once the next one has begun to arrive: then every kind has had its say."""
        due = sorted(
            {ts for _, w, ts in self._windows if w == BALANCE_WINDOW_S and self._judged_ms < ts < self._seen_ms}
        )
        out = []
        self.incidents.adopt(lambda _: True)  # there is one site engine
        for ts in due:
            out += self.incidents.update(
                ts,
                [
                    j
                    for (_, w, at), window in self._windows.items()
                    if w == BALANCE_WINDOW_S and at == ts
                    for j in window.judged
                ],
            )
            self._judged_ms = ts
        return out


def _split(batch: pa.RecordBatch) -> list[tuple[Key, pa.RecordBatch]]:
    """The batch by window, in the order in which windows first appear."""
    sites = batch.column(batch.schema.get_field_index("site")).dictionary_encode()
    code, widths, ends = (
        np.asarray(sites.indices),
        _values(batch, "window_s"),
        np.asarray(batch.column(0).cast(pa.int64())),
    )
    keys = np.stack([code, widths, ends])
    if (keys == keys[:, :1]).all():
        groups = [(0, np.arange(batch.num_rows))]
    else:
        _, first, inverse = np.unique(keys, axis=1, return_index=True, return_inverse=True)
        groups = [(int(first[g]), np.flatnonzero(inverse.ravel() == g)) for g in np.argsort(first)]
    return [
        (
            (str(sites.dictionary[int(code[at])].as_py()), int(widths[at]), int(ends[at])),
            batch if len(rows) == batch.num_rows else batch.take(pa.array(rows)),
        )
        for at, rows in groups
    ]


def _values(batch: pa.RecordBatch | pa.Table, name: str) -> Floats:
    """A number column; NaN for one that the parts do not carry."""
    index = batch.schema.get_field_index(name)
    return np.asarray(batch.column(index)) if index >= 0 else np.full(batch.num_rows, np.nan)


class _Joined:
    """One window's parts, the last of each (rack, kind, model), sorted by these, as columns."""

    def __init__(self, key: Key, batches: list[pa.RecordBatch]) -> None:
        self.key = key
        table = pa.concat_tables([pa.table(b) for b in batches], promote_options="default")
        table = table.append_column("at", pa.array(np.arange(table.num_rows)))
        table = table.take(
            pc.sort_indices(table, [(n, "ascending") for n in ("rack", "kind", "model", "at")])
        ).combine_chunks()
        codes = np.stack(
            [
                np.asarray(table.column(n).combine_chunks().dictionary_encode().indices)
                for n in ("rack", "kind", "model")
            ]
        )
        last = np.concatenate([(codes[:, 1:] != codes[:, :-1]).any(axis=0), [True]])
        self._table = table.filter(pa.array(last)) if not last.all() else table
        names = self._table.column("rack").combine_chunks().dictionary_encode()
        self._rack, self._names = np.asarray(names.indices), names.dictionary.to_numpy(zero_copy_only=False)
        self._is = {f: self._table.column(f).to_numpy(zero_copy_only=False) for f in ("kind", "model")}

    def _where(self, kind: str = "", model: str = "") -> Bools:
        chosen = np.ones(self._table.num_rows, bool)
        for field_name, wanted in (("kind", kind), ("model", model)):
            if wanted:
                chosen &= self._is[field_name] == wanted
        return chosen

    def _sum(self, where: Bools, name: str, by: Ints, groups: int) -> Floats:
        """Sum by group of what is known; NaN where nothing is."""
        values = np.asarray(_values(self._table, name), np.float64)
        known = where & ~np.isnan(values)
        total = np.bincount(by[known], weights=values[known], minlength=groups)
        return np.where(np.bincount(by[known], minlength=groups) > 0, total, np.nan)

    def _weighted(self, where: Bools, name: str, by: Ints, groups: int) -> Floats:
        """Mean by group, weighted by devices."""
        values, devices = (
            np.asarray(_values(self._table, name), np.float64),
            np.asarray(_values(self._table, "devices"), np.float64),
        )
        known = where & ~np.isnan(values)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(
                np.bincount(by[known], weights=values[known] * devices[known], minlength=groups)
                / np.bincount(by[known], weights=devices[known], minlength=groups)
            )

    def _highest(self, where: Bools, name: str, by: Ints, groups: int) -> Floats:
        values = np.asarray(_values(self._table, name), np.float64)
        found = np.full(groups, np.nan)
        np.fmax.at(found, by[where], values[where])
        return found

    def _only(self, where: Bools, name: str, groups: int) -> Floats:
        """The value of each rack's first such part."""
        values, rows = np.asarray(_values(self._table, name), np.float64), np.flatnonzero(where)[::-1]
        found = np.full(groups, np.nan)
        found[self._rack[rows]] = values[rows]
        return found

    def racks(self) -> dict[str, Any]:
        """Columns of RACK, sorted by rack; parts that belong to no rack (CDUs, the utility meter) are left out."""
        site, window_s, ts = self.key
        by, count = self._rack, len(self._names)
        gpus, nodes = self._where("gpu"), self._where("node")
        meter, loop = self._where("power", "rack-meter"), self._where("cooling", "rack-loop")
        models = np.full(count, "", object)
        rows = np.flatnonzero(gpus)[::-1]
        models[by[rows]] = self._is["model"][rows]
        power, heat = self._only(meter, "power_w", count), self._only(loop, "heat_w", count)
        coverage = np.full(count, np.inf)
        np.minimum.at(coverage, by, np.asarray(_values(self._table, "coverage"), np.float64))
        kinds = sum(
            (np.bincount(by[self._where(k)], minlength=count) > 0).astype(np.uint8)
            for k in ("gpu", "node", "power", "cooling")
        )
        columns: dict[str, Any] = {
            "ts": np.full(count, ts),
            "window_s": np.full(count, window_s),
            "site": np.full(count, site, object),
            "rack": self._names,
            "model": models,
            "gpus": np.nan_to_num(self._sum(gpus, "devices", by, count)),
            "gpus_expected": np.nan_to_num(self._sum(gpus, "expected", by, count)),
            "util_pct_mean": self._weighted(gpus, "util_pct_mean", by, count),
            "util_pct_max": self._highest(gpus, "util_pct_max", by, count),
            "util_pct_p95": self._only(gpus, "util_pct_p95", count),
            "busy_fraction": self._weighted(gpus, "busy_fraction", by, count),
            "gpu_power_w": self._sum(gpus, "power_w", by, count),
            "gpu_temp_c_mean": self._weighted(gpus, "temp_c_mean", by, count),
            "gpu_temp_c_max": self._highest(gpus, "temp_c_max", by, count),
            "gpu_temp_c_p95": self._only(gpus, "temp_c_p95", count),
            "gpu_energy_j": self._sum(gpus, "energy_j", by, count),
            "node_power_w": self._sum(nodes, "power_w", by, count),
            "rack_power_w": power,
            "flow_lpm": self._only(loop, "flow_lpm", count),
            "supply_temp_c": self._only(loop, "supply_temp_c", count),
            "return_temp_c": self._only(loop, "return_temp_c", count),
            "heat_w": heat,
            "heat_balance": physics.heat_balance(heat, power),
            "coverage": coverage,
            "kinds": kinds,
        }
        real = self._names != ""
        return columns if real.all() else {name: values[real] for name, values in columns.items()}

    def site(self, racks: dict[str, Any]) -> dict[str, Any]:
        site, window_s, ts = self.key
        gpus, everyone = self._where("gpu"), np.zeros(self._table.num_rows, np.int64)

        def one(found: Floats) -> float:
            return float(found[0])

        it, heat, balance = (racks[n] for n in ("rack_power_w", "heat_w", "heat_balance"))
        facility = one(self._sum(self._where(model="utility-meter"), "power_w", everyone, 1))
        closing = ~np.isnan(balance)
        counts = self._table.column("util_counts").filter(pa.array(gpus)).combine_chunks().flatten()
        return {
            "ts": ts,
            "window_s": window_s,
            "site": site,
            "racks": len(racks["rack"]),
            "gpus": int(np.nan_to_num(one(self._sum(gpus, "devices", everyone, 1)))),
            "gpus_expected": int(np.nan_to_num(one(self._sum(gpus, "expected", everyone, 1)))),
            "util_pct_mean": one(self._weighted(gpus, "util_pct_mean", everyone, 1)),
            "util_pct_max": one(self._highest(gpus, "util_pct_max", everyone, 1)),
            "util_pct_p95": _from_counts(np.asarray(counts).reshape(-1, 101).sum(axis=0), 0.95),
            "busy_fraction": one(self._weighted(gpus, "busy_fraction", everyone, 1)),
            "gpu_power_w": one(self._sum(gpus, "power_w", everyone, 1)),
            "gpu_energy_j": one(self._sum(gpus, "energy_j", everyone, 1)),
            "it_power_w": _total(it),
            "facility_power_w": facility,
            "cooling_power_w": one(self._sum(self._where("cooling", "plant"), "power_w", everyone, 1)),
            "heat_w": _total(heat),
            "pue": physics.pue(facility, _total(it)),
            "heat_balance": float(heat[closing].sum() / it[closing].sum()) if closing.any() else math.nan,
        }


def _balance_scores(racks: dict[str, Any]) -> dict[str, Any]:
    """Scores of racks whose coolant does not carry away what their meter says; none for those that close or cannot be
    judged.
    """
    ratio = racks["heat_balance"]
    z = np.abs(ratio - HEAT_BALANCE) / physics.HEAT_BALANCE_SIGMA
    score = np.where(np.isnan(ratio) | (racks["coverage"] < BALANCE_COVERAGE), 0.0, scores.evidence(z))
    bad = score >= scores.PUBLISH_FROM
    count, rack = int(bad.sum()), racks["rack"][bad]
    return {
        "ts": racks["ts"][bad],
        "kind": ["cooling"] * count,
        "site": racks["site"][bad],
        "rack": rack,
        "node": [""] * count,
        "device": rack,
        "model": ["rack-loop"] * count,
        "job": [""] * count,
        "score": score[bad],
        "cause": ["heat_balance"] * count,
        "value": ratio[bad],
        "expected": np.full(count, HEAT_BALANCE),
        "z_self": np.full(count, np.nan),
        "z_peer": z[bad],
    }


def _total(values: Floats) -> float:
    known = values[~np.isnan(values)]
    return float(known.sum()) if len(known) else math.nan


def _from_counts(counts: Ints, q: float) -> float:
    """Quantile of whole-number percentages from how often each occurred."""
    total = int(np.sum(counts))
    if not total:
        return math.nan
    return float(np.searchsorted(np.cumsum(counts), q * (total - 1), side="right"))
