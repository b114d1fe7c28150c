"""The send queue: in order with bounded memory, through a Kafka that is away, a full disk and refused messages."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import pytest
from aiokafka.errors import KafkaConnectionError, KafkaTimeoutError, MessageSizeTooLargeError

from producers.publish import send_queue
from producers.publish.disk_buffer import DiskBuffer
from producers.publish.outgoing import OutgoingMessage
from producers.publish.send_queue import SendQueue
from tests.producers.publish.fakes import message, number
from tests.producers.publish.test_publisher import FakeProducer

MB = 1 << 20


class Kafka:
    """Takes what comes while it is `up`; else fails at once, or does not answer for long."""

    def __init__(self) -> None:
        self.up, self.log, self.silent, self.too_large = True, list[int](), False, 10 * MB

    async def send(self, topic: str, value: bytes, key: bytes | None) -> asyncio.Future[None]:
        if len(value) > self.too_large:
            raise MessageSizeTooLargeError
        while self.silent and not self.up:  # noqa: ASYNC110 - a broker has no event for this
            await asyncio.sleep(0.01)

        async def outcome() -> None:
            await asyncio.sleep(0)
            if not self.up:
                raise KafkaConnectionError
            self.log.append(int.from_bytes(value[:8], "big"))

        return asyncio.ensure_future(outcome())


def make(kafka: Kafka, buffer: DiskBuffer | None, arrived: list[int], **options: int) -> SendQueue:
    return SendQueue(
        kafka,
        lambda p: arrived.append(number(p)),
        max_pending=options.get("max_pending", 1 << 20),
        paused=lambda: False,
        spool=buffer,
    )


async def until(ready: object) -> None:
    async def wait() -> None:
        while not ready():  # type: ignore[operator]  # noqa: ASYNC110 - no event for this
            await asyncio.sleep(0.01)

    await asyncio.wait_for(wait(), 20)


@pytest.mark.parametrize("silent", [False, True])
async def test_while_kafka_is_away_all_goes_to_disk_and_then_out_in_order(tmp_path: Path, silent: bool) -> None:
    kafka, arrived, buffer = Kafka(), list[int](), DiskBuffer(tmp_path, MB, segment=1000)
    queue = make(kafka, buffer, arrived)
    for n in range(10):
        await queue.send(message(n))
    await until(lambda: arrived == list(range(10)))
    kafka.up, kafka.silent = False, silent
    for n in range(10, 60):
        await asyncio.wait_for(queue.send(message(n)), 3)  # the source is not held up
        await asyncio.sleep(0)  # where outcomes arrive: since Python 3.12 `wait_for` itself is no such place
    assert len(buffer) > 30
    await until(lambda: queue.status()["waiting_s"] != 0.0)
    kafka.up, kafka.silent = True, False
    await asyncio.wait_for(queue.drain(), 30)
    assert kafka.log == arrived == list(range(60))
    assert len(buffer) == 0
    await queue.send(message(60))
    await queue.drain()
    assert arrived[-1] == 60


async def test_without_a_spool_the_source_waits_and_order_holds() -> None:
    kafka, arrived = Kafka(), list[int]()
    queue = make(kafka, None, arrived, max_pending=500)
    kafka.up = False

    async def source() -> None:
        for n in range(30):
            await queue.send(message(n))

    running = asyncio.create_task(source())
    await until(lambda: queue.retries >= 2)
    assert not running.done()
    kafka.up = True
    await asyncio.wait_for(running, 20)
    await queue.drain()
    assert kafka.log == arrived == list(range(30))


async def test_what_is_left_at_the_end_goes_first_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(send_queue, "_GRACE_S", 0.3)
    kafka, arrived = Kafka(), list[int]()
    kafka.up = False
    queue = make(kafka, DiskBuffer(tmp_path, MB, segment=1000), arrived)
    for n in range(20):
        await queue.send(message(n))
    await asyncio.wait_for(queue.drain(), 10)
    assert not arrived
    kafka.up = True
    again = make(kafka, DiskBuffer(tmp_path, MB, segment=1000), arrived)
    await again.send(message(20))
    await asyncio.wait_for(again.drain(), 10)
    assert arrived == list(range(21))


async def test_a_full_disk_makes_the_source_wait_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kafka, arrived, buffer = Kafka(), list[int](), DiskBuffer(tmp_path, MB, segment=1000)
    queue = make(kafka, buffer, arrived)
    kafka.up = False
    room = itertools.count()

    def put(p: OutgoingMessage, real: object = buffer.put) -> None:
        if next(room) >= 5:
            raise OSError(28, "No space left on device")
        real(p)  # type: ignore[operator]

    monkeypatch.setattr(buffer, "put", put)

    async def source() -> None:
        for n in range(30):
            await queue.send(message(n))
            await asyncio.sleep(0)

    running = asyncio.create_task(source())
    await until(lambda: len(buffer) == 5 and next(room) > 5)
    tried = queue.retries
    await until(lambda: queue.retries > tried)
    assert not running.done()
    kafka.up = True
    await asyncio.wait_for(running, 20)
    await queue.drain()
    assert arrived == list(range(30))


async def test_a_disk_that_takes_not_even_a_note_does_not_stop_the_sending(tmp_path: Path) -> None:
    kafka, arrived, buffer = Kafka(), list[int](), DiskBuffer(tmp_path, MB, segment=1000)
    queue = make(kafka, buffer, arrived)
    (tmp_path / "position.part").mkdir()  # so that writing there fails
    kafka.up = False
    for n in range(20):
        await queue.send(message(n))
    kafka.up = True
    await asyncio.wait_for(queue.drain(), 20)
    assert arrived == list(range(20))


async def test_a_message_that_is_too_large_is_refused_and_counted_not_tried_for_ever() -> None:
    kafka, arrived = Kafka(), list[int]()
    kafka.too_large = 1000
    queue = make(kafka, None, arrived)
    for n in range(3):
        await queue.send(message(n, 2000 if n == 1 else 100))
    await asyncio.wait_for(queue.drain(), 5)
    assert arrived == [0, 2]
    status = queue.status()
    assert (status["refused_messages"], status["refused_rows"]) == ({"telemetry.gpu": 1}, 72)
    assert status["pending_bytes"] == 0


async def test_a_message_on_disk_that_is_too_large_is_refused_and_those_behind_it_go_out(tmp_path: Path) -> None:
    kafka, arrived, buffer = Kafka(), list[int](), DiskBuffer(tmp_path, MB)
    kafka.too_large = 1000
    for n in range(3):
        buffer.put(message(n, 2000 if n == 1 else 100))
    queue = make(kafka, buffer, arrived)
    await asyncio.wait_for(queue.drain(), 5)
    assert arrived == [0, 2]
    assert queue.status()["refused_messages"] == {"telemetry.gpu": 1}
    assert len(buffer) == 0


async def test_a_time_out_of_one_batch_is_no_loss() -> None:
    class Once(Kafka):
        failed = False

        async def send(self, topic: str, value: bytes, key: bytes | None) -> asyncio.Future[None]:
            if not self.failed and value[7] == 3:
                self.failed = True
                raise KafkaTimeoutError
            return await super().send(topic, value, key)

    kafka, arrived = Once(), list[int]()
    queue = make(kafka, None, arrived)
    for n in range(10):
        await queue.send(message(n))
    await queue.drain()
    assert sorted(arrived) == list(range(10))
    assert queue.retries == 1


async def test_nothing_passes_a_pause_that_the_status_has_confirmed() -> None:
    """Who reads "held, nothing pending" replaces the broker: what passes afterwards is lost with the old one."""
    paused, kafka, arrived = False, Kafka(), list[int]()
    queue = SendQueue(kafka, lambda p: arrived.append(number(p)), max_pending=MB, paused=lambda: paused)
    await queue.send(message(0))  # looks at the pause, and would not look again for some milliseconds
    await until(lambda: arrived == [0])
    paused = True
    assert queue.holds()
    assert queue.status()["pending_bytes"] == 0
    sending = asyncio.create_task(queue.send(message(1)))
    for _ in range(20):
        await asyncio.sleep(0)
    assert kafka.log == [0]
    paused = False
    await sending
    await until(lambda: arrived == [0, 1])


async def test_a_message_that_has_passed_the_pause_is_pending_from_then_on() -> None:
    """It waits for room, and goes out although a pause has begun meanwhile."""
    producer, paused, done = FakeProducer(), False, list[int]()
    producer.release.clear()
    queue = SendQueue(producer, lambda p: done.append(p.size), max_pending=600, paused=lambda: paused)
    await queue.send(message(0, 500))
    second = asyncio.create_task(queue.send(message(1, 500)))
    await asyncio.sleep(0)
    assert queue.status()["pending_bytes"] == 500
    paused = True
    assert queue.status()["pending_bytes"] == 1000
    producer.release.set()
    await second
    await queue.drain()
    assert done == [500, 500]
    assert queue.status()["pending_bytes"] == 0
