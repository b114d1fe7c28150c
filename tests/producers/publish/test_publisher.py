"""The publisher: in order, bounded, drained; on a producer that is ours to slow down and break."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator
from typing import Any

import pyarrow as pa
import pytest
from aiokafka.errors import KafkaTimeoutError
from aiokafka.record.memory_records import MemoryRecords

from producers.emission import Emission, Event, SourceFailure
from producers.publish.publisher import Publisher
from schemas.codec import Decoder
from schemas.derived import decode
from schemas.frame import Frame, build, concat
from schemas.inventory import NAME
from tests.make_samples import small_frame


class FakeProducer:
    """Keeps the messages that are sent, also those in batches; acknowledges when `release` is set, and fails the first
    `failures` sends.
    """

    def __init__(self, failures: int = 0) -> None:
        self.log: list[tuple[str, bytes, bytes | None]] = []
        self.release = asyncio.Event()
        self.release.set()
        self.failures = failures
        self.waiting = 0

    async def partitions_for(self, topic: str) -> set[int]:
        return {0}

    async def send(self, topic: str, value: bytes, key: bytes | None) -> asyncio.Future[None]:
        return self._outcome([(topic, value, key)])

    async def send_batch(self, batch: Any, topic: str, *, partition: int) -> asyncio.Future[None]:
        return self._outcome([(topic, r.value, r.key) for r in MemoryRecords(bytes(batch._build())).next_batch()])

    def _outcome(self, messages: list[tuple[str, bytes, bytes | None]]) -> asyncio.Future[None]:
        failed = self.failures > 0
        self.failures -= failed

        async def outcome() -> None:
            self.waiting += 1
            await self.release.wait()
            self.waiting -= 1
            if failed:
                raise KafkaTimeoutError
            self.log += messages

        return asyncio.ensure_future(outcome())


def frame(n: int, rack: str = "R1") -> Frame:
    return build(
        "gpu", 1_750_000_000_000 + n, {"site": ["s"], "rack": [rack], "device": [f"g{n}"]}, {"power_w": [float(n)]}
    )


async def source(count: int) -> AsyncGenerator[Emission]:
    for n in range(count):
        yield frame(n)


async def test_everything_is_sent_in_order_and_counted() -> None:
    producer = FakeProducer()
    publisher = Publisher(producer)
    await publisher.run(source(20))
    assert [Decoder().decode(v).identity("device")[0] for _, v, _ in producer.log] == [f"g{n}" for n in range(20)]
    assert {(t, k) for t, _, k in producer.log} == {("telemetry.gpu", b"s/R1")}
    assert publisher.published.rows["telemetry.gpu"] == 20
    assert publisher.status()["last_ts_ms"] == 1_750_000_000_019


async def test_a_large_event_goes_out_in_several_messages_in_order() -> None:
    """An inventory of 100,000 GPUs: a Kafka takes a megabyte a message as it comes."""
    rows, producer = 45_000, FakeProducer()
    row = dict.fromkeys(NAME.names, "") | {"seen": 5, "valid_from": 5, "valid_to": 0, "system": "slurm"}
    batch = NAME.build_rows([row | {"name": f"n{k}", "asset": f"GPU-{k:032d}"} for k in range(rows)])
    publisher = Publisher(producer)
    await publisher.emit(Event(NAME, batch))
    await publisher.drain()
    assert {(topic, key) for topic, _, key in producer.log} == {("events.name", None)}
    found = [decode(value)[1] for _, value, _ in producer.log]
    assert [name for part in found for name in part.column("name").to_pylist()] == [f"n{k}" for k in range(rows)]
    assert all(part.num_rows <= 20_000 for part in found)
    assert max(len(value) for _, value, _ in producer.log) < 700_000


async def test_memory_is_bounded_while_kafka_is_slow() -> None:
    producer = FakeProducer()
    producer.release.clear()
    size = 3000
    publisher = Publisher(producer, max_pending=size)
    task = asyncio.create_task(publisher.run(source(50)))
    for _ in range(50):
        await asyncio.sleep(0)
    held = publisher.status()["pending_bytes"]
    assert isinstance(held, int)
    assert 0 < held <= size
    assert producer.waiting < 5
    assert not task.done()
    producer.release.set()
    await asyncio.wait_for(task, 5)
    assert len(producer.log) == 50


async def test_a_failed_send_is_sent_again_until_it_works() -> None:
    producer = FakeProducer(failures=2)
    publisher = Publisher(producer)
    await asyncio.wait_for(publisher.run(source(5)), 10)
    assert {Decoder().decode(v).identity("device")[0] for _, v, _ in producer.log} == {f"g{n}" for n in range(5)}
    assert publisher.status()["retries"] == 2


async def test_finish_drains_and_does_not_wait_for_the_next_tick() -> None:
    async def slow() -> AsyncGenerator[Emission]:
        yield frame(0)
        await asyncio.sleep(3600)
        yield frame(1)

    producer = FakeProducer()
    publisher = Publisher(producer)
    task = asyncio.create_task(publisher.run(slow()))
    while not producer.log:  # noqa: ASYNC110 - no event for this
        await asyncio.sleep(0)
    publisher.finish()
    await asyncio.wait_for(task, 5)
    assert len(producer.log) == 1


async def test_a_pause_makes_callers_wait_and_loses_nothing() -> None:
    paused, looks = True, itertools.count()
    producer = FakeProducer()
    publisher = Publisher(producer, paused=lambda: next(looks) >= 0 and paused)
    task = asyncio.create_task(publisher.run(source(3)))
    while next(looks) < 5:  # each look of ours is one of them  # noqa: ASYNC110 - no event for this
        await asyncio.sleep(0.01)
    assert producer.log == []
    assert publisher.status()["held"] is True
    paused = False
    await asyncio.wait_for(task, 5)
    assert len(producer.log) == 3


async def test_invalid_values_never_leave() -> None:
    producer = FakeProducer()
    publisher = Publisher(producer)
    await publisher.emit(build("gpu", 1, {"site": ["s"], "rack": ["R"], "device": ["g"]}, {"temp_c": [900.0]}))
    await publisher.drain()
    assert Decoder().decode(producer.log[0][1]).values("temp_c")[0] != 900.0
    assert publisher.published.missing == {("temp_c", "range"): 1}


@pytest.mark.parametrize(
    ("failure", "place"),
    [
        (SourceFailure("http://10.0.0.7:9400/metrics", "timeout", 1000, "site-2", "R0007"), ("site-2", "R0007")),
        (SourceFailure("http://10.0.0.7:9400/metrics", "timeout", 1000), ("", "")),
    ],
)
async def test_a_failed_read_is_a_quality_row_of_its_rack_and_the_status_names_its_endpoint(
    failure: SourceFailure, place: tuple[str, str]
) -> None:
    producer = FakeProducer()
    publisher = Publisher(producer)
    await publisher.emit(failure)
    await publisher.drain()
    ((topic, value, _),) = producer.log
    (row,) = pa.ipc.open_stream(value).read_all().to_pylist()
    assert topic == "events.quality"
    assert (row["site"], row["rack"]) == place
    assert (row["kind"], row["metric"], row["reason"], row["count"]) == ("source", "", "timeout", 1)
    assert publisher.status()["silent"] == {"http://10.0.0.7:9400/metrics: timeout": 1}


async def test_a_drain_waits_for_frames_that_are_being_merged_already() -> None:
    """The merge's own timer sends them: a drain that comes meanwhile must not end before they are out."""
    producer = FakeProducer()
    producer.release.clear()
    publisher = Publisher(producer, merge_s=0.01, max_pending=1)
    for n in range(5):
        await publisher.emit(frame(0, f"R{n}"))
        await publisher.emit(build("node", n, {"site": ["s"], "rack": [f"R{n}"], "device": ["c"]}, {"temp_c": [40.0]}))
    while not producer.waiting:  # noqa: ASYNC110 - no event for this
        await asyncio.sleep(0.005)
    draining = asyncio.create_task(publisher.drain())
    await asyncio.sleep(0)
    producer.release.set()
    await asyncio.wait_for(draining, 5)
    assert len(producer.log) == 10


