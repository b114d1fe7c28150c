"""ClickHouse tables derived from the catalogue: columns, codecs, partitions, TTL; for one server or a cluster.

Device samples are stored one row a rack (or message) and time stamp (`<name>_frames`: a metric is an array over the
devices, `who` names them in `identities`) and read through a view (`<name>`, see `views`) that shows a row a device.
See docs/decisions/0009.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from functools import cached_property

import pyarrow as pa

from pipeline.store.columns import ZSTD, Column
from schemas import derived, topics
from schemas.catalogue import KINDS
from schemas.metric import Metric
from schemas.tables import DATABASE, TTL_DAYS

_DELTA = f"DoubleDelta, {ZSTD}"
_LOW = "LowCardinality(String)"
_WHO = (
    Column("site", _LOW),
    Column("rack", _LOW),
    Column("node", "String", ZSTD),
    Column("device", "String", ZSTD),
    Column("model", _LOW),
    Column("job", _LOW),
)
_TS = Column("ts", "DateTime64(3, 'UTC')", _DELTA)
_STORED_AT = Column("stored_at", "DateTime64(3, 'UTC')", _DELTA, default="now64(3)")
#: Where a row came from: enough to know, after a crash, what has been stored. `kafka_log` is the Kafka cluster's id.
_ORIGIN = (
    Column("kafka_log", _LOW),
    Column("kafka_partition", "UInt16", ZSTD),
    Column("kafka_offset", "UInt64", _DELTA),
    Column("kafka_ts", _TS.type, _DELTA),
    _STORED_AT,
)
_VERSION = Column(
    "version", "UInt64", ZSTD, materialized="toUnixTimestamp64Milli(kafka_ts) * 1048576 + kafka_offset % 1048576"
)
_BOOKKEEPING = frozenset(c.name for c in (*_ORIGIN, _VERSION))

#: A merge costs as much as an insert: a hundred parts at a time pass each row through two or three of them. Young parts
#: are one file each, since ninety files a second cost more than the rows in them.
_MERGES = "min_parts_to_merge_at_once = 100, min_bytes_for_wide_part = 268435456"
#: Newer servers take fewer parts at a time the more there are, which together with a least number means none at all,
#: and leave the youngest out, so that the same rows are merged again and again: `migrate` switches both off where they
#: are.
HEURISTICS = tuple(
    f"merge_selector_enable_heuristic_to_{what}"
    for what in ("lower_max_parts_to_merge_at_once", "remove_small_parts_at_right")
)
#: A row of frames is some kilobytes: a granule of a hundred is what eight thousand narrow rows are.
_GRANULES = ", index_granularity = 128"

#: The columns of a frame that are not arrays, before those that hold where it came from.
_PLAIN = ("ts", "kind", "window_s", "site")
_PLACE = (Column("who", "UInt64", ZSTD), Column("rows", "UInt32", ZSTD))
#: Named by a frame's `who`, each an array over its devices.
NAMED = ("node", "device", "model", "job")


@dataclass(frozen=True)
class Table:
    """`columns` are those that a reader sees; `order` is the sorting key, which identifies a row; `topic` feeds it.

    With `frames` rows of one time stamp are stored together, and `order` is a frame's: `by_rack` those of a rack, so
    that a rack is found by the key; else all of a message, for kinds with a few devices a rack. `resolutions`: metrics
    that are stored as whole multiples (in `<name>_n`) where they are, and as they came where they are not.
    """

    name: str
    columns: tuple[Column, ...]
    order: tuple[str, ...]
    ttl_days: int
    version: str = ""
    topic: str = ""
    comment: str = ""
    dated: str = "ts"
    frames: bool = False
    by_rack: bool = True
    resolutions: dict[str, float] = field(default_factory=dict)

    @property
    def stored_as(self) -> str:
        """The table behind the name: another one where the name is a view."""
        return f"{self.name}_frames" if self.frames else self.name

    @cached_property
    def stored(self) -> tuple[Column, ...]:
        """The columns of that table."""
        if not self.frames:
            return self.columns
        arrays = [
            stored
            for column in self.columns
            if column.name in self.arrays
            for stored in (
                column.array(),
                *([column.multiples(self.resolutions[column.name])] if column.name in self.resolutions else []),
            )
        ]
        plain = [c for c in self.columns if c.name in self.plain]
        return (*plain, *_PLACE, *arrays, *(c for c in self.columns if c.name in _BOOKKEEPING))

    @property
    def plain(self) -> tuple[str, ...]:
        """The columns that all devices of a frame share."""
        return (*_PLAIN, "rack") if self.by_rack else _PLAIN

    @property
    def named(self) -> tuple[str, ...]:
        """The columns that a frame's `who` stands for."""
        return NAMED if self.by_rack else ("rack", *NAMED)

    @cached_property
    def arrays(self) -> frozenset[str]:
        """The columns that are arrays over a frame's devices."""
        other = {*self.plain, *self.named, *_BOOKKEEPING}
        return frozenset(c.name for c in self.columns if self.frames and c.name not in other and not c.alias)

    @property
    def day(self) -> str:
        """The expression by which it is partitioned."""
        return f"toDate({self.dated})"

    def ddl(self, cluster: str = "", known: Collection[str] = HEURISTICS) -> list[str]:
        """The statements that create it; on a cluster a replicated local table and a Distributed one over it.

        `known`: settings that the server has, of those that only some have. The view of a table with `frames` is in
        `views`.
        """
        local = f"{self.stored_as}_local" if cluster else self.stored_as
        on = f" ON CLUSTER '{cluster}'" if cluster else ""
        body = ",\n  ".join([*(f"`{c.name}` {c.ddl}" for c in self.stored), *self._indexes()])
        version = f", {self.version}" if cluster and self.version else self.version
        engine = (
            f"ReplicatedReplacingMergeTree('/clickhouse/tables/{{shard}}/{DATABASE}/{self.stored_as}', "
            f"'{{replica}}'{version})"
            if cluster
            else f"ReplacingMergeTree({version})"
        )
        window = "replicated_deduplication_window = 1000" if cluster else "non_replicated_deduplication_window = 1000"
        plainly = "".join(f", {name} = 0" for name in HEURISTICS if name in known)
        partition, ttl = "", ""
        if self.ttl_days:
            partition = f"PARTITION BY {self.day}\n"
            ttl = f"TTL toDateTime({self.dated}) + INTERVAL {self.ttl_days} DAY\n"
        out = [
            (
                f"CREATE TABLE IF NOT EXISTS {DATABASE}.{local}{on} (\n  {body}\n) ENGINE = {engine}\n"
                f"{partition}ORDER BY ({', '.join(self.order)})\n{ttl}"
                f"SETTINGS {window}, ttl_only_drop_parts = 1, "
                f"{_MERGES}{plainly}{_GRANULES if self.frames else ''}\nCOMMENT '{self.comment}'"
            )
        ]
        if cluster:
            out.append(
                f"CREATE TABLE IF NOT EXISTS {DATABASE}.{self.stored_as}{on} AS {DATABASE}.{local}\n"
                f"ENGINE = Distributed('{cluster}', '{DATABASE}', '{local}', {self._sharding()})"
            )
        return out

    def _sharding(self) -> str:
        names = {c.name for c in self.stored}
        if "rack" in names:
            return "cityHash64(site, rack)"
        if "who" in names:
            return "who"
        return "cityHash64(site)" if "site" in names else "rand()"

    def _indexes(self) -> list[str]:
        return ["INDEX by_offset kafka_offset TYPE minmax GRANULARITY 4"] if self.topic else []

    @cached_property
    def inserted(self) -> tuple[str, ...]:
        """Columns that an insert may name."""
        return tuple(c.name for c in self.stored if c.is_inserted)


