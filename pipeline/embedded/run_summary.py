"""The summary of a run: what producers counted against what ClickHouse holds, so that the two can disagree."""

from __future__ import annotations

import datetime as dt
from typing import Any

from clickhouse_connect.driver.client import Client

from pipeline.store.tables import TABLES
from schemas.catalogue import KINDS
from schemas.tables import DATABASE


def stored(client: Client, first_ms: int, last_ms: int) -> dict[str, tuple[int, int]]:
    """Per kind: (rows stored, distinct samples among them) in the time range that was produced.

    A moment that is stored as one frame is counted by its rows; where there are several, their devices are told apart
    by name.
    """
    found = {}
    for kind in KINDS:
        span, rack = (
            "ts BETWEEN {first:DateTime64(3)} AND {last:DateTime64(3)}",
            "rack, " if TABLES[kind].by_rack else "",
        )
        frames = (
            f"(SELECT site, {rack}ts, who, any(rows) AS size, sum(rows) AS kept FROM {DATABASE}.{kind}_frames "
            f"WHERE {span} GROUP BY site, {rack}ts, who)"
        )
        moments = (
            f"(SELECT site, {rack}ts, count() AS whos, sum(size) AS sizes, sum(kept) AS kept FROM {frames} "
            f"GROUP BY site, {rack}ts)"
        )
        parameters = {"first": _moment(first_ms), "last": _moment(last_ms)}
        kept, alone = client.query(
            f"SELECT sum(kept), sumIf(sizes, whos = 1) FROM {moments}", parameters=parameters
        ).result_rows[0]
        shared = client.query(
            f"SELECT uniqExact(site, rack, device, ts) FROM {DATABASE}.{kind} WHERE {span} AND (site, {rack}ts) IN "
            f"(SELECT site, {rack}ts FROM {moments} WHERE whos > 1)",
            parameters=parameters,
        ).result_rows[0][0]
        found[kind] = (int(kept), int(alone) + int(shared))
    return found


def bytes_per_value(client: Client, metrics: int) -> float | None:
    """Bytes on disk of the raw GPU table, everything counted, by rows times metrics a GPU; None while it is empty."""
    size = client.query(
        "SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND database = {db:String} AND table = 'gpu_frames'",
        parameters={"db": DATABASE},
    ).result_rows[0][0]
    rows = client.query(f"SELECT sum(rows) FROM {DATABASE}.gpu_frames").result_rows[0][0]
    return round(int(size) / int(rows) / metrics, 4) if rows and metrics else None


def summary(
    client: Client,
    statuses: dict[str, dict[str, Any]],
    cpu_s: dict[str, float],
    *,
    tick_s: float,
    wall_s: float,
    drained: bool,
    rotations: int,
    source: str,
) -> dict[str, Any]:
    """The keys that DESIGN names, and a few more. Times are seconds."""
    producer, sink = statuses.get("producer", {}), statuses.get("sink", {})
    rows = {k: int(producer.get("rows", {}).get(f"telemetry.{k}", 0)) for k in KINDS}
    first, last = int(producer.get("first_ts_ms", 0)), int(producer.get("last_ts_ms", 0))
    held = stored(client, first, last) if first else dict.fromkeys(KINDS, (0, 0))
    dead = int(sink.get("dead_letters", 0))
    produced, kept, unique = sum(rows.values()), sum(a for a, _ in held.values()), sum(b for _, b in held.values())
    fresh = sink.get("freshness", {})
    span = (last - first) / 1000 + tick_s if first else 0.0
    return {
        "source": producer.get("source", source),
        "frames_produced": sum(v for t, v in producer.get("frames", {}).items() if t.startswith("telemetry.")),
        "rows_produced": produced,
        "rows_stored": kept,
        "rows_missing": produced - unique,
        "rows_duplicate": kept - unique,
        "rows_by_kind": {k: {"produced": rows[k], "stored": held[k][0]} for k in KINDS},
        "dead_letters": dead,
        "dead": sink.get("dead", {}),
        "freshness_p50_s": fresh.get("p50_s"),
        "freshness_p99_s": fresh.get("p99_s"),
        "real_time_factor": round(pace(float(fresh.get("slope") or 0.0)), 4) if span else None,
        "event_time_s": span,
        "wall_s": round(wall_s, 2),
        "cpu_s": cpu_s,
        "peak_rss_mb": {n: s["peak_rss_mb"] for n, s in statuses.items() if "peak_rss_mb" in s},
        "gpus": int(producer.get("devices", {}).get("gpu", 0)),
        "metrics_per_gpu": int(producer.get("metrics", {}).get("gpu", 0)),
        "bytes_per_value": bytes_per_value(client, int(producer.get("metrics", {}).get("gpu", 0))),
        "tick_s": tick_s,
        "missing_values": producer.get("missing", {}),
        "silent": producer.get("silent", {}),
        "drained": drained,
        "broker_rotations": rotations,
        "restarts": statuses.get("_restarts", {}),
    }


def _moment(ms: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(ms / 1000, dt.UTC)


def pace(slope: float) -> float:
    """Seconds of event time that storage takes in a second: 1 when samples are as fresh at the end as at the beginning,
    2 at most, for a backlog
    that melts."""
    return 1 / max(0.5, 1 + slope)
