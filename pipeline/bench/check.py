"""Compares windows and roll-ups in ClickHouse with a plain recomputation from the raw samples, for a few devices."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
from clickhouse_connect.driver.client import Client

from schemas.tables import DATABASE

DEVICES = 5
METRICS = ("util_pct", "power_w", "temp_c")


def check(client: Client) -> dict[str, Any]:
    """Returns {"devices", "windows", "rollups", "wrong"}: the rows compared, and how many differ.

    Nothing to compare counts as wrong.
    """
    names = client.query(
        f"SELECT place, name FROM {DATABASE}.identities ARRAY JOIN rack AS place, device AS name "
        f"WHERE who IN (SELECT who FROM {DATABASE}.gpu_frames) GROUP BY place, name ORDER BY cityHash64(name) "
        f"LIMIT {DEVICES}"
    ).result_rows
    windows = rollups = wrong = 0
    for rack, name in names:
        place = {"r": rack, "d": name}
        raw = client.query(
            f"SELECT ts, {', '.join(METRICS)}, energy_j FROM {DATABASE}.gpu WHERE rack = {{r:String}} AND "
            f"device = {{d:String}} ORDER BY ts",
            parameters=place,
        ).result_rows
        at = np.array([_ms(r[0]) for r in raw])
        values = np.array([[np.nan if v is None else v for v in r[1:]] for r in raw], np.float64)
        columns = ", ".join(f"{m}_{s}" for m in METRICS for s in ("mean", "max", "p95"))
        for end, width, samples, *found in client.query(
            f"SELECT ts, window_s, samples, {columns} FROM {DATABASE}.device_windows WHERE kind = 'gpu' AND "
            f"rack = {{r:String}} AND device = {{d:String}}",
            parameters=place,
        ).result_rows:
            inside = (at >= _ms(end) - width * 1000) & (at < _ms(end))
            windows += 1
            wrong += samples != inside.sum() or not _same(
                found, [f(values[inside, k]) for k in range(3) for f in (np.mean, np.max, _p95)]
            )
        for end, samples, *found in client.query(
            f"SELECT ts, samples, {', '.join(f'{m}_mean, {m}_max' for m in METRICS)} FROM {DATABASE}.gpu_10s "
            "WHERE rack = {r:String} AND device = {d:String}",
            parameters=place,
        ).result_rows:
            inside = (at >= _ms(end) - 10_000) & (at < _ms(end))
            rollups += 1
            wrong += samples != inside.sum() or not _same(
                found, [f(values[inside, k]) for k in range(3) for f in (np.mean, np.max)]
            )
    return {
        "devices": len(names),
        "windows": windows,
        "rollups": rollups,
        "wrong": int(wrong) + (not windows or not rollups),
    }


def _same(found: list[float | None], expected: list[Any]) -> bool:
    return all(
        np.isclose(np.nan if f is None else f, e, rtol=1e-4, atol=1e-3, equal_nan=True)
        for f, e in zip(found, expected, strict=True)
    )


def _p95(values: Any) -> float:
    return float(np.quantile(values, 0.95))


def _ms(moment: dt.datetime) -> int:
    return round(moment.replace(tzinfo=moment.tzinfo or dt.UTC).timestamp() * 1000)