def _frame_order(by_rack: bool, key: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The sorting key of stored frames; `key` names the columns that identify a row, of which some come first."""
    first = [name for name in ("kind", "window_s") if name in key]
    return ("site", "rack", *first, "ts", "who") if by_rack else ("site", *first, "ts", "who")


def _metric_column(metric: Metric) -> Column:
    """Missing is NULL, so that no average is poisoned. Codecs by kind of metric: counters grow, the rest repeats."""
    if metric.formula is not None:
        return Column(metric.name, "Float32", nullable=True, alias=metric.formula.sql)
    base = "Float64" if metric.dtype == "float64" else "Float32"
    grows = metric.kind == "counter" and metric.dtype == "float64"
    return Column(metric.name, base, f"Delta(8), {ZSTD}" if grows else ZSTD, nullable=True)


def _raw(kind: str) -> Table:
    catalogue = KINDS[kind]
    by_rack = catalogue.stored_by == "rack"
    return Table(
        kind,
        (_TS, *_WHO, *map(_metric_column, catalogue.metrics), *_ORIGIN),
        _frame_order(by_rack),
        TTL_DAYS["raw"],
        topic=topics.telemetry(kind),
        comment=catalogue.help.replace("'", ""),
        frames=True,
        by_rack=by_rack,
        resolutions={m.name: m.resolution or 1.0 for m in catalogue.stored},
    )


_ARROW = {
    pa.string(): Column("", _LOW),
    pa.float32(): Column("", "Float32", ZSTD, nullable=True),
    pa.float64(): Column("", "Float64", ZSTD, nullable=True),
    pa.uint8(): Column("", "UInt8"),
    pa.uint32(): Column("", "UInt32", ZSTD),
    pa.uint64(): Column("", "UInt64", ZSTD),
    pa.timestamp("ms", "UTC"): _TS,
}
#: Columns whose text hardly repeats.
_LONG = {"incident": Column("incident", "String", ZSTD)}


def _derived_columns(stream: derived.Derived) -> tuple[Column, ...]:
    known = {c.name: c for c in _WHO} | _LONG
    return tuple(known.get(name) or replace(_ARROW[dtype], name=name) for name, dtype in stream.columns)


def _derived(stream: derived.Derived) -> Table:
    by_rack = stream.stored_by == "rack"
    return Table(
        stream.table,
        (*_derived_columns(stream), *_ORIGIN, _VERSION),
        _frame_order(by_rack, stream.key) if stream.stored_by else stream.key,
        TTL_DAYS[stream.tier],
        "version",
        stream.topic,
        stream.help.replace("'", ""),
        stream.dated,
        frames=bool(stream.stored_by),
        by_rack=by_rack,
    )


def _tier(kind: str, tier: str) -> Table:
    by_rack = KINDS[kind].stored_by == "rack"
    return Table(
        f"{kind}_{tier}",
        (*_derived_columns(derived.ROLLUPS[kind]), _STORED_AT),
        _frame_order(by_rack),
        TTL_DAYS[tier],
        "stored_at",
        comment=f"{tier} roll-up of {kind}, made from the tier below",
        frames=True,
        by_rack=by_rack,
    )


#: The devices that a frame's arrays run over. Kept for good: one row a rack and change of its devices or jobs.
IDENTITIES = Table(
    "identities",
    (Column("who", "UInt64"), Column("site", _LOW), *(Column(n, "Array(String)", ZSTD) for n in ("rack", *NAMED))),
    ("who",),
    0,
    comment="Who a frame is of: its devices in order, with their nodes, models and jobs",
)

#: Messages that could not be stored, whole, until an operator replays or drops them (`gigawatch dlq`).
_DEAD = Table(
    "dead_letters",
    (
        _TS,
        Column("id", "String"),
        Column("topic", _LOW),
        Column("partition", "UInt32"),
        Column("offset", "UInt64"),
        Column("reason", _LOW),
        Column("detail", "String", ZSTD),
        Column("bytes", "UInt64"),
        Column("value", "String", "ZSTD(3)"),
        *_ORIGIN,
        _VERSION,
    ),
    ("id",),
    TTL_DAYS["derived"],
    "version",
    topics.DEAD_LETTERS,
    "Messages that could not be taken, as they came, and why",
)
#: What became of them. A dead letter without a mark is kept.
_MARKS = Table(
    "dead_letter_marks",
    (Column("ts", _TS.type), Column("id", "String"), Column("state", _LOW), _STORED_AT),
    ("id",),
    TTL_DAYS["derived"],
    "stored_at",
    comment="Dead letters that were replayed or dropped",
)

_PROGRESS = Table(
    "rollup_progress",
    (Column("ts", _TS.type), Column("table", _LOW), Column("done", _TS.type)),
    ("table",),
    TTL_DAYS["1h"],
    "ts",
    comment="How far each roll-up tier has come: rows of the tier below stored up to done are in it",
)

TABLES: dict[str, Table] = {
    t.name: t
    for t in (
        IDENTITIES,
        *(_raw(kind) for kind in KINDS),
        *(_derived(stream) for stream in derived.DERIVED.values() if stream.table),
        *(_tier(kind, tier) for kind in KINDS for tier in ("1m", "1h")),
        _DEAD,
        _MARKS,
        _PROGRESS,
    )
}

#: Topic -> the table that stores it.
BY_TOPIC: dict[str, Table] = {t.topic: t for t in TABLES.values() if t.topic}
