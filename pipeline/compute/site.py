"""The site: joins the kinds' parts into rack rows (with heat balance) and site rows (fleet utilization, PUE). Pure.

Parts arrive from many partitions in any order. Whatever a new part touches is computed again from all parts of that
window, in sorted order, so the last row of a key is the same however they came; the store keeps the last.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.compute import physics, scores
from pipeline.compute.incidents import Incidents
from schemas.derived import INCIDENT, PANE_S, RACK, SCORE, SITE

KEEP_MS = 600_000
BALANCE_WINDOW_S = 60
#: A balance is judged once its window is this full: a half-filled one may hold only the rise of a load step.
BALANCE_COVERAGE = 0.75

Part = Mapping[str, Any]
_NAN = float("nan")


class SiteEngine:
    """Feed `add` rows of the `part` stream; it gives batches of `rack`, `site`, `score` and `incident`."""

    def __init__(self) -> None:
        self._parts: dict[tuple[str, int, int], dict[tuple[str, str, str], Part]] = {}
        self._seen_ms = 0
        self._waiting: set[tuple[str, int, int]] = set()
        self._newest: dict[tuple[str, int], int] = {}
        self.incidents = Incidents("heat_balance", PANE_S * 1000)
        self._judged_ms = 0

    def add(self, parts: Iterable[Part]) -> dict[str, pa.RecordBatch]:
        touched = set(self._waiting)
        for row in parts:
            key = (row["site"], int(row["window_s"]), int(row["ts"]))
            self._parts.setdefault(key, {})[row["rack"], row["kind"], row["model"]] = row
            touched.add(key)
            self._seen_ms = max(self._seen_ms, key[2])
            self._newest[key[:2]] = max(self._newest.get(key[:2], 0), key[2])
        ready = {key for key in touched if self._complete(key)}
        self._waiting = touched - ready
        racks: list[dict[str, Any]] = []
        sites: list[dict[str, Any]] = []
        judged: list[dict[str, Any]] = []
        for site, window_s, ts in sorted(ready, key=lambda k: (k[2], k[0], k[1])):
            members = self._parts[site, window_s, ts]
            rows = [_rack_row(site, window_s, ts, rack, members) for rack in sorted({r for r, _, _ in members if r})]
            racks += rows
            sites.append(_site_row(site, window_s, ts, members, rows))
            if window_s == BALANCE_WINDOW_S:
                judged += [s for row in rows if (s := _balance_score(row)) is not None]
        for key in [k for k in self._parts if k[2] < self._seen_ms - KEEP_MS]:
            del self._parts[key]
        out: dict[str, pa.RecordBatch] = {}
        for stream, built in ((RACK, racks), (SITE, sites), (SCORE, judged)):
            if built:
                out[stream.name] = stream.build_rows(built)
        opened = self._incidents()
        if opened:
            out["incident"] = INCIDENT.build_rows(opened)
        return out

    def _complete(self, key: tuple[str, int, int]) -> bool:
        """The newest window waits until it has the parts that the one before had, so that people see no half of a site; an older one
        waits for nothing."""
        site, window_s, ts = key
        if ts < self._newest[site, window_s]:
            return True
        before = max((t for s, w, t in self._parts if (s, w) == (site, window_s) and t < ts), default=None)
        return before is None or self._parts[key].keys() >= self._parts[site, window_s, before].keys()

    def _incidents(self) -> list[dict[str, Any]]:
        """Judges a window once the next one has begun to arrive: then every kind has had its say."""
        due = sorted({ts for _, w, ts in self._parts if w == BALANCE_WINDOW_S and self._judged_ms < ts < self._seen_ms})
        out = []
        for ts in due:
            found = []
            for (site, window_s, at), members in self._parts.items():
                if window_s == BALANCE_WINDOW_S and at == ts:
                    for rack in sorted({r for r, _, _ in members if r}):
                        row = _balance_score(_rack_row(site, window_s, ts, rack, members))
                        if row is not None:
                            found.append(({n: row[n] for n in ("site", "rack", "node", "device", "model", "job")}, row["score"], row["cause"]))
            out += self.incidents.update(ts, found)
            self._judged_ms = ts
        return out


def _rack_row(site: str, window_s: int, ts: int, rack: str, members: Mapping[tuple[str, str, str], Part]) -> dict[str, Any]:
    mine = {(kind, model): part for (r, kind, model), part in sorted(members.items()) if r == rack}
    gpus = [p for (kind, _), p in mine.items() if kind == "gpu"]
    nodes = [p for (kind, _), p in mine.items() if kind == "node"]
    meter = mine.get(("power", "rack-meter"))
    loop = mine.get(("cooling", "rack-loop"))
    gpu = gpus[0] if gpus else {}
    power = meter["power_w"] if meter else _NAN
    heat = loop["heat_w"] if loop else _NAN
    return {
        "ts": ts, "window_s": window_s, "site": site, "rack": rack, "model": gpu.get("model", ""),
        "gpus": sum(p["devices"] for p in gpus), "gpus_expected": sum(p["expected"] for p in gpus),
        "util_pct_mean": _weighted(gpus, "util_pct_mean"), "util_pct_max": _highest(gpus, "util_pct_max"),
        "util_pct_p95": gpu.get("util_pct_p95", _NAN), "busy_fraction": _weighted(gpus, "busy_fraction"),
        "gpu_power_w": _sum(gpus, "power_w"), "gpu_temp_c_mean": _weighted(gpus, "temp_c_mean"),
        "gpu_temp_c_max": _highest(gpus, "temp_c_max"), "gpu_temp_c_p95": gpu.get("temp_c_p95", _NAN),
        "gpu_energy_j": _sum(gpus, "energy_j"), "node_power_w": _sum(nodes, "power_w"), "rack_power_w": power,
        "flow_lpm": loop["flow_lpm"] if loop else _NAN, "supply_temp_c": loop["supply_temp_c"] if loop else _NAN,
        "return_temp_c": loop["return_temp_c"] if loop else _NAN, "heat_w": heat,
        "heat_balance": physics.heat_balance(heat, power) if not math.isnan(power) else _NAN,
        "coverage": min((p["coverage"] for p in mine.values()), default=0.0), "kinds": len({kind for kind, _ in mine})}


def _site_row(site: str, window_s: int, ts: int, members: Mapping[tuple[str, str, str], Part], racks: list[dict[str, Any]]) -> dict[str, Any]:
    ordered = [part for _, part in sorted(members.items())]
    gpus = [p for p in ordered if p["kind"] == "gpu"]
    it = _sum(racks, "rack_power_w")
    facility = _sum([p for p in ordered if p["model"] == "utility-meter"], "power_w")
    closing = [r for r in racks if not math.isnan(r["heat_balance"])]
    counts = np.sum([p["util_counts"] for p in gpus if len(p["util_counts"])], axis=0) if gpus else np.zeros(101)
    return {
        "ts": ts, "window_s": window_s, "site": site, "racks": len(racks), "gpus": sum(p["devices"] for p in gpus),
        "gpus_expected": sum(p["expected"] for p in gpus), "util_pct_mean": _weighted(gpus, "util_pct_mean"),
        "util_pct_max": _highest(gpus, "util_pct_max"), "util_pct_p95": _from_counts(counts, 0.95),
        "busy_fraction": _weighted(gpus, "busy_fraction"), "gpu_power_w": _sum(gpus, "power_w"), "gpu_energy_j": _sum(gpus, "energy_j"),
        "it_power_w": it, "facility_power_w": facility,
        "cooling_power_w": _sum([p for p in ordered if p["kind"] == "cooling" and p["model"] == "plant"], "power_w"),
        "heat_w": _sum(racks, "heat_w"), "pue": physics.pue(facility, it),
        "heat_balance": _sum(closing, "heat_w") / _sum(closing, "rack_power_w") if closing else _NAN}


def _balance_score(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """A score for a rack whose coolant does not carry away what its meter says; None when it closes or cannot be judged."""
    ratio = row["heat_balance"]
    if math.isnan(ratio) or row["coverage"] < BALANCE_COVERAGE:
        return None
    z = abs(ratio - physics.HEAT_BALANCE) / physics.HEAT_BALANCE_SIGMA
    score = float(scores.evidence(np.array([z]))[0])
    if score < scores.PUBLISH_FROM:
        return None
    return {"ts": row["ts"], "kind": "cooling", "site": row["site"], "rack": row["rack"], "node": "", "device": row["rack"],
            "model": "rack-loop", "job": "", "score": score, "cause": "heat_balance", "value": ratio,
            "expected": physics.HEAT_BALANCE, "z_self": _NAN, "z_peer": z}


def _values(parts: Iterable[Part], name: str) -> list[tuple[float, float]]:
    return [(float(p[name]), float(p.get("devices", 1))) for p in parts if not math.isnan(p[name])]


def _sum(parts: Iterable[Part], name: str) -> float:
    found = _values(parts, name)
    return math.fsum(v for v, _ in found) if found else _NAN


def _weighted(parts: Iterable[Part], name: str) -> float:
    found = _values(parts, name)
    return math.fsum(v * n for v, n in found) / math.fsum(n for _, n in found) if found else _NAN


def _highest(parts: Iterable[Part], name: str) -> float:
    return max((v for v, _ in _values(parts, name)), default=_NAN)


def _from_counts(counts: Any, q: float) -> float:
    """Quantile of whole-number percentages from how often each occurred."""
    total = int(np.sum(counts))
    if not total:
        return _NAN
    return float(np.searchsorted(np.cumsum(counts), q * (total - 1), side="right"))
