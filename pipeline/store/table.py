"""A ClickHouse table: what a reader sees, what is stored, and the statements that create it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from pipeline.store.columns import ZSTD, Column
from schemas.tables import DATABASE

DELTA = f"DoubleDelta, {ZSTD}"
LOW = "LowCardinality(String)"
WHO = (
    Column("site", LOW),
    Column("rack", LOW),
    Column("node", "String", ZSTD),
    Column("device", "String", ZSTD),
    Column("model", LOW),
    Column("board", "String", ZSTD),
)
TS = Column("ts", "DateTime64(3, 'UTC')", DELTA)
STORED_AT = Column("stored_at", "DateTime64(3, 'UTC')", DELTA, default="now64(3)")
#: Where a row came from: enough to know, after a crash, what has been stored. `kafka_log` is the Kafka cluster's id.
ORIGIN = (
    Column("kafka_log", LOW),
    Column("kafka_partition", "UInt16", ZSTD),
    Column("kafka_offset", "UInt64", DELTA),
    Column("kafka_ts", TS.type, DELTA),
    STORED_AT,
)
VERSION = Column(
    "version", "UInt64", ZSTD, materialized="toUnixTimestamp64Milli(kafka_ts) * 1048576 + kafka_offset % 1048576"
)
_BOOKKEEPING = frozenset(c.name for c in (*ORIGIN, VERSION))

#: A merge costs as much as an insert: a hundred parts at a time pass each row through two or three of them. Young parts
#: are one file each, since ninety files a second cost more than the rows in them.
_MERGES = "min_parts_to_merge_at_once = 100, min_bytes_for_wide_part = 268435456"
#: Rows that sources repeat come a few at a time: the server merges them as it sees fit, and each is soon there once.
_FEW = "min_bytes_for_wide_part = 268435456"
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
NAMED = ("node", "device", "model", "board")

#: What ClickHouse stores apart, by the date in a row: each day's, each month's, or nothing.
Split = Literal["day", "month", ""]
_PERIOD = {"day": "toDate", "month": "toStartOfMonth", "": "toDate"}


@dataclass(frozen=True)
class Table:
    """`columns` are those that a reader sees; `order` is the sorting key, which identifies a row; `topic` feeds it.

    With `frames` rows of one time stamp are stored together, and `order` is a frame's: `by_rack` those of a rack, so
    that a rack is found by the key; else all of a message, for kinds with a few devices a rack. `resolutions`: metrics
    that are stored as whole multiples (in `<name>_n`) where they are, and as they came where they are not. `dated`: the
    column by which rows are partitioned (`split`); `aged`: the one from which their days are counted, where it is
    another. `repeated`: sources send the same rows again and again.
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
    split: Split = "day"
    aged: str = ""
    repeated: bool = False
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
    def period(self) -> str:
        """The expression by which it is partitioned: the first day of a row's period, or one for all."""
        return f"{_PERIOD[self.split]}({self.dated if self.split else 0})"

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
        merges = _FEW if self.repeated else _MERGES + plainly
        partition = f"PARTITION BY {self.period}\n" if self.split else ""
        ttl = f"TTL toDateTime({self.aged or self.dated}) + INTERVAL {self.ttl_days} DAY\n" if self.ttl_days else ""
        out = [
            (
                f"CREATE TABLE IF NOT EXISTS {DATABASE}.{local}{on} (\n  {body}\n) ENGINE = {engine}\n"
                f"{partition}ORDER BY ({', '.join(self.order)})\n{ttl}"
                f"SETTINGS {window}, ttl_only_drop_parts = 1, "
                f"{merges}{_GRANULES if self.frames else ''}\nCOMMENT '{self.comment}'"
            )
        ]
        if cluster:
            out.append(
                f"CREATE TABLE IF NOT EXISTS {DATABASE}.{self.stored_as}{on} AS {DATABASE}.{local}\n"
                f"ENGINE = Distributed('{cluster}', '{DATABASE}', '{local}', {self._sharding()})"
            )
        return out

    def _sharding(self) -> str:
        """Rows of one key are on one shard, where they replace each other."""
        if "rack" in self.order:
            return "cityHash64(site, rack)"
        if "who" in self.order:
            return "who"
        return f"cityHash64({', '.join(name for name in self.order if name != 'ts')})"

    def _indexes(self) -> list[str]:
        return ["INDEX by_offset kafka_offset TYPE minmax GRANULARITY 4"] if self.topic else []

    @cached_property
    def inserted(self) -> tuple[str, ...]:
        """Columns that an insert may name."""
        return tuple(c.name for c in self.stored if c.is_inserted)
