"""ClickHouse tables derived from the catalogue: columns, codecs, partitions, TTL; for one server or a cluster.

What devices give is stored a rack (or a message) and moment a row (`<name>_frames`: a metric is an array over the
devices, `who` names them in `identities`) and read through a view (`<name>`) that shows a row a device. See
docs/decisions/0009.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa

from pipeline.store.quantize import MISSING
from schemas import derived, topics
from schemas.catalogue import KINDS
from schemas.metric import Metric

DATABASE = "gigawatch"

#: Days that each tier is kept.
TTL_DAYS = {"raw": 7, "10s": 30, "1m": 365, "1h": 3650, "derived": 90}

_TS = "DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1))"
_WHO = (
    ("site", "LowCardinality(String)"),
    ("rack", "LowCardinality(String)"),
    ("node", "String CODEC(ZSTD(1))"),
    ("device", "String CODEC(ZSTD(1))"),
    ("model", "LowCardinality(String)"),
    ("job", "LowCardinality(String)"),
)
_STORED_AT = ("stored_at", "DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(DoubleDelta, ZSTD(1))")
#: Where a row came from: enough to know, after a crash, what has been stored. `kafka_log` is the Kafka cluster's id.
_ORIGIN = (
    ("kafka_log", "LowCardinality(String)"),
    ("kafka_partition", "UInt16 CODEC(ZSTD(1))"),
    ("kafka_offset", "UInt64 CODEC(DoubleDelta, ZSTD(1))"),
    ("kafka_ts", _TS),
    _STORED_AT,
)
_VERSION = (
    "version",
    "UInt64 MATERIALIZED toUnixTimestamp64Milli(kafka_ts) * 1048576 + kafka_offset % 1048576 CODEC(ZSTD(1))",
)

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


#: The columns of a frame that are not arrays, before those that say where it came from.
_PLAIN = ("ts", "kind", "window_s", "site")
_PLACE = (("who", "UInt64 CODEC(ZSTD(1))"), ("rows", "UInt32 CODEC(ZSTD(1))"))
#: Named by a frame's `who`, each an array over its devices.
NAMED = ("node", "device", "model", "job")


@dataclass(frozen=True)
class Table:
    """`columns` are (name, type with codec and default) as a reader sees them; `order` the sorting key, which
    identifies a row; `topic` feeds it. With `frames` rows of one moment are stored together, and `order` is a frame's:
    `by_rack` those of a rack, so that
    a rack is found by the key; else all of a message, for kinds with a few devices a rack."""

    name: str
    columns: tuple[tuple[str, str], ...]
    order: tuple[str, ...]
    ttl_days: int
    version: str = ""
    topic: str = ""
    comment: str = ""
    dated: str = "ts"
    frames: bool = False
    by_rack: bool = True
    #: metrics that are stored as whole multiples of a resolution (in `<name>_n`) where they are, and as they came where
    #: they are not
    resolutions: tuple[tuple[str, float], ...] = ()

    @property
    def stored_as(self) -> str:
        """The table behind the name: another one where the name is a view."""
        return f"{self.name}_frames" if self.frames else self.name

    @cached_property
    def stored(self) -> tuple[tuple[str, str], ...]:
        """The columns of that table."""
        if not self.frames:
            return self.columns
        plain = tuple(c for c in self.columns if c[0] in self.plain)
        last = tuple(c for c in self.columns if c in (*_ORIGIN, _VERSION, _STORED_AT))
        whole = dict(self.resolutions)
        arrays = [
            c
            for name, kind in self.columns
            if name in self.arrays
            for c in ((name, _array(kind)), *([(f"{name}_n", _multiples(kind, whole[name]))] if name in whole else []))
        ]
        return (*plain, *_PLACE, *arrays, *last)

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
        other = {*self.plain, *self.named, *(n for n, _ in (*_ORIGIN, _VERSION, _STORED_AT))}
        return frozenset(n for n, kind in self.columns if self.frames and n not in other and " ALIAS " not in kind)

    @property
    def day(self) -> str:
        return f"toDate({self.dated})"

    def ddl(self, cluster: str = "", known: Collection[str] = HEURISTICS) -> list[str]:
        """The statements that create it; on a cluster a replicated local table and a Distributed one over it; last its
        view if it has one.
        `known`: settings that the server has, of those that only some have."""
        local = f"{self.stored_as}_local" if cluster else self.stored_as
        on = f" ON CLUSTER '{cluster}'" if cluster else ""
        body = ",\n  ".join([*(f"`{n}` {t}" for n, t in self.stored), *self._indexes()])
        version = f", {self.version}" if cluster and self.version else self.version
        engine = (
            f"ReplicatedReplacingMergeTree('/clickhouse/tables/{{shard}}/{DATABASE}/{self.stored_as}', "
            f"'{{replica}}'{version})"
            if cluster
            else f"ReplacingMergeTree({version})"
        )
        window = "replicated_deduplication_window = 1000" if cluster else "non_replicated_deduplication_window = 1000"
        plainly = "".join(f", {name} = 0" for name in HEURISTICS if name in known)
        lasts = (
            (f"PARTITION BY {self.day}\n", f"TTL toDateTime({self.dated}) + INTERVAL {self.ttl_days} DAY\n")
            if self.ttl_days
            else ("", "")
        )
        out = [
            (
                f"CREATE TABLE IF NOT EXISTS {DATABASE}.{local}{on} (\n  {body}\n) ENGINE = {engine}\n"
                f"{lasts[0]}ORDER BY ({', '.join(self.order)})\n{lasts[1]}"
                f"SETTINGS {window}, ttl_only_drop_parts = 1, "
                f"{_MERGES}{plainly}{_GRANULES if self.frames else ''}\nCOMMENT '{self.comment}'"
            )
        ]
        if cluster:
            names = dict(self.stored)
            spread = (
                "cityHash64(site, rack)"
                if "rack" in names
                else "who"
                if "who" in names
                else "cityHash64(site)"
                if "site" in names
                else "rand()"
            )
            out.append(
                f"CREATE TABLE IF NOT EXISTS {DATABASE}.{self.stored_as}{on} AS {DATABASE}.{local}\n"
                f"ENGINE = Distributed('{cluster}', '{DATABASE}', '{local}', {spread})"
            )
        return [*out, self.view(cluster)] if self.frames else out

    def view(self, cluster: str = "") -> str:
        """The statement that makes a row a device of the stored frames; arrays that a frame lacks, and NaN in them,
        read as NULL. One SELECT, since
        ClickHouse plans each level with all its columns anew."""
        on = f" ON CLUSTER '{cluster}'" if cluster else ""
        whole = dict(self.resolutions)
        arrays = {n: kind for n, kind in self.columns if n in self.arrays}
        joined = [f"i.{n} AS name_{n}" for n in self.named]
        for name, kind in arrays.items():
            joined.append(f"arrayResize(f.{name}, f.rows, {'nan' if 'Float' in kind else '0'}) AS value_{name}")
            if name in whole:
                joined.append(f"arrayResize(f.{name}_n, f.rows, {MISSING[_width(kind)]}) AS whole_{name}")
        columns = [self._shown(n, kind) for n, kind in self.columns]
        final = " FINAL" if self.version else ""
        return (
            f"CREATE OR REPLACE VIEW {DATABASE}.{self.name}{on} AS SELECT {', '.join(columns)}, f.who AS who "
            f"FROM {DATABASE}.{self.stored_as} AS f{final} "
            f"{'GLOBAL ' if cluster else ''}INNER JOIN (SELECT who, {', '.join(self.named)} FROM "
            f"{DATABASE}.identities FINAL) AS i ON f.who = i.who "
            f"ARRAY JOIN {', '.join(joined)}"
        )

    def _shown(self, name: str, kind: str) -> str:
        if " ALIAS " in kind:
            return f"{kind.partition(' ALIAS ')[2]} AS {name}"
        if name in self.named:
            return f"name_{name} AS {name}"
        if name not in self.arrays:
            return f"f.{name} AS {name}"
        resolution = dict(self.resolutions).get(name)
        if resolution is not None:
            restored = f"toFloat{_width(kind).removeprefix('int')}(whole_{name} * {resolution!r})"
            return (
                f"multiIf(whole_{name} != {MISSING[_width(kind)]}, {restored}, isNaN(value_{name}), NULL, "
                f"value_{name}) AS {name}"
            )
        return (
            f"if(isNaN(value_{name}), NULL, value_{name}) AS {name}" if "Float" in kind else f"value_{name} AS {name}"
        )

    def _indexes(self) -> list[str]:
        return ["INDEX by_offset kafka_offset TYPE minmax GRANULARITY 4"] if self.topic else []

    @cached_property
    def inserted(self) -> tuple[str, ...]:
        """Columns that an insert may name."""
        return tuple(n for n, t in self.stored if not any(word in t for word in (" ALIAS ", " MATERIALIZED ")))


def raw_view(kind: str, cluster: str = "") -> str:
    """The statement that shows raw samples under the names of a roll-up (`<metric>_mean`, `<metric>_max`): a
    dashboard's finest tier. A counter has no
    increase in one sample, so those are left out."""
    on = f" ON CLUSTER '{cluster}'" if cluster else ""
    stats = ", ".join(f"{m.name} AS {m.name}_{stat}" for m in KINDS[kind].metrics for stat in m.rolled if stat != "inc")
    return (
        f"CREATE OR REPLACE VIEW {DATABASE}.{kind}_raw{on} AS SELECT ts, site, {', '.join(('rack', *NAMED))}, "
        f"toUInt32(1) AS samples, {stats} "
        f"FROM {DATABASE}.{kind}"
    )


def _array(kind: str) -> str:
    """`Nullable(Float32) CODEC(...)` as an array: in arrays NaN is missing."""
    base, codec, rest = kind.partition(" CODEC")
    return f"Array({base.removeprefix('Nullable(').removesuffix(')')}){codec}{rest}"


def _multiples(kind: str, resolution: float) -> str:
    """The array of whole multiples beside it.

    The resolution is part of what is stored: changing one wants a new column.
    """
    codec = "Delta(8), T64, ZSTD(1)" if "Delta(8)" in kind else "T64, ZSTD(1)"
    return f"Array(I{_width(kind)[1:]}) COMMENT 'multiples of {resolution!r}' CODEC({codec})"


def _width(kind: str) -> str:
    """The whole numbers that go with a type's floats."""
    return "int64" if "Float64" in kind else "int32"


