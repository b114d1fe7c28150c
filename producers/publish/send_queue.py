"""The send queue: messages to Kafka in order, with bounded memory; to disk while Kafka takes nothing, and from there in
order when it does again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, RecordListTooLargeError
from aiokafka.record.util import calc_crc32c

from producers.publish.disk_buffer import DiskBuffer
from producers.publish.outgoing import OutgoingMessage
from schemas.record_batch import RecordBatchV2

log = logging.getLogger("gigawatch.publish")

_CHECK_PAUSE_S = 0.02
_ROOM_S = 1.0
_RESEND_BYTES = 4 << 20  # from the disk buffer, in flight at once
_GRACE_S = 10.0
_TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)


class SendQueue:
    """Calls `acknowledged` for each message that Kafka has. While `paused()` nothing is sent, and callers wait.

    A send that fails makes the queue `down`: what failed is sent again, in order, and new messages go to the disk
    buffer `spool`; without one (or with a disk that takes nothing) callers wait. A message that is larger than Kafka
    takes is dropped and counted in `refused_rows` and `refused_messages`.
    """

    def __init__(
        self,
        producer: AIOKafkaProducer,
        acknowledged: Callable[[OutgoingMessage], None],
        *,
        max_pending: int,
        paused: Callable[[], bool],
        spool: DiskBuffer | None = None,
    ) -> None:
        self._producer, self._acknowledged, self._spool = producer, acknowledged, spool
        self._max_pending, self._paused = max_pending, paused
        self._room = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()
        self._in_flight: dict[int, OutgoingMessage] = {}
        self._failed: dict[int, OutgoingMessage] = {}
        self._number = 0
        self._recovering: asyncio.Task[None] | None = None
        self._checked_pause = 0.0
        self._last_ack = time.monotonic()
        self.pending_bytes = self._entering_bytes = self.retries = self.refused_rows = 0
        self.refused_messages: Counter[str] = Counter()  # by topic
        if spool is not None and len(spool):
            log.info("%d messages of an earlier run are in %s: they go first", len(spool), spool.folder)
            self._recover()

    @property
    def _down(self) -> bool:
        return self._recovering is not None

    def status(self) -> dict[str, object]:
        idle = not self._in_flight and not self._failed and not self._down
        waiting_s = 0.0 if idle or self._paused() else round(time.monotonic() - self._last_ack, 1)
        return {
            "pending_bytes": self.pending_bytes + (self._entering_bytes if self._paused() else 0),
            "retries": self.retries,
            "refused_rows": self.refused_rows,
            "refused_messages": dict(self.refused_messages),
            "waiting_s": waiting_s,
            "spool": self._spool.status() if self._spool is not None else {},
        }

    def holds(self) -> bool:
        """Whether sending is paused. From a True on no message passes, since the next one looks again at once."""
        if self._paused():
            self._checked_pause = 0.0
            return True
        return False

    async def send(self, message: OutgoingMessage) -> None:
        """Takes one message; returns when there was room for it, in memory or on disk."""
        await self._until_unpaused()
        self._entering_bytes += message.size  # it has passed the pause and is not pending yet
        try:
            while True:
                if self._down and self._buffer_on_disk(message):
                    return
                if await self._reserve(message.size):
                    break
        finally:
            self._entering_bytes -= message.size
        await self._start(message)

    async def drain(self) -> None:
        """Waits until Kafka has everything. With a disk buffer, when Kafka stays away, the rest is left on disk for the
        next start.
        """
        deadline = time.monotonic() + _GRACE_S
        while self._tasks or self._down:
            waiting = {*self._tasks, *([self._recovering] if self._recovering else [])}
            await asyncio.wait(waiting, timeout=0.5)
            quiet = time.monotonic() - self._last_ack > _GRACE_S
            if self._spool is not None and quiet and time.monotonic() > deadline:
                self._leave_on_disk(self._spool)
                return

    async def _until_unpaused(self) -> None:
        while time.monotonic() >= self._checked_pause + _CHECK_PAUSE_S:
            self._checked_pause = time.monotonic()
            if self._paused():  # the hold is a file that another process removes
                self._checked_pause = 0.0
                await asyncio.sleep(0.05)

    def _leave_on_disk(self, spool: DiskBuffer) -> None:
        for task in (*self._tasks, *([self._recovering] if self._recovering else [])):
            task.cancel()
        spool.put_first([message for _, message in sorted({**self._in_flight, **self._failed}.items())])
        log.warning(
            "Kafka took nothing for %.0f s: %d messages stay in %s and go first at the next start",
            time.monotonic() - self._last_ack,
            len(spool),
            spool.folder,
        )

    def _buffer_on_disk(self, message: OutgoingMessage) -> bool:
        if self._spool is None:
            return False
        try:
            self._spool.put(message)
        except OSError as err:  # the source waits then, which loses nothing that it does not lose itself
            log.error("the disk buffer %s takes no more: %s; the source waits", self._spool.folder, err)  # noqa: TRY400
            return False
        return True

    async def _reserve(self, size: int) -> bool:
        """Returns False when the queue went down meanwhile, or when no room came up for so long that the disk buffer
        takes over.
        """

        def free() -> bool:
            return self._down or self.pending_bytes == 0 or self.pending_bytes + size <= self._max_pending

        async with self._room:
            if self._down:  # only without a disk buffer: wait for Kafka
                await self._room.wait_for(lambda: not self._down)
            try:
                await asyncio.wait_for(self._room.wait_for(free), _ROOM_S if self._spool is not None else None)
            except TimeoutError:
                self._recover()
            if self._down:
                return False
            self.pending_bytes += size
            return True

    async def _release(self, size: int) -> None:
        async with self._room:
            self.pending_bytes -= size
            self._room.notify_all()

    async def _start(self, message: OutgoingMessage) -> None:
        """Queues the first attempt, in order; a task awaits its outcome."""
        self._number += 1
        number = self._number
        if not self._in_flight:
            self._last_ack = time.monotonic()
        self._in_flight[number] = message
        try:
            sent = await asyncio.wait_for(self._enqueue(message), _ROOM_S if self._spool is not None else None)
        except _TOO_LARGE as err:
            await self._drop(number, err)
            return
        except (KafkaError, TimeoutError) as err:
            await self._fail(number, err)
            return
        task = asyncio.create_task(self._outcome(number, message, sent))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _enqueue(self, message: OutgoingMessage) -> asyncio.Future[object]:
        if message.messages:
            batch = RecordBatchV2(message.value, message.messages, int(time.time() * 1000), calc_crc32c)
            sent: asyncio.Future[object] = await self._producer.send_batch(
                batch, message.topic, partition=message.partition
            )
        else:
            sent = await self._producer.send(message.topic, message.value, message.key or None)
        return sent

    async def _outcome(self, number: int, message: OutgoingMessage, sent: asyncio.Future[object]) -> None:
        try:
            await sent
        except _TOO_LARGE as err:
            await self._drop(number, err)
            return
        except KafkaError as err:
            await self._fail(number, err)
            return
        self._in_flight.pop(number)
        self._acknowledge(message)
        await self._release(message.size)

    def _acknowledge(self, message: OutgoingMessage) -> None:
        self._last_ack = time.monotonic()
        self._acknowledged(message)

    async def _drop(self, number: int, err: KafkaError) -> None:
        message = self._in_flight.pop(number)
        self._refuse(message, err)
        await self._release(message.size)

    def _refuse(self, message: OutgoingMessage, err: KafkaError) -> None:
        self.refused_messages[message.topic] += message.count
        self.refused_rows += message.rows
        log.error(
            "%s: a message of %d bytes is more than Kafka takes and is dropped (%d rows): %s. Let the source "
            "send smaller frames",
            message.topic,
            message.size,
            message.rows,
            str(err) or type(err).__name__,
        )

    async def _fail(self, number: int, err: Exception) -> None:
        self._failed[number] = self._in_flight.pop(number)
        if not self._down:
            log.warning(
                "Kafka does not take messages (%s: %s): %s",
                self._failed[number].topic,
                str(err) or type(err).__name__,
                "they wait" if self._spool is None else f"they go to {self._spool.folder}",
            )
        self._recover()
        async with self._room:
            self._room.notify_all()

    def _recover(self) -> None:
        if self._recovering is None:
            self._recovering = asyncio.create_task(self._resend())

    async def _resend(self) -> None:
        """Waits for the outcome of all that is in flight; then sends what failed and what is on disk, in the order in
        which it came.
        """
        while self._in_flight:  # noqa: ASYNC110 - the tasks that empty it are not all known yet
            await asyncio.sleep(0.02)
        for number in sorted(self._failed):
            message = self._failed[number]
            self.retries += 1
            await self._until_acknowledged([message])
            del self._failed[number]
            await self._release(message.size)
        while self._spool is not None and (waiting := self._spool.first(_RESEND_BYTES)):
            size = sum(message.size for message in waiting)
            self.pending_bytes += size
            await self._until_acknowledged(waiting)
            self._spool.sent(waiting)
            await self._release(size)
        self._recovering = None
        log.info("Kafka takes messages again")
        async with self._room:
            self._room.notify_all()

    async def _until_acknowledged(self, messages: list[OutgoingMessage]) -> None:
        """Sends them together, and those that fail again, in their order, with growing pauses."""
        pause = 0.1
        while True:
            await self._until_unpaused()
            outcomes: list[tuple[OutgoingMessage, asyncio.Future[object] | KafkaError]] = []
            for message in messages:
                try:
                    outcomes.append((message, await self._enqueue(message)))
                except KafkaError as err:
                    outcomes.append((message, err))
            left = [message for message, outcome in outcomes if not await self._settled(message, outcome)]
            if not left:
                return
            messages = left
            self.retries += len(messages)
            await asyncio.sleep(pause)
            pause = min(pause * 2, 5.0)

    async def _settled(self, message: OutgoingMessage, outcome: asyncio.Future[object] | KafkaError) -> bool:
        """Returns False for a message that is to be sent again."""
        try:
            if isinstance(outcome, KafkaError):
                raise outcome
            await outcome
        except _TOO_LARGE as err:
            self._refuse(message, err)
        except KafkaError:
            return False
        else:
            self._acknowledge(message)
        return True
