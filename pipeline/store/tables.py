"""ClickHouse tables derived from the catalogue: columns, codecs, partitions, TTL; for one server or a cluster."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from schemas import derived, topics
from schemas.catalogue import KINDS
from schemas.metric import Metric

DATABASE = "gigawatch"

#: Days that each tier is kept.
TTL_DAYS = {"raw": 7, "10s": 30, "1m": 365, "1h": 3650, "derived": 90}

_TS = "DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1))"
_WHO = (("site", "LowCardinality(String)"), ("rack", "LowCardinality(String)"), ("node", "String CODEC(ZSTD(1))"),
        ("device", "String CODEC(ZSTD(1))"), ("model", "LowCardinality(String)"), ("job", "LowCardinality(String)"))
#: Where a row came from: enough to know, after a crash, what has been stored. `kafka_log` is the Kafka cluster's id.
_ORIGIN = (("kafka_log", "LowCardinality(String)"), ("kafka_partition", "UInt16 CODEC(ZSTD(1))"),
           ("kafka_offset", "UInt64 CODEC(DoubleDelta, ZSTD(1))"), ("kafka_ts", _TS),
           ("stored_at", "DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(DoubleDelta, ZSTD(1))"))
_VERSION = ("version", "UInt64 MATERIALIZED toUnixTimestamp64Milli(kafka_ts) * 1048576 + kafka_offset % 1048576 CODEC(ZSTD(1))")

#: A merge costs as much as two inserts: thirty parts at a time pass each row through few of them. Young parts are one file each,
#: since ninety files a second cost more than the rows in them.
_MERGES = "min_parts_to_merge_at_once = 30, min_bytes_for_wide_part = 268435456"


@dataclass(frozen=True, slots=True)
class Table:
    """`columns` are (name, type with codec and default); `order` the sorting key, which identifies a row; `topic` feeds it."""

    name: str
    columns: tuple[tuple[str, str], ...]
    order: tuple[str, ...]
    ttl_days: int
    version: str = ""
    topic: str = ""
    comment: str = ""
    dated: str = "ts"

    @property
    def day(self) -> str:
        return f"toDate({self.dated})"

    def ddl(self, cluster: str = "") -> list[str]:
        """The statements that create it; on a cluster a replicated local table and a Distributed one over it."""
        local = f"{self.name}_local" if cluster else self.name
        on = f" ON CLUSTER '{cluster}'" if cluster else ""
        body = ",\n  ".join([*(f"`{n}` {t}" for n, t in self.columns), *self._indexes()])
        version = f", {self.version}" if cluster and self.version else self.version
        engine = (f"ReplicatedReplacingMergeTree('/clickhouse/tables/{{shard}}/{DATABASE}/{self.name}', '{{replica}}'{version})"
                  if cluster else f"ReplacingMergeTree({version})")
        window = "replicated_deduplication_window = 1000" if cluster else "non_replicated_deduplication_window = 1000"
        create = (f"CREATE TABLE IF NOT EXISTS {DATABASE}.{local}{on} (\n  {body}\n) ENGINE = {engine}\n"
                  f"PARTITION BY {self.day}\nORDER BY ({', '.join(self.order)})\n"
                  f"TTL toDateTime({self.dated}) + INTERVAL {self.ttl_days} DAY\n"
                  f"SETTINGS {window}, ttl_only_drop_parts = 1, {_MERGES}\nCOMMENT '{self.comment}'")
        if not cluster:
            return [create]
        spread = "cityHash64(site, rack)" if "rack" in dict(self.columns) else "cityHash64(site)" if "site" in dict(self.columns) else "rand()"
        engine = f"Distributed('{cluster}', '{DATABASE}', '{local}', {spread})"
        return [create, f"CREATE TABLE IF NOT EXISTS {DATABASE}.{self.name}{on} AS {DATABASE}.{local}\nENGINE = {engine}"]

    def _indexes(self) -> list[str]:
        return ["INDEX by_offset kafka_offset TYPE minmax GRANULARITY 4"] if self.topic else []

    @property
    def inserted(self) -> tuple[str, ...]:
        """Columns that an insert may name."""
        return tuple(n for n, t in self.columns if not any(word in t for word in (" ALIAS ", " MATERIALIZED ")))


def _metric_type(metric: Metric) -> str:
    """Missing is NULL, so that no average is poisoned. Codecs by kind of metric: counters grow, the rest repeats."""
    base = "Float64" if metric.dtype == "float64" else "Float32"
    codec = "Delta(8), ZSTD(1)" if metric.kind == "counter" and metric.dtype == "float64" else "ZSTD(1)"
    return f"Nullable({base}) CODEC({codec})"


def _raw(kind: str) -> Table:
    metrics: list[tuple[str, str]] = []
    for metric in KINDS[kind].metrics:
        if metric.kind == "derived":
            metrics.append((metric.name, "Nullable(Float32) ALIAS flow_lpm * (return_temp_c - supply_temp_c) * 65.0"))
        else:
            metrics.append((metric.name, _metric_type(metric)))
    return Table(kind, (("ts", _TS), *_WHO, *metrics, *_ORIGIN), ("site", "rack", "device", "ts"), TTL_DAYS["raw"],
                 topic=topics.telemetry(kind), comment=KINDS[kind].help.replace("'", ""))


_ARROW = {pa.string(): "LowCardinality(String)", pa.float32(): "Nullable(Float32) CODEC(ZSTD(1))",
          pa.float64(): "Nullable(Float64) CODEC(ZSTD(1))", pa.uint8(): "UInt8", pa.uint32(): "UInt32 CODEC(ZSTD(1))",
          pa.uint64(): "UInt64 CODEC(ZSTD(1))", pa.timestamp("ms", "UTC"): _TS}


def _derived_columns(stream: derived.Derived) -> tuple[tuple[str, str], ...]:
    who = dict(_WHO)
    return tuple((name, who.get(name) or ("String CODEC(ZSTD(1))" if name == "incident" else _ARROW[dtype]))
                 for name, dtype in stream.columns)


def _derived(name: str, table: str) -> Table:
    stream = derived.DERIVED[name]
    dated = {"incident": "opened", "label": "started"}.get(name, "ts")
    return Table(table, (*_derived_columns(stream), *_ORIGIN, _VERSION), stream.key,
                 TTL_DAYS["10s" if name.startswith("rollup") else "derived"], "version", topics.derived(name),
                 stream.help.replace("'", ""), dated)


def _tier(kind: str, tier: str) -> Table:
    columns = _derived_columns(derived.ROLLUPS[kind])
    stored = ("stored_at", "DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(DoubleDelta, ZSTD(1))")
    return Table(f"{kind}_{tier}", (*columns, stored), ("site", "rack", "device", "ts"), TTL_DAYS[tier], "stored_at",
                 comment=f"{tier} roll-up of {kind}, made from the tier below")


_PROGRESS = Table("rollup_progress", (("ts", "DateTime64(3, 'UTC')"), ("table", "LowCardinality(String)"),
                                      ("done", "DateTime64(3, 'UTC')")), ("table",), TTL_DAYS["1h"], "ts",
                  comment="How far each roll-up tier has come: rows of the tier below stored up to done are in it")

#: Derived stream -> table. `part` is not stored: rack and site rows are made of it.
STORED = {**{f"rollup_{k}": f"{k}_10s" for k in KINDS}, "window": "device_windows", "rack": "rack_windows", "site": "site_windows",
          "score": "scores", "incident": "incidents", "label": "labels", "quality": "quality"}

TABLES: dict[str, Table] = {
    t.name: t
    for t in (
        *(_raw(kind) for kind in KINDS),
        *(_derived(name, table) for name, table in STORED.items()),
        *(_tier(kind, tier) for kind in KINDS for tier in ("1m", "1h")),
        _PROGRESS,
    )
}

#: Topic -> the table that stores it.
BY_TOPIC: dict[str, Table] = {t.topic: t for t in TABLES.values() if t.topic}