#: Kinds with many devices a rack.
_BY_RACK = ("gpu", "node")


def _order(kind: str) -> tuple[str, ...]:
    return ("site", "rack", "ts", "who") if kind in _BY_RACK else ("site", "ts", "who")


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
    resolutions = tuple((m.name, m.resolution or 1.0) for m in KINDS[kind].stored)
    return Table(
        kind,
        (("ts", _TS), *_WHO, *metrics, *_ORIGIN),
        _order(kind),
        TTL_DAYS["raw"],
        topic=topics.telemetry(kind),
        comment=KINDS[kind].help.replace("'", ""),
        frames=True,
        by_rack=kind in _BY_RACK,
        resolutions=resolutions,
    )


_ARROW = {
    pa.string(): "LowCardinality(String)",
    pa.float32(): "Nullable(Float32) CODEC(ZSTD(1))",
    pa.float64(): "Nullable(Float64) CODEC(ZSTD(1))",
    pa.uint8(): "UInt8",
    pa.uint32(): "UInt32 CODEC(ZSTD(1))",
    pa.uint64(): "UInt64 CODEC(ZSTD(1))",
    pa.timestamp("ms", "UTC"): _TS,
}


def _derived_columns(stream: derived.Derived) -> tuple[tuple[str, str], ...]:
    who = dict(_WHO)
    return tuple(
        (name, who.get(name) or ("String CODEC(ZSTD(1))" if name == "incident" else _ARROW[dtype]))
        for name, dtype in stream.columns
    )


