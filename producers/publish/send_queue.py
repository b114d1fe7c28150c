"""The outbox: parcels to Kafka in order, with bounded memory; to disk while Kafka takes nothing, and from there in
order when it does again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from producers.publish.disk_buffer import DiskBuffer
from producers.publish.outgoing import OutgoingMessage
from schemas.record_batch import RecordBatchV2

log = logging.getLogger("gigawatch.publish")

_LOOK_AT_HOLD_S = 0.02
_ROOM_S = 1.0
_TOGETHER = 4 << 20  # bytes from the spool that are on their way at once
_GRACE_S = 10.0


class SendQueue:
    """`arrived` is called when Kafka has acknowledged a parcel. While `held()` nothing is sent, and callers wait.

    A send that fails makes the outbox `down`: what failed is sent again, in order, and what comes meanwhile goes to the
    spool; without a spool (or with a disk that takes nothing) callers wait.
    """

    def __init__(
        self,
        producer: AIOKafkaProducer,
        arrived: Callable[[OutgoingMessage], None],
        *,
        max_pending: int,
        held: Callable[[], bool],
        spool: DiskBuffer | None = None,
    ) -> None:
        self._producer, self._arrived, self._max_pending, self._held, self._spool = (
            producer,
            arrived,
            max_pending,
            held,
            spool,
        )
        self._room = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()
        self._on_way: dict[int, OutgoingMessage] = {}
        self._failed: dict[int, OutgoingMessage] = {}
        self._number = 0
        self._recovering: asyncio.Task[None] | None = None
        self._looked = 0.0
        self._last_word = time.monotonic()
        self.pending_bytes = 0
        self.retries = 0
        self.refused_rows = 0
        if spool is not None and len(spool):
            log.info("%d messages of before are in the spool %s: they go first", len(spool), spool.folder)
            self._recover()

    @property
    def _down(self) -> bool:
        return self._recovering is not None

    def status(self) -> dict[str, object]:
        idle = not self._on_way and not self._failed and not self._down
        waiting_s = 0.0 if idle or self._held() else round(time.monotonic() - self._last_word, 1)
        return {
            "pending_bytes": self.pending_bytes,
            "retries": self.retries,
            "refused_rows": self.refused_rows,
            "waiting_s": waiting_s,
            "spool": self._spool.status() if self._spool is not None else {},
        }

    async def send(self, parcel: OutgoingMessage) -> None:
        """Takes one; returns when there was room for it, in memory or on disk."""
        await self._while_held()
        while True:
            if self._down and self._put_aside(parcel):
                return
            if await self._take_room(parcel.size):
                break
        await self._launch(parcel)

    async def _while_held(self) -> None:
        while time.monotonic() >= self._looked + _LOOK_AT_HOLD_S:
            self._looked = time.monotonic()
            if self._held():  # the hold is a file that another process removes
                self._looked = 0.0
                await asyncio.sleep(0.05)

    async def drain(self) -> None:
        """Waits until Kafka has everything; with a spool, when Kafka stays away, the rest is left on disk for the next
        start.
        """
        deadline = time.monotonic() + _GRACE_S
        while self._tasks or self._down:
            waiting = {*self._tasks, *([self._recovering] if self._recovering else [])}
            await asyncio.wait(waiting, timeout=0.5)
            quiet = time.monotonic() - self._last_word > _GRACE_S
            if self._spool is not None and quiet and time.monotonic() > deadline:
                self._leave_on_disk(self._spool)
                return

    def _leave_on_disk(self, spool: DiskBuffer) -> None:
        for task in (*self._tasks, *([self._recovering] if self._recovering else [])):
            task.cancel()
        left = [parcel for _, parcel in sorted({**self._on_way, **self._failed}.items())]
        spool.put_first(left)
        log.warning(
            "Kafka took nothing for %.0f s: %d messages stay in %s and go first at the next start",
            time.monotonic() - self._last_word,
            len(spool),
            spool.folder,
        )

    def _put_aside(self, parcel: OutgoingMessage) -> bool:
        if self._spool is None:
            return False
        try:
            self._spool.put(parcel)
        except OSError as err:  # the source waits then, which loses nothing that it does not lose itself
            # the message says all
            log.error("the spool %s takes nothing more: %s; the source waits", self._spool.folder, err)  # noqa: TRY400
            return False
        return True

    async def _take_room(self, size: int) -> bool:
        """False when the outbox went down meanwhile, or has not found room for so long that the disk must do."""

        def free() -> bool:
            return self._down or self.pending_bytes == 0 or self.pending_bytes + size <= self._max_pending

        async with self._room:
            if self._down:  # only without a spool: wait for Kafka
                await self._room.wait_for(lambda: not self._down)
            try:
                await asyncio.wait_for(self._room.wait_for(free), _ROOM_S if self._spool is not None else None)
            except TimeoutError:
                self._recover()
            if self._down:
                return False
            self.pending_bytes += size
            return True

    async def _launch(self, parcel: OutgoingMessage) -> None:
        """The first attempt is queued here, in order; its outcome is awaited elsewhere."""
        self._number += 1
        number = self._number
        if not self._on_way:
            self._last_word = time.monotonic()
        self._on_way[number] = parcel
        try:
            sent = await asyncio.wait_for(self._queue(parcel), _ROOM_S if self._spool is not None else None)
        except MessageSizeTooLargeError as err:
            self._on_way.pop(number)
            await self._give_room(parcel.size)
            self._refuse(parcel, err)
            return
        except (KafkaError, TimeoutError) as err:
            await self._fail(number, err)
            return
        task = asyncio.create_task(self._outcome(number, parcel, sent))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _queue(self, parcel: OutgoingMessage) -> asyncio.Future[object]:
        if parcel.messages:
            batch = RecordBatchV2(parcel.value, parcel.messages, int(time.time() * 1000))
            sent: asyncio.Future[object] = await self._producer.send_batch(
                batch, parcel.topic, partition=parcel.partition
            )
        else:
            sent = await self._producer.send(parcel.topic, parcel.value, parcel.key or None)
        return sent

    async def _outcome(self, number: int, parcel: OutgoingMessage, sent: asyncio.Future[object]) -> None:
        try:
            await sent
        except KafkaError as err:
            await self._fail(number, err)
            return
        self._on_way.pop(number)
        self._taken(parcel)
        await self._give_room(parcel.size)

    def _taken(self, parcel: OutgoingMessage) -> None:
        self._last_word = time.monotonic()
        self._arrived(parcel)

    def _refuse(self, parcel: OutgoingMessage, err: KafkaError) -> None:
        self.refused_rows += parcel.rows
        log.error(
            "%s: a message of %d bytes is more than Kafka takes and is dropped (%d rows): %s. Let the source "
            "send smaller frames",
            parcel.topic,
            parcel.size,
            parcel.rows,
            err,
        )

    async def _give_room(self, size: int) -> None:
        async with self._room:
            self.pending_bytes -= size
            self._room.notify_all()

    async def _fail(self, number: int, err: Exception) -> None:
        self._failed[number] = self._on_way.pop(number)
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
            self._recovering = asyncio.create_task(self._bring_up())

    async def _bring_up(self) -> None:
        """First all that is on its way ends, well or not; then what failed, then what is in the spool, in the order in
        which it came.
        """
        while self._on_way:  # noqa: ASYNC110 - the tasks that empty it are not all known yet
            await asyncio.sleep(0.02)
        for number in sorted(self._failed):
            parcel = self._failed[number]
            self.retries += 1
            await self._until_taken([parcel])
            del self._failed[number]
            await self._give_room(parcel.size)
        while self._spool is not None and (waiting := self._spool.first(_TOGETHER)):
            size = sum(p.size for p in waiting)
            self.pending_bytes += size
            await self._until_taken(waiting)
            self._spool.sent(waiting)
            await self._give_room(size)
        self._recovering = None
        log.info("Kafka takes messages again")
        async with self._room:
            self._room.notify_all()

    async def _until_taken(self, parcels: list[OutgoingMessage]) -> None:
        """Sends them together, and those that fail again and again, each in its place."""
        pause = 0.1
        while True:
            await self._while_held()
            left = []
            sending: list[tuple[OutgoingMessage, asyncio.Future[object]]] = []
            for parcel in parcels:
                try:
                    sending.append((parcel, await self._queue(parcel)))
                except MessageSizeTooLargeError as err:
                    self._refuse(parcel, err)
                except KafkaError:
                    left.append(parcel)
            for parcel, future in sending:
                try:
                    await future
                except KafkaError:
                    left.append(parcel)
                else:
                    self._taken(parcel)
            if not left:
                return
            parcels = [p for p in parcels if any(p is other for other in left)]
            self.retries += len(parcels)
            await asyncio.sleep(pause)
            pause = min(pause * 2, 5.0)
