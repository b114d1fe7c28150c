"""The publisher: what a source emits goes to Kafka, with bounded memory and a clean drain."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable
from typing import Any
from weakref import WeakKeyDictionary

import pyarrow as pa
from aiokafka import AIOKafkaProducer
from aiokafka.errors import UnknownError
from aiokafka.partitioner import DefaultPartitioner

from producers.emission import DeviceList, Emission, Event, SiteTick, SourceFailure
from producers.publish.batches import TickBatches
from producers.publish.coalesce import Coalescer
from producers.publish.disk_buffer import DiskBuffer
from producers.publish.outgoing import OutgoingMessage
from producers.publish.published import Published
from producers.publish.send_queue import SendQueue
from schemas import topics
from schemas.codec import encode_batch
from schemas.frame import Frame
from schemas.validation import mask_invalid

log = logging.getLogger("gigawatch.publish")

MAX_REQUEST = 16 << 20
#: A message of events has at most so many rows and about so many bytes: half of what Kafka takes by default.
EVENT_ROWS, EVENT_BYTES = 20_000, 1 << 19
_REPORT_S = 10.0
_MAX_COALESCING = 262_144  # frames


async def connect(client: dict[str, Any], linger_ms: int = 20) -> AIOKafkaProducer:
    """Returns a started producer: idempotent where the broker can (Tansu cannot), acknowledged by all replicas.

    `client`: address and security.
    """
    options = {
        **client,
        "linger_ms": linger_ms,
        "acks": "all",
        "max_batch_size": 1 << 20,
        "max_request_size": MAX_REQUEST,
        "request_timeout_ms": 20_000,
    }
    producer = AIOKafkaProducer(enable_idempotence=True, **options)
    logging.getLogger("aiokafka.producer").setLevel(logging.CRITICAL)
    try:
        await producer.start()
    except UnknownError:
        await producer.stop()
        producer = AIOKafkaProducer(**options)
        await producer.start()
    finally:
        logging.getLogger("aiokafka.producer").setLevel(logging.WARNING)
    return producer


class Publisher:
    """Sends in order per key; at most `max_pending` bytes wait for Kafka's acknowledgement, then callers wait.

    A site's tick goes out in record batches made here. Loose frames go out as they come; with `merge_s` > 0 they are
    collected until none has come for that long, and go out as ticks with one message a rack. While `paused()` nothing
    is sent and callers wait. With a `spool`, what Kafka does not take goes to disk.
    """

    def __init__(
        self,
        producer: AIOKafkaProducer,
        *,
        max_pending: int = 64 << 20,
        merge_s: float = 0.0,
        paused: Callable[[], bool] = lambda: False,
        spool: DiskBuffer | None = None,
    ) -> None:
        self.published = Published()
        self._producer = producer
        self._merge_s = merge_s
        self._queue = SendQueue(
            producer, self.published.acknowledged, max_pending=max_pending, paused=paused, spool=spool
        )
        self._coalescer = Coalescer()
        self._flushing = asyncio.Lock()
        self._last_frame = 0.0
        self._merge_timer: asyncio.Task[None] | None = None
        #: A device list's encoded messages: they go when its source drops the list.
        self._batches: WeakKeyDictionary[DeviceList, TickBatches] = WeakKeyDictionary()
        self._encoding = asyncio.Lock()
        self._finishing = self._busy = False
        self._task: asyncio.Task[None] | None = None
        self._reported = time.monotonic()

    async def run(self, emissions: AsyncGenerator[Emission]) -> None:
        """Publishes everything a source emits until it ends or `finish` is called, then drains."""
        self._task = asyncio.current_task()
        try:
            async for emission in emissions:
                self._busy = True
                await self.emit(emission)
                self._busy = False
                if self._finishing:
                    break
        except asyncio.CancelledError:
            if not self._finishing:
                raise
        finally:
            self._busy = True
            await emissions.aclose()
            await self.drain()

    def finish(self) -> None:
        """Makes `run` end after the current emission, with a drain; does not wait for the next tick."""
        self._finishing = True
        if self._task is not None and not self._busy:
            self._task.cancel()

    async def emit(self, emission: Emission) -> None:
        """Takes one emission; returns when there is room for it."""
        if time.monotonic() >= self._reported + _REPORT_S:
            await self._report_masked()
        match emission:
            case SiteTick():
                await self._send_tick(emission)
            case Frame():
                await (self._send_frame(emission) if self._merge_s <= 0 else self._collect(emission))
            case Event():
                await self._send_event(topics.derived(emission.derived.name), emission.batch)
            case SourceFailure():
                log.debug("%s: %s", emission.endpoint, emission.reason)
                await self._send_event(topics.derived("quality"), self.published.quality_of_failure(emission))

    async def drain(self) -> None:
        """Sends what was collected and waits until Kafka has acknowledged everything."""
        if self._merge_timer is not None:
            self._merge_timer.cancel()
            await asyncio.gather(self._merge_timer, return_exceptions=True)
        await self._send_collected()
        await self._report_masked()
        await self._queue.drain()

    def status(self) -> dict[str, object]:
        """Returns the counters for the status file; rows and frames are those that Kafka has acknowledged."""
        return {**self.published.status(), "held": self._queue.holds(), **self._queue.status()}

    def devices(self) -> dict[str, int]:
        return dict(self.published.devices())

    async def _send_tick(self, tick: SiteTick) -> None:
        """Kafka's cost is a batch's, not a message's. Order holds per place."""
        async with self._encoding:  # the next tick of the list overwrites its messages
            batches = self._batches.get(tick.devices)
            if batches is None:
                batches = self._batches[tick.devices] = await self._new_batches(tick.devices)
            for message in batches.messages(tick, self.published.masked(tick.devices.kind)):
                await self._queue.send(message)

    async def _new_batches(self, devices: DeviceList) -> TickBatches:
        partitions = sorted(await self._producer.partitions_for(topics.telemetry(devices.kind)))
        choose = DefaultPartitioner()
        batches = TickBatches(devices, lambda key: int(choose(key, partitions, partitions)))
        for place in batches.places:
            self.published.note_place(*place)
        return batches

    async def _send_frame(self, frame: Frame) -> None:
        frame = mask_invalid(frame, self.published.masked(frame.kind))
        self.published.note_place(frame.kind, frame.key(), frame.identity("node")[0], frame.rows)
        await self._queue.send(OutgoingMessage.of_frame(frame))

    async def _send_event(self, topic: str, batch: pa.RecordBatch) -> None:
        """Their topics have one partition: no key. A large batch goes out in several messages, in order."""
        at_once = max(1, min(EVENT_ROWS, batch.num_rows * EVENT_BYTES // max(1, batch.nbytes)))
        for begin in range(0, batch.num_rows, at_once):
            value = encode_batch(batch.slice(begin, at_once))
            await self._queue.send(OutgoingMessage(topic, b"", value, len(value)))

    async def _report_masked(self) -> None:
        """Sends quality rows of masked values by kind, metric and reason, every ten seconds."""
        self._reported = time.monotonic()
        rows = self.published.quality_of_masked(int(time.time() * 1000))
        if rows is not None:
            await self._send_event(topics.derived("quality"), rows)

    async def _collect(self, frame: Frame) -> None:
        self._coalescer.add(frame)
        self._last_frame = time.monotonic()
        if self._merge_timer is None:
            self._merge_timer = asyncio.create_task(self._merge_when_quiet())
        if len(self._coalescer) >= _MAX_COALESCING:
            await self._send_collected(keep_newest=True)

    async def _merge_when_quiet(self) -> None:
        """Sends what was collected once nothing has come for `merge_s`: a tick's frames arrive together."""
        began = time.monotonic()
        try:
            # quiet is the absence of an event
            while time.monotonic() < min(self._last_frame + self._merge_s, began + 8 * self._merge_s):  # noqa: ASYNC110
                await asyncio.sleep(self._merge_s / 4)
        finally:
            self._merge_timer = None
        await self._send_collected(keep_newest=time.monotonic() < self._last_frame + self._merge_s)

    async def _send_collected(self, *, keep_newest: bool = False) -> None:
        async with self._flushing:  # a drain also waits for a flush that began before it
            for tick in self._coalescer.flush(keep_newest=keep_newest):
                await self._send_tick(tick)
