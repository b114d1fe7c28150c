"""ClickHouse tables derived from the catalogue: columns, codecs, partitions, TTL; for one server or a cluster.

Device samples are stored one row a rack (or message) and time stamp (`<name>_frames`: a metric is an array over the
devices, `who` names them in `identities`) and read through a view (`<name>`, see `views`) that shows a row a device.
See docs/decisions/0009.
"""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa

from pipeline.store.columns import ZSTD, Column
from pipeline.store.table import LOW, NAMED, ORIGIN, STORED_AT, TS, VERSION, WHO, Split, Table
from schemas import derived, topics
from schemas.catalogue import KINDS
from schemas.derived_stream import DERIVED, Derived
from schemas.metric import Metric
from schemas.tables import TTL_DAYS


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
        (TS, *WHO, *map(_metric_column, catalogue.metrics), *ORIGIN),
        _frame_order(by_rack),
        TTL_DAYS["raw"],
        topic=topics.telemetry(kind),
        comment=catalogue.help.replace("'", ""),
        frames=True,
        by_rack=by_rack,
        resolutions={m.name: m.resolution or 1.0 for m in catalogue.stored},
    )


_ARROW = {
    pa.string(): Column("", LOW),
    pa.float32(): Column("", "Float32", ZSTD, nullable=True),
    pa.float64(): Column("", "Float64", ZSTD, nullable=True),
    pa.uint8(): Column("", "UInt8"),
    pa.uint32(): Column("", "UInt32", ZSTD),
    pa.uint64(): Column("", "UInt64", ZSTD),
    pa.timestamp("ms", "UTC"): TS,
    pa.list_(pa.string()): Column("", "Array(String)", ZSTD),
}
#: Columns whose text hardly repeats.
_TEXTS = {
    name: Column(name, "String", ZSTD)
    for name in ("incident", "asset", "serial", "name", "upstream", "downstream", "slowest")
}
#: Tiers whose rows, where they are no frames, are few and kept long: a part a day would be thousands.
_LONG: dict[str, Split] = {"1m": "month", "1h": "month", "kept": ""}
#: The column of a row that a source repeats: when it last saw it so.
_SEEN = "seen"


def _derived_columns(stream: Derived) -> tuple[Column, ...]:
    known = {c.name: c for c in WHO} | _TEXTS
    return tuple(known.get(name) or replace(_ARROW[dtype], name=name) for name, dtype in stream.columns)


def _derived(stream: Derived) -> Table:
    by_rack = stream.stored_by == "rack"
    return Table(
        stream.table,
        (*_derived_columns(stream), *ORIGIN, VERSION),
        _frame_order(by_rack, stream.key) if stream.stored_by else stream.key,
        TTL_DAYS[stream.tier],
        "version",
        stream.topic,
        stream.help.replace("'", ""),
        stream.dated,
        frames=bool(stream.stored_by),
        by_rack=by_rack,
        split="day" if stream.stored_by else _LONG.get(stream.tier, "day"),
        aged=_SEEN if _SEEN in stream.names else "",
        repeated=not stream.stored_by and (_SEEN in stream.names or stream.tier == "kept"),
    )


def _tier(kind: str, tier: str) -> Table:
    by_rack = KINDS[kind].stored_by == "rack"
    return Table(
        f"{kind}_{tier}",
        (*_derived_columns(derived.ROLLUPS[kind]), STORED_AT),
        _frame_order(by_rack),
        TTL_DAYS[tier],
        "stored_at",
        comment=f"{tier} roll-up of {kind}, made from the tier below",
        frames=True,
        by_rack=by_rack,
    )


#: The devices that a frame's arrays run over. Kept for good: one row a rack and change of its devices.
IDENTITIES = Table(
    "identities",
    (Column("who", "UInt64"), Column("site", LOW), *(Column(n, "Array(String)", ZSTD) for n in ("rack", *NAMED))),
    ("who",),
    0,
    comment="Who a frame is of: its devices in order, with their nodes, models and boards",
    split="",
)
#: The shape of the store as a whole, and since when it has it; the newest counts.
STORE_VERSION = Table(
    "store_version",
    (Column("version", "UInt32"), TS),
    ("version",),
    0,
    comment="What migrations have done: the highest version counts",
    split="",
)

#: Messages that could not be stored, whole, until an operator replays or drops them (`gigawatch dlq`).
_DEAD = Table(
    "dead_letters",
    (
        TS,
        Column("id", "String"),
        Column("topic", LOW),
        Column("partition", "UInt32"),
        Column("offset", "UInt64"),
        Column("reason", LOW),
        Column("detail", "String", ZSTD),
        Column("bytes", "UInt64"),
        Column("value", "String", "ZSTD(3)"),
        *ORIGIN,
        VERSION,
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
    (Column("ts", TS.type), Column("id", "String"), Column("state", LOW), STORED_AT),
    ("id",),
    TTL_DAYS["derived"],
    "stored_at",
    comment="Dead letters that were replayed or dropped",
)

_PROGRESS = Table(
    "rollup_progress",
    (Column("ts", TS.type), Column("table", LOW), Column("done", TS.type)),
    ("table",),
    TTL_DAYS["1h"],
    "ts",
    comment="How far each roll-up tier has come: rows of the tier below stored up to done are in it",
)

TABLES: dict[str, Table] = {
    t.name: t
    for t in (
        IDENTITIES,
        STORE_VERSION,
        *(_raw(kind) for kind in KINDS),
        *(_derived(stream) for stream in DERIVED.values() if stream.table),
        *(_tier(kind, tier) for kind in KINDS for tier in ("1m", "1h")),
        _DEAD,
        _MARKS,
        _PROGRESS,
    )
}

#: Topic -> the table that stores it.
BY_TOPIC: dict[str, Table] = {t.topic: t for t in TABLES.values() if t.topic}
