"""What the sink relies on, of the fakes and of the real services alike."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest
from aiokafka import TopicPartition
from aiokafka.abc import ConsumerRebalanceListener

from pipeline import kafka
from pipeline.sink import dedup
from pipeline.sink.clients import Clients
from pipeline.sink.insert import Sender
from pipeline.store.client import connect
from pipeline.store.migrate import migrate
from pipeline.store.tables import BY_TOPIC, TABLES
from schemas import topics
from tests.fakes import Crash, FakeClient, FakeClients, FakeLog, FakeStore

TP = TopicPartition(topics.DEAD_LETTERS, 0)


class Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Notes what was assigned."""

    def __init__(self) -> None:
        self.assigned: set[TopicPartition] = set()

    async def on_partitions_assigned(self, assigned: Any) -> None:
        self.assigned |= set(assigned)

    async def on_partitions_revoked(self, revoked: Any) -> None:
        self.assigned -= set(revoked)


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.service)])
def clients(request: pytest.FixtureRequest) -> Any:
    """`Clients` of a broker with our topics and nothing in them."""
    if request.param == "fake":
        return FakeClients(FakeLog({TopicPartition(topic, 0): [] for topic in BY_TOPIC}), Crash())
    bootstrap = request.getfixturevalue("broker")
    asyncio.run(kafka.ensure_topics(bootstrap))
    return Clients(bootstrap, f"contract-{uuid.uuid4().hex[:6]}")


async def _read(consumer: Any, count: int) -> list[Any]:
    found: list[Any] = []
    deadline = time.monotonic() + 30
    while len(found) < count:
        assert time.monotonic() < deadline, found
        for records in (await consumer.getmany(timeout_ms=100)).values():
            found += records
    return found


async def test_the_log_gives_back_what_was_sent_in_order_and_remembers_commits(clients: Any) -> None:
    producer = clients.producer()
    await producer.start()
    for n in range(5):
        await producer.send_and_wait(TP.topic, b"letter %d" % n, headers=[("reason", b"why"), ("n", str(n).encode())])
    await producer.stop()

    async def member() -> tuple[Any, Listener]:
        consumer, listener = clients.consumer(), Listener()
        consumer.subscribe([TP.topic], listener=listener)
        await consumer.start()
        return consumer, listener

    consumer, listener = await member()
    found = await _read(consumer, 5)
    assert [(r.topic, r.partition, r.offset, r.value) for r in found] == [
        (TP.topic, 0, n, b"letter %d" % n) for n in range(5)
    ]
    assert [tuple(r.headers) for r in found] == [(("reason", b"why"), ("n", str(n).encode())) for n in range(5)]
    assert all(r.timestamp > 1_700_000_000_000 for r in found)
    assert TP in listener.assigned
    assert TP in consumer.assignment()
    assert await consumer.end_offsets([TP]) == {TP: 5}
    assert not await consumer.committed(TP)
    await consumer.commit({TP: 3})
    assert await consumer.committed(TP) == 3
    consumer.pause(TP)
    assert await consumer.getmany(timeout_ms=50) == {}
    consumer.resume(TP)
    await consumer.stop()

    again, _ = await member()
    assert [r.offset for r in await _read(again, 2)] == [3, 4], "another member begins where was committed"
    await again.stop()


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.service)])
def store(request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param == "fake":
        yield FakeClient(FakeStore(), Crash())
        return
    made = connect(request.getfixturevalue("clickhouse"))
    migrate(made)
    yield made
    made.close()


def test_the_store_keeps_an_insert_whole_knows_tokens_and_says_what_it_has(store: Any) -> None:
    table, log_id = TABLES["quality"], f"contract-{uuid.uuid4().hex}"
    now = int(time.time()) * 1000
    ts = pa.timestamp("ms", "UTC")

    def rows(offset: int) -> pa.Table:
        return pa.table(
            {
                "ts": pa.array([now, now], ts),
                "kind": ["gpu"] * 2,
                "site": ["s"] * 2,
                "rack": ["a", "b"],
                "metric": [""] * 2,
                "reason": ["late"] * 2,
                "count": pa.array([1, 2], pa.uint64()),
                "kafka_log": [log_id] * 2,
                "kafka_partition": pa.array([0, 0], pa.uint16()),
                "kafka_offset": pa.array([offset] * 2, pa.uint64()),
                "kafka_ts": pa.array([now + offset] * 2, ts),
            }
        )

    sender = Sender(store)
    for offset, token in ((7, "a"), (9, "b"), (9, "b"), (7, "a")):
        sender.send(table, rows(offset), f"{log_id}/{token}")
    found = dedup.stored_offsets(store, table, log_id, 0, 0, 100)
    assert set(found) == {(7, now + 7), (9, now + 9)}
    assert all(len(days) == 1 for days in found.values())
    assert set(dedup.stored_offsets(store, table, log_id, 0, 8, 100)) == {(9, now + 9)}
    assert set(dedup.stored_offsets(store, table, log_id, 0, 0, 9)) == {(7, now + 7)}
    assert dedup.stored_offsets(store, table, log_id, 1, 0, 100) == {}
    assert dedup.stored_offsets(store, table, "another log", 0, 0, 100) == {}
    if isinstance(store, FakeClient):
        assert len(store._store.tables["quality"]) == 4
    else:
        kept = store.query(
            "SELECT count() FROM gigawatch.quality WHERE kafka_log = {log:String}", parameters={"log": log_id}
        ).result_rows[0][0]
        assert kept == 4, "a token that was seen is acknowledged and ignored"


@pytest.mark.parametrize(("name", "periods"), [("labels", {15}), ("allocations", {1}), ("assets", {1})])
def test_the_store_names_the_first_day_of_what_it_holds_together(store: Any, name: str, periods: set[int]) -> None:
    """A day, a month, and for what is not split one for all."""
    table, log_id = TABLES[name], f"contract-{uuid.uuid4().hex}"
    moment = dt.datetime.now(dt.UTC).replace(day=15)
    stamps = pa.array([moment], pa.timestamp("ms", "UTC"))
    rows = pa.table(
        {
            **dict.fromkeys({table.dated, table.aged} - {""}, stamps),
            "kafka_log": [log_id],
            "kafka_partition": pa.array([0], pa.uint16()),
            "kafka_offset": pa.array([7], pa.uint64()),
            "kafka_ts": pa.array([1000], pa.timestamp("ms", "UTC")),
        }
    )
    Sender(store).send(table, rows, f"{log_id}/a")
    found = dedup.stored_offsets(store, table, log_id, 0, 0, 100)
    assert list(found) == [(7, 1000)]
    assert {day.day for day in found[7, 1000]} == periods
    assert {day.year for day in found[7, 1000]} == {moment.year if table.split else 1970}
