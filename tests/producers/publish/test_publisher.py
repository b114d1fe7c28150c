"""The publisher: in order, bounded, drained; on a producer that is ours to slow down and break."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator

import pytest
from aiokafka.errors import KafkaTimeoutError

from producers.publish.publisher import Publisher
from producers.sources.source import Emission, SourceFailure
from schemas.codec import Decoder
from schemas.frame import Frame, build, concat
from tests.make_samples import small_frame

Sent = list[tuple[str, bytes, bytes | None]]


class FakeProducer:
    """Keeps what is sent; acknowledges when `release` is set, and fails the first `failures` sends."""

    def __init__(self, failures: int = 0) -> None:
        self.log: Sent = []
        self.release = asyncio.Event()
        self.release.set()
        self.failures = failures
        self.waiting = 0

    async def send(self, topic: str, value: bytes, key: bytes | None) -> asyncio.Future[None]:
        failed = self.failures > 0
        self.failures -= failed

        async def outcome() -> None:
            self.waiting += 1
            await self.release.wait()
            self.waiting -= 1
            if failed:
                raise KafkaTimeoutError
            self.log.append((topic, value, key))

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
    while not producer.log:  # noqa: ASYNC110 - no event tells
        await asyncio.sleep(0)
    publisher.finish()
    await asyncio.wait_for(task, 5)
    assert len(producer.log) == 1


async def test_a_hold_makes_callers_wait_and_loses_nothing() -> None:
    held, looks = True, itertools.count()
    producer = FakeProducer()
    publisher = Publisher(producer, held=lambda: next(looks) >= 0 and held)
    task = asyncio.create_task(publisher.run(source(3)))
    while next(looks) < 5:  # each look of ours is one of them  # noqa: ASYNC110 - no event tells
        await asyncio.sleep(0.01)
    assert producer.log == []
    assert publisher.status()["held"] is True
    held = False
    await asyncio.wait_for(task, 5)
    assert len(producer.log) == 3


async def test_impossible_values_never_leave() -> None:
    producer = FakeProducer()
    publisher = Publisher(producer)
    await publisher.emit(build("gpu", 1, {"site": ["s"], "rack": ["R"], "device": ["g"]}, {"temp_c": [900.0]}))
    await publisher.drain()
    assert Decoder().decode(producer.log[0][1]).values("temp_c")[0] != 900.0
    assert publisher.published.missing == {("temp_c", "range"): 1}


async def test_a_failed_read_is_a_quality_row() -> None:
    producer = FakeProducer()
    publisher = Publisher(producer)
    await publisher.emit(SourceFailure(endpoint="http://x", reason="timeout", ts_ms=1000, site="s", rack="R1"))
    await publisher.drain()
    assert producer.log[0][0] == "events.quality"
    assert publisher.published.silent == {("http://x", "timeout"): 1}


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
        while not producer.log:  # noqa: ASYNC110 - no event tells
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