def _derived(name: str, table: str) -> Table:
    stream = derived.DERIVED[name]
    dated = {"incident": "opened", "label": "started"}.get(name, "ts")
    kind = name.removeprefix("rollup_")
    frames, by_rack = name == "window" or kind in KINDS, name == "window" or kind in _BY_RACK
    order = (
        ("site", "rack", "kind", "window_s", "ts", "who")
        if name == "window"
        else _order(kind)
        if frames
        else stream.key
    )
    return Table(
        table,
        (*_derived_columns(stream), *_ORIGIN, _VERSION),
        order,
        TTL_DAYS["10s" if name.startswith("rollup") else "derived"],
        "version",
        topics.derived(name),
        stream.help.replace("'", ""),
        dated,
        frames,
        by_rack,
    )


def _tier(kind: str, tier: str) -> Table:
    columns = _derived_columns(derived.ROLLUPS[kind])
    return Table(
        f"{kind}_{tier}",
        (*columns, _STORED_AT),
        _order(kind),
        TTL_DAYS[tier],
        "stored_at",
        comment=f"{tier} roll-up of {kind}, made from the tier below",
        frames=True,
        by_rack=kind in _BY_RACK,
    )


#: The devices that a frame's arrays run over. Kept for good: one row a rack and change of its devices or jobs.
IDENTITIES = Table(
    "identities",
    (
        ("who", "UInt64"),
        ("site", "LowCardinality(String)"),
        *((n, "Array(String) CODEC(ZSTD(1))") for n in ("rack", *NAMED)),
    ),
    ("who",),
    0,
    comment="Who a frame is of: its devices in order, with their nodes, models and jobs",
)

