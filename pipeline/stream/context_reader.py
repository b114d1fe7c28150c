"""Reads the topics that every worker needs whole: the inventory, what feeds what, and who holds what."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from pipeline import kafka
from schemas.topics import CONTEXT

log = logging.getLogger("gigawatch.stream")

#: Takes (topic, message).
Take = Callable[[str, bytes], Awaitable[None]]
_PAUSE_S = 2.0


class ContextReader:
    """Reads from the beginning, in no group: these topics are small, and their sources repeat what holds.

    `take` gets every message; `settle` is called whenever no more of them wait.
    """

    def __init__(self, bootstrap: str, take: Take, settle: Callable[[], Awaitable[None]]) -> None:
        self._bootstrap, self._take, self._settle = bootstrap, take, settle
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Returns once everything that the topics hold now is taken; the rest follows in a task."""
        caught_up = asyncio.Event()
        self._task = asyncio.create_task(self._run(caught_up))
        waiting = asyncio.create_task(caught_up.wait())
        await asyncio.wait({self._task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self, caught_up: asyncio.Event) -> None:
        """Reads for ever, and from the beginning again after the broker failed."""
        while True:
            try:
                await self._read(caught_up)
            except (KafkaError, OSError) as err:
                log.warning("the inventory and allocations cannot be read (%s): tries again", err)
            await asyncio.sleep(_PAUSE_S)

    async def _read(self, caught_up: asyncio.Event) -> None:
        consumer = AIOKafkaConsumer(**kafka.consumer_options(self._bootstrap, None))
        await consumer.start()
        try:
            places = [TopicPartition(name, 0) for name in CONTEXT]
            consumer.assign(places)
            await consumer.seek_to_beginning(*places)
            ends = await consumer.end_offsets(places)
            while True:
                if not caught_up.is_set() and all([await consumer.position(tp) >= ends[tp] for tp in places]):
                    caught_up.set()
                found = await consumer.getmany(timeout_ms=500)
                for tp, records in found.items():
                    for record in records:
                        await self._take(tp.topic, record.value or b"")
                if not found:
                    await self._settle()
        finally:
            await consumer.stop()
