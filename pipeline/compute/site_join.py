"""Joining one window's parts into rack and site columns."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.compute import physics
from schemas.arrays import Bools, Floats, Ints
from schemas.catalogue import KINDS

Key = tuple[str, int, int]  # site, window in seconds, its end in ms

#: The kinds whose power is part of what a rack draws.
LOADS = tuple(kind for kind, catalogue in KINDS.items() if catalogue.load)
#: The parts that other rack and site figures are made of: (kind, model), "" is any.
ROLES: dict[str, tuple[tuple[str, str], ...]] = {
    "gpus": (("gpu", ""),),
    "rack meter": (("power", "rack-meter"),),
    "rack loop": (("cooling", "rack-loop"),),
    "utility meter": (("", "utility-meter"),),
    "plant": (("cooling", "plant"),),
}


class JoinedWindow:
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

    def _where(self, role: str) -> Bools:
        """Returns which parts have a role of ROLES."""
        chosen = np.zeros(self._table.num_rows, bool)
        for kind, model in ROLES[role]:
            chosen |= self._matches("kind", kind) & self._matches("model", model)
        return chosen

    def _matches(self, column: str, wanted: str) -> Bools:
        return np.asarray(self._is[column] == wanted) if wanted else np.ones(self._table.num_rows, bool)

    def _sum(self, where: Bools, name: str, by: Ints, groups: int) -> Floats:
        """Returns the sum by group of known values; NaN where none is known."""
        values = np.asarray(values_of(self._table, name), np.float64)
        known = where & ~np.isnan(values)
        total = np.bincount(by[known], weights=values[known], minlength=groups)
        return np.where(np.bincount(by[known], minlength=groups) > 0, total, np.nan)

    def _weighted(self, where: Bools, name: str, by: Ints, groups: int) -> Floats:
        """Returns the mean by group, weighted by devices."""
        values, devices = (
            np.asarray(values_of(self._table, name), np.float64),
            np.asarray(values_of(self._table, "devices"), np.float64),
        )
        known = where & ~np.isnan(values)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(
                np.bincount(by[known], weights=values[known] * devices[known], minlength=groups)
                / np.bincount(by[known], weights=devices[known], minlength=groups)
            )

    def _max(self, where: Bools, name: str, by: Ints, groups: int) -> Floats:
        values = np.asarray(values_of(self._table, name), np.float64)
        found = np.full(groups, np.nan)
        np.fmax.at(found, by[where], values[where])
        return found

    def _only(self, where: Bools, name: str, groups: int) -> Floats:
        """Returns the value of each rack's first such part; NaN where a rack has none."""
        values, rows = np.asarray(values_of(self._table, name), np.float64), np.flatnonzero(where)[::-1]
        found = np.full(groups, np.nan)
        found[self._rack[rows]] = values[rows]
        return found

    def _util_p95(self, gpus: Bools, racks: int) -> Floats:
        """Returns each rack's p95 of GPU utilization: exact with one model of GPU, to 1 % over several models."""
        found = self._only(gpus, "util_pct_p95", racks)
        for rack in np.flatnonzero(np.bincount(self._rack[gpus], minlength=racks) > 1):
            found[rack] = _from_counts(self._util_counts(gpus & (self._rack == rack)), 0.95)
        return found

    def _util_counts(self, where: Bools) -> Ints:
        """Returns int64[101]: how often each whole utilization percentage occurred."""
        counts = self._table.column("util_counts").filter(pa.array(where)).combine_chunks().flatten()
        return np.asarray(np.asarray(counts).reshape(-1, 101).sum(axis=0))

    def racks(self) -> dict[str, Any]:
        """Returns the columns of RACK, sorted by rack; parts of no rack (CDUs, the utility meter) are left out.

        With several models of GPU in a rack, `model` is the first by name, and the p95 of temperature is that of the
        model with the highest.
        """
        site, window_s, ts = self.key
        by, count = self._rack, len(self._names)
        gpus, meter, loop = (self._where(role) for role in ("gpus", "rack meter", "rack loop"))
        models = np.full(count, "", object)
        rows = np.flatnonzero(gpus)[::-1]
        models[by[rows]] = self._is["model"][rows]
        power, heat = self._only(meter, "power_w", count), self._only(loop, "heat_w", count)
        coverage = np.full(count, np.inf)
        np.minimum.at(coverage, by, np.asarray(values_of(self._table, "coverage"), np.float64))
        kinds = sum((np.bincount(by[self._matches("kind", k)], minlength=count) > 0).astype(np.uint8) for k in KINDS)
        columns: dict[str, Any] = {
            "ts": np.full(count, ts),
            "window_s": np.full(count, window_s),
            "site": np.full(count, site, object),
            "rack": self._names,
            "model": models,
            "gpus": np.nan_to_num(self._sum(gpus, "devices", by, count)),
            "gpus_expected": np.nan_to_num(self._sum(gpus, "expected", by, count)),
            "util_pct_mean": self._weighted(gpus, "util_pct_mean", by, count),
            "util_pct_max": self._max(gpus, "util_pct_max", by, count),
            "util_pct_p95": self._util_p95(gpus, count),
            "busy_fraction": self._weighted(gpus, "busy_fraction", by, count),
            **{f"{k}_power_w": self._sum(self._matches("kind", k), "power_w", by, count) for k in LOADS},
            "gpu_temp_c_mean": self._weighted(gpus, "temp_c_mean", by, count),
            "gpu_temp_c_max": self._max(gpus, "temp_c_max", by, count),
            "gpu_temp_c_p95": self._max(gpus, "temp_c_p95", by, count),
            "gpu_energy_j": self._sum(gpus, "energy_j", by, count),
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
        """Returns the site's row of SITE; `racks` are the columns of its racks."""
        site, window_s, ts = self.key
        gpus, everyone = self._where("gpus"), np.zeros(self._table.num_rows, np.int64)

        def one(found: Floats) -> float:
            return float(found[0])

        it, heat, balance = (racks[n] for n in ("rack_power_w", "heat_w", "heat_balance"))
        facility = one(self._sum(self._where("utility meter"), "power_w", everyone, 1))
        closing = ~np.isnan(balance)
        return {
            "ts": ts,
            "window_s": window_s,
            "site": site,
            "racks": len(racks["rack"]),
            "gpus": int(np.nan_to_num(one(self._sum(gpus, "devices", everyone, 1)))),
            "gpus_expected": int(np.nan_to_num(one(self._sum(gpus, "expected", everyone, 1)))),
            "util_pct_mean": one(self._weighted(gpus, "util_pct_mean", everyone, 1)),
            "util_pct_max": one(self._max(gpus, "util_pct_max", everyone, 1)),
            "util_pct_p95": _from_counts(self._util_counts(gpus), 0.95),
            "busy_fraction": one(self._weighted(gpus, "busy_fraction", everyone, 1)),
            "gpu_power_w": one(self._sum(gpus, "power_w", everyone, 1)),
            "gpu_energy_j": one(self._sum(gpus, "energy_j", everyone, 1)),
            "it_power_w": _total(it),
            "facility_power_w": facility,
            "cooling_power_w": one(self._sum(self._where("plant"), "power_w", everyone, 1)),
            "heat_w": _total(heat),
            "pue": physics.pue(facility, _total(it)),
            "heat_balance": float(heat[closing].sum() / it[closing].sum()) if closing.any() else math.nan,
        }


def values_of(batch: pa.RecordBatch | pa.Table, name: str) -> Floats:
    """Returns a number column; NaN for one that the parts do not carry."""
    index = batch.schema.get_field_index(name)
    return np.asarray(batch.column(index)) if index >= 0 else np.full(batch.num_rows, np.nan)


def _total(values: Floats) -> float:
    known = values[~np.isnan(values)]
    return float(known.sum()) if len(known) else math.nan


def _from_counts(counts: Ints, q: float) -> float:
    """Returns the quantile of whole percentages from how often each occurred."""
    total = int(np.sum(counts))
    if not total:
        return math.nan
    return float(np.searchsorted(np.cumsum(counts), q * (total - 1), side="right"))