#: Messages that could not be taken, whole, until someone replays or drops them (`gigawatch dlq`).
_DEAD = Table(
    "dead_letters",
    (
        ("ts", _TS),
        ("id", "String"),
        ("topic", "LowCardinality(String)"),
        ("partition", "UInt32"),
        ("offset", "UInt64"),
        ("reason", "LowCardinality(String)"),
        ("detail", "String CODEC(ZSTD(1))"),
        ("bytes", "UInt64"),
        ("value", "String CODEC(ZSTD(3))"),
        *_ORIGIN,
        _VERSION,
    ),
    ("id",),
    TTL_DAYS["derived"],
    "version",
    topics.DEAD_LETTERS,
    "Messages that could not be taken, as they came, and why",
)
#: What became of them. A letter without a mark is kept.
_MARKS = Table(
    "dead_letter_marks",
    (("ts", "DateTime64(3, 'UTC')"), ("id", "String"), ("state", "LowCardinality(String)"), _STORED_AT),
    ("id",),
    TTL_DAYS["derived"],
    "stored_at",
    comment="Dead letters that were replayed or dropped",
)

_PROGRESS = Table(
    "rollup_progress",
    (("ts", "DateTime64(3, 'UTC')"), ("table", "LowCardinality(String)"), ("done", "DateTime64(3, 'UTC')")),
    ("table",),
    TTL_DAYS["1h"],
    "ts",
    comment="How far each roll-up tier has come: rows of the tier below stored up to done are in it",
)

#: Derived stream -> table. `part` is not stored: rack and site rows are made of it.
STORED = {
    **{f"rollup_{k}": f"{k}_10s" for k in KINDS},
    "window": "device_windows",
    "rack": "rack_windows",
    "site": "site_windows",
    "score": "scores",
    "incident": "incidents",
    "label": "labels",
    "quality": "quality",
}

TABLES: dict[str, Table] = {
    t.name: t
    for t in (
        IDENTITIES,
        *(_raw(kind) for kind in KINDS),
        *(_derived(name, table) for name, table in STORED.items()),
        *(_tier(kind, tier) for kind in KINDS for tier in ("1m", "1h")),
        _DEAD,
        _MARKS,
        _PROGRESS,
    )
}

#: Topic -> the table that stores it.
BY_TOPIC: dict[str, Table] = {t.topic: t for t in TABLES.values() if t.topic}
