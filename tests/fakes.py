"""Kafka and ClickHouse in memory, as far as the sink uses them; held to the real ones by
tests/services/test_contracts.py.

Every call passes crash points: one before it has an effect, one after. At the chosen one the process "dies": from then
on nothing works.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
from aiokafka import TopicPartition

from pipeline.store.table import Table
from pipeline.store.tables import TABLES

_FROM = re.compile(r"FROM gigawatch\.(\w+) ")
_STORED_AS = {table.stored_as: table for table in TABLES.values()}


class Killed(BaseException):
    """SIGKILL, for code that runs in a test's own process."""


class Crash:
    """Dies at the `time`-th crash point of that `name` (from 1); 0: never. `passed` counts the points so far."""

    def __init__(self, name: str = "", time: int = 0) -> None:
        self._name, self._time = name, time
        self.passed: Counter[str] = Counter()
        self.dead = False

    def point(self, name: str) -> None:
        if self.dead:
            raise Killed(name)
        self.passed[name] += 1
        if name == self._name and self.passed[name] == self._time:
            self.dead = True
            raise Killed(name)


@dataclass(frozen=True, slots=True)
class Record:
    topic: str
    partition: int
    offset: int
    timestamp: int
    value: bytes
    headers: Sequence[tuple[str, bytes]]


@dataclass(slots=True)
class FakeLog:
    """What is on the broker; outlives its clients."""

    partitions: dict[TopicPartition, list[Record]]
    committed: dict[TopicPartition, int] = field(default_factory=dict)

    def append(
        self, tp: TopicPartition, value: bytes, timestamp: int, headers: Sequence[tuple[str, bytes]] = ()
    ) -> None:
        log = self.partitions[tp]
        log.append(Record(tp.topic, tp.partition, len(log), timestamp, value, tuple(headers)))

    def ends(self) -> dict[TopicPartition, int]:
        return {tp: len(log) for tp, log in self.partitions.items()}


class FakeConsumer:
    """One member of one group, which therefore has every partition."""

    def __init__(self, log: FakeLog, crash: Crash, at_once: int = 3) -> None:
        self._log, self._crash, self._at_once = log, crash, at_once
        self._position: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()
        self._listener: Any = None
        self._topics: set[str] = set()

    def subscribe(self, topics: Iterable[str], listener: Any = None) -> None:
        self._topics, self._listener = set(topics), listener

    async def start(self) -> None:
        self._crash.point("consumer.start")
        mine = [tp for tp in self._log.partitions if tp.topic in self._topics]
        self._position = {tp: self._log.committed.get(tp, 0) for tp in mine}
        if self._listener is not None:
            await self._listener.on_partitions_assigned(mine)

    async def stop(self) -> None:
        await asyncio.sleep(0)

    def assignment(self) -> set[TopicPartition]:
        return set(self._position)

    def pause(self, *tps: TopicPartition) -> None:
        self._paused |= set(tps)

    def resume(self, *tps: TopicPartition) -> None:
        self._paused -= set(tps)

    async def getmany(self, timeout_ms: int = 0) -> dict[TopicPartition, list[Record]]:
        self._crash.point("getmany")
        await asyncio.sleep(0)
        found = {}
        for tp, at in self._position.items():
            records = self._log.partitions[tp][at : at + self._at_once]
            if records and tp not in self._paused:
                found[tp], self._position[tp] = records, at + len(records)
        if not found:
            await asyncio.sleep(min(timeout_ms, 5) / 1000)
        return found

    async def end_offsets(self, tps: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        self._crash.point("end_offsets")
        return {tp: len(self._log.partitions[tp]) for tp in tps}

    async def committed(self, tp: TopicPartition) -> int | None:
        self._crash.point("committed")
        return self._log.committed.get(tp)

    async def commit(self, offsets: dict[TopicPartition, int]) -> None:
        self._crash.point("commit: before")
        self._log.committed.update(offsets)
        self._crash.point("commit: after")


class FakeProducer:
    def __init__(self, log: FakeLog, crash: Crash) -> None:
        self._log, self._crash = log, crash

    async def start(self) -> None:
        self._crash.point("producer.start")

    async def stop(self) -> None:
        await asyncio.sleep(0)

    async def send_and_wait(self, topic: str, value: bytes, headers: Sequence[tuple[str, bytes]] = ()) -> None:
        self._crash.point("send: before")
        self._log.append(TopicPartition(topic, 0), value, 1_750_000_000_000, headers)
        self._crash.point("send: after")


class FakeStore:
    """Tables of Arrow rows.

    An insert is whole or not at all, and one with a token that was seen is acknowledged and ignored.
    """

    def __init__(self) -> None:
        self.tables: dict[str, list[dict[str, Any]]] = {}
        self.tokens: set[str] = set()


class FakeClient:
    """The calls of clickhouse_connect's client that the sink makes."""

    def __init__(self, store: FakeStore, crash: Crash) -> None:
        self._store, self._crash = store, crash

    def raw_insert(
        self,
        table: str,
        column_names: Sequence[str],
        insert_block: bytes,
        fmt: str = "",
        settings: dict[str, Any] | None = None,
    ) -> None:
        name = table.removeprefix("gigawatch.")
        self._crash.point(f"insert {name}: before")
        token = (settings or {}).get("insert_deduplication_token", "")
        rows = pa.ipc.open_stream(pa.py_buffer(insert_block)).read_all()
        if list(column_names) != rows.column_names or fmt != "ArrowStream":
            raise ValueError(f"columns {column_names} for {rows.column_names} as {fmt}")
        if not token or token not in self._store.tokens:
            self._store.tables.setdefault(name, []).extend(rows.to_pylist())
            self._store.tokens.add(token)
        self._crash.point(f"insert {name}: after")

    def query(self, sql: str, parameters: dict[str, Any]) -> Any:
        """`pipeline.store.origin.stored`'s question."""
        found = _FROM.search(sql)
        if not found or "kafka_offset >= {first:UInt64}" not in sql:
            raise AssertionError(f"the sink asks something that this store has no answer to: {sql}")
        self._crash.point("query")
        table = _STORED_AS[found[1]]
        rows = {
            (r["kafka_offset"], round(r["kafka_ts"].timestamp() * 1000), _first_day(table, r[table.dated].date()))
            for r in self._store.tables.get(found[1], [])
            if r["kafka_log"] == parameters["log"]
            and r["kafka_partition"] == parameters["partition"]
            and parameters["first"] <= r["kafka_offset"] < parameters["end"]
        }
        return SimpleNamespace(result_rows=sorted(rows))


def _first_day(table: Table, day: dt.date) -> dt.date:
    """What `Table.period` computes."""
    return day.replace(day=1) if table.split == "month" else day if table.split else dt.date(1970, 1, 1)


class FakeClients:
    """What `pipeline.store.sink.Clients` gives, on the fakes."""

    def __init__(self, log: FakeLog, crash: Crash) -> None:
        self._log, self._crash = log, crash

    def consumer(self) -> FakeConsumer:
        return FakeConsumer(self._log, self._crash)

    def producer(self) -> FakeProducer:
        return FakeProducer(self._log, self._crash)
