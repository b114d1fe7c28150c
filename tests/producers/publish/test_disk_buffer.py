"""The buffer on disk, and the outbox that uses it while Kafka takes nothing: in order, bounded, through crashes."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import pytest
from aiokafka.errors import KafkaConnectionError, KafkaTimeoutError, MessageSizeTooLargeError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from producers.publish import send_queue
from producers.publish.disk_buffer import DiskBuffer
from producers.publish.outgoing import OutgoingMessage
from producers.publish.send_queue import SendQueue

MB = 1 << 20


def parcel(n: int, size: int = 100) -> OutgoingMessage:
    value = n.to_bytes(8, "big") + bytes(size - 8)
    return OutgoingMessage("telemetry.gpu", b"s/R1", value, size, kind="gpu", rows=72, metrics=20, ts_ms=1000 * n)


def number(p: OutgoingMessage) -> int:
    return int.from_bytes(p.value[:8], "big")


def drained(spool: DiskBuffer, at_once: int = 250) -> list[int]:
    out = []
    while found := spool.first(at_once):
        out += [number(p) for p in found]
        spool.sent(found)
    return out


def test_what_goes_in_comes_out_in_order_and_whole(tmp_path: Path) -> None:
    spool = DiskBuffer(tmp_path, MB, segment=1000)
    for n in range(50):
        spool.put(parcel(n))
    assert len(spool) == 50
    assert spool.first(1)[0] == parcel(0)
    assert drained(spool) == list(range(50))
    assert len(spool) == 0
    assert not list(tmp_path.glob("*.spool"))


def test_another_process_goes_on_where_the_first_was(tmp_path: Path) -> None:
    first = DiskBuffer(tmp_path, MB, segment=1000)
    for n in range(50):
        first.put(parcel(n))
    taken = 0
    for _ in range(7):
        found = first.first(250)
        first.sent(found)
        taken += len(found)
    left = len(first)
    second = DiskBuffer(tmp_path, MB, segment=1000)
    assert len(second) == left == 50 - taken
    second.put(parcel(50))
    second.put_first([parcel(100), parcel(101)])
    third = DiskBuffer(tmp_path, MB, segment=1000)
    assert drained(third) == [100, 101, *range(50 - left, 51)]


def test_past_the_bound_the_oldest_go_and_are_counted(tmp_path: Path) -> None:
    spool = DiskBuffer(tmp_path, 10_000, segment=1000)
    for n in range(200):
        spool.put(parcel(n))
    assert spool.bytes <= 10_000 + 1000
    kept = drained(spool)
    assert kept == list(range(200 - len(kept), 200))
    assert spool.dropped_messages == 200 - len(kept) > 0
    assert spool.dropped_rows == 72 * spool.dropped_messages


def test_what_is_being_sent_is_not_dropped(tmp_path: Path) -> None:
    spool = DiskBuffer(tmp_path, 10_000, segment=1000)
    for n in range(20):
        spool.put(parcel(n))
    sending = spool.first(250)
    for n in range(20, 200):
        spool.put(parcel(n))
    spool.sent(sending)
    assert [number(p) for p in sending] == [0, 1, 2]
    assert len(drained(spool)) + 3 + spool.dropped_messages == 200


@pytest.mark.parametrize("cut", [1, 50, 190])
def test_a_message_that_was_not_written_whole_is_cut_off(tmp_path: Path, cut: int) -> None:
    spool = DiskBuffer(tmp_path, MB)
    for n in range(5):
        spool.put(parcel(n))
    path = next(tmp_path.glob("*.spool"))
    path.write_bytes(path.read_bytes()[:-cut])
    again = DiskBuffer(tmp_path, MB)
    assert len(again) == 4
    again.put(parcel(9))
    assert drained(again) == [0, 1, 2, 3, 9]


def test_a_byte_that_turned_on_disk_ends_the_segment_there(tmp_path: Path) -> None:
    spool = DiskBuffer(tmp_path, MB)
    for n in range(5):
        spool.put(parcel(n))
    path = next(tmp_path.glob("*.spool"))
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(bytes(body))
    assert drained(DiskBuffer(tmp_path, MB)) == [0, 1]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(st.integers(8, 400), st.just("send"), st.just("reopen")), max_size=60))
def test_any_order_of_puts_sends_and_restarts(tmp_path_factory: pytest.TempPathFactory, steps: list[int | str]) -> None:
    folder = tmp_path_factory.mktemp("spool")
    spool, put, got = DiskBuffer(folder, MB, segment=700), 0, list[int]()
    for step in steps:
        if step == "send":
            found = spool.first(300)
            got += [number(p) for p in found]
            if found:
                spool.sent(found)
        elif step == "reopen":
            spool = DiskBuffer(folder, MB, segment=700)
        else:
            spool.put(parcel(put, int(step)))
            put += 1
        assert len(spool) == put - len(got)
    assert got + drained(spool) == list(range(put))


class Kafka:
    """Takes what comes while it is `up`; else fails at once, or says nothing for long."""

    def __init__(self) -> None:
        self.up, self.log, self.silent, self.too_large = True, list[int](), False, 10 * MB

    async def send(self, topic: str, value: bytes, key: bytes | None) -> asyncio.Future[None]:
        if len(value) > self.too_large:
            raise MessageSizeTooLargeError
        while self.silent and not self.up:  # noqa: ASYNC110 - a broker tells nobody
            await asyncio.sleep(0.01)

        async def outcome() -> None:
            await asyncio.sleep(0)
            if not self.up:
                raise KafkaConnectionError
            self.log.append(int.from_bytes(value[:8], "big"))

        return asyncio.ensure_future(outcome())


def make(kafka: Kafka, spool: DiskBuffer | None, arrived: list[int], **options: int) -> SendQueue:
    return SendQueue(
        kafka,
        lambda p: arrived.append(number(p)),
        max_pending=options.get("max_pending", 1 << 20),
        held=lambda: False,
        spool=spool,
    )


async def until(ready: object) -> None:
    async def wait() -> None:
        while not ready():  # type: ignore[operator]  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.01)

    await asyncio.wait_for(wait(), 20)


@pytest.mark.parametrize("silent", [False, True])
async def test_while_kafka_is_away_all_goes_to_disk_and_then_out_in_order(tmp_path: Path, silent: bool) -> None:
    kafka, arrived, spool = Kafka(), list[int](), DiskBuffer(tmp_path, MB, segment=1000)
    box = make(kafka, spool, arrived)
    for n in range(10):
        await box.send(parcel(n))
    await until(lambda: arrived == list(range(10)))
    kafka.up, kafka.silent = False, silent
    for n in range(10, 60):
        await asyncio.wait_for(box.send(parcel(n)), 3)  # the source is not held up
        await asyncio.sleep(0)  # where outcomes arrive: since Python 3.12 `wait_for` itself is no such place
    assert len(spool) > 30
    await until(lambda: box.status()["waiting_s"] != 0.0)
    kafka.up, kafka.silent = True, False
    await asyncio.wait_for(box.drain(), 30)
    assert kafka.log == arrived == list(range(60))
    assert len(spool) == 0
    await box.send(parcel(60))
    await box.drain()
    assert arrived[-1] == 60


async def test_without_a_spool_the_source_waits_and_order_holds() -> None:
    kafka, arrived = Kafka(), list[int]()
    box = make(kafka, None, arrived, max_pending=500)
    kafka.up = False

    async def source() -> None:
        for n in range(30):
            await box.send(parcel(n))

    running = asyncio.create_task(source())
    await until(lambda: box.retries >= 2)
    assert not running.done()
    kafka.up = True
    await asyncio.wait_for(running, 20)
    await box.drain()
    assert kafka.log == arrived == list(range(30))


async def test_what_is_left_at_the_end_goes_first_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(send_queue, "_GRACE_S", 0.3)
    kafka, arrived = Kafka(), list[int]()
    kafka.up = False
    box = make(kafka, DiskBuffer(tmp_path, MB, segment=1000), arrived)
    for n in range(20):
        await box.send(parcel(n))
    await asyncio.wait_for(box.drain(), 10)
    assert not arrived
    kafka.up = True
    again = make(kafka, DiskBuffer(tmp_path, MB, segment=1000), arrived)
    await again.send(parcel(20))
    await asyncio.wait_for(again.drain(), 10)
    assert arrived == list(range(21))


async def test_a_full_disk_makes_the_source_wait_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kafka, arrived, spool = Kafka(), list[int](), DiskBuffer(tmp_path, MB, segment=1000)
    box = make(kafka, spool, arrived)
    kafka.up = False
    room = itertools.count()

    def put(p: OutgoingMessage, real: object = spool.put) -> None:
        if next(room) >= 5:
            raise OSError(28, "No space left on device")
        real(p)  # type: ignore[operator]

    monkeypatch.setattr(spool, "put", put)

    async def source() -> None:
        for n in range(30):
            await box.send(parcel(n))
            await asyncio.sleep(0)

    running = asyncio.create_task(source())
    await until(lambda: len(spool) == 5 and next(room) > 5)
    tried = box.retries
    await until(lambda: box.retries > tried)
    assert not running.done()
    kafka.up = True
    await asyncio.wait_for(running, 20)
    await box.drain()
    assert arrived == list(range(30))


async def test_a_disk_that_takes_not_even_a_note_does_not_stop_the_sending(tmp_path: Path) -> None:
    kafka, arrived, spool = Kafka(), list[int](), DiskBuffer(tmp_path, MB, segment=1000)
    box = make(kafka, spool, arrived)
    (tmp_path / "position.part").mkdir()  # so that writing there fails
    kafka.up = False
    for n in range(20):
        await box.send(parcel(n))
    kafka.up = True
    await asyncio.wait_for(box.drain(), 20)
    assert arrived == list(range(20))


async def test_a_message_that_is_too_large_is_refused_and_counted_not_tried_for_ever() -> None:
    kafka, arrived = Kafka(), list[int]()
    kafka.too_large = 1000
    box = make(kafka, None, arrived)
    for n in range(3):
        await box.send(parcel(n, 2000 if n == 1 else 100))
    await asyncio.wait_for(box.drain(), 5)
    assert arrived == [0, 2]
    assert box.refused_rows == 72
    assert box.status()["pending_bytes"] == 0


async def test_a_time_out_of_one_batch_is_no_loss() -> None:
    class Once(Kafka):
        failed = False

        async def send(self, topic: str, value: bytes, key: bytes | None) -> asyncio.Future[None]:
            if not self.failed and value[7] == 3:
                self.failed = True
                raise KafkaTimeoutError
            return await super().send(topic, value, key)

    kafka, arrived = Once(), list[int]()
    box = make(kafka, None, arrived)
    for n in range(10):
        await box.send(parcel(n))
    await box.drain()
    assert sorted(arrived) == list(range(10))
    assert box.retries == 1