async def test_small_frames_are_merged() -> None:
    producer = FakeProducer()
    publisher = Publisher(producer, merge_s=60)
    for n in range(4):
        await publisher.emit(frame(n))
    await publisher.emit(frame(9, "R2"))
    await publisher.drain()
    assert sorted(Decoder().decode(v).rows for _, v, _ in producer.log) == [1, 4]


async def test_merged_frames_go_out_when_it_is_quiet_without_being_asked() -> None:
    producer = FakeProducer()
    publisher = Publisher(producer, merge_s=0.02)
    for n in range(3):
        await publisher.emit(frame(n))

    async def sent() -> None:
        while not producer.log:  # noqa: ASYNC110 - no event for this
            await asyncio.sleep(0.005)

    await asyncio.wait_for(sent(), 5)
    assert [Decoder().decode(v).rows for _, v, _ in producer.log] == [3]
    await publisher.drain()
    assert len(producer.log) == 1


def test_merging_frames_with_other_columns_keeps_all() -> None:
    other = build("gpu", 5, {"site": ["s"], "rack": ["R0001"], "device": ["x"]}, {"temp_c": [40.0], "util_pct": [5.0]})
    merged = concat([small_frame(), other])
    assert merged.rows == 3
    assert merged.values("util_pct")[2] == 5.0
    assert merged.values("power_w")[0] == pytest.approx(631.9)
    assert merged.values("power_w")[2] != merged.values("power_w")[2]
