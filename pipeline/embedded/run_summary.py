"""The summary of a run: the producer's counts against ClickHouse's, so that the two can disagree."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from clickhouse_connect.driver.client import Client

from pipeline.monitoring.statuses import ProcessStatus, ProducerStatus, SinkStatus, status_of
from pipeline.store.tables import TABLES
from schemas.catalogue import KINDS
from schemas.tables import DATABASE


def stored(client: Client, first_ms: int, last_ms: int) -> dict[str, tuple[int, int]]:
    """Per kind: (rows stored, distinct samples among them) in the time range that was produced.

    A tick that is stored as one frame counts by its rows; of several frames of a tick, distinct devices count.
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
    statuses: Mapping[str, ProcessStatus],
    cpu_s: dict[str, float],
    *,
    tick_s: float,
    wall_s: float,
    drained: bool,
    recycles: int,
    source: str,
) -> dict[str, Any]:
    """The keys of a run's JSON summary, without `restarts`. Times are seconds."""
    producer, sink = status_of(statuses, "producer", ProducerStatus), status_of(statuses, "sink", SinkStatus)
    rows = {k: producer.rows.get(f"telemetry.{k}", 0) for k in KINDS}
    first, last = producer.first_ts_ms, producer.last_ts_ms
    held = stored(client, first, last) if first else dict.fromkeys(KINDS, (0, 0))
    produced, kept, unique = sum(rows.values()), sum(a for a, _ in held.values()), sum(b for _, b in held.values())
    span = (last - first) / 1000 + tick_s if first else 0.0
    return {
        "source": producer.source or source,
        "frames_produced": sum(v for t, v in producer.frames.items() if t.startswith("telemetry.")),
        "rows_produced": produced,
        "rows_stored": kept,
        "rows_missing": produced - unique,
        "rows_duplicate": kept - unique,
        "refused_rows": producer.refused_rows,
        "refused_messages": producer.refused_messages,
        "rows_by_kind": {k: {"produced": rows[k], "stored": held[k][0]} for k in KINDS},
        "dead_letters": sink.dead_letters,
        "dead": sink.dead,
        "freshness_p50_s": sink.freshness.p50_s,
        "freshness_p99_s": sink.freshness.p99_s,
        "real_time_factor": round(pace(sink.freshness.slope), 4) if span else None,
        "event_time_s": span,
        "wall_s": round(wall_s, 2),
        "cpu_s": cpu_s,
        "peak_rss_mb": {n: s.peak_rss_mb for n, s in statuses.items() if s.peak_rss_mb},
        "gpus": producer.devices.get("gpu", 0),
        "metrics_per_gpu": producer.metrics.get("gpu", 0),
        "bytes_per_value": bytes_per_value(client, producer.metrics.get("gpu", 0)),
        "tick_s": tick_s,
        "missing_values": producer.missing,
        "silent": producer.silent,
        "drained": drained,
        "broker_rotations": recycles,
    }


def _moment(ms: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(ms / 1000, dt.UTC)


def pace(slope: float) -> float:
    """Seconds of event time stored in a second: 1 when samples are as fresh at the end as at the beginning, at most 2,
    while a backlog shrinks.
    """
    return 1 / max(0.5, 1 + slope)
