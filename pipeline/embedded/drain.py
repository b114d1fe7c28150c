"""Whether every record of the log is processed: end offsets against the positions in the readers' statuses."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition

from pipeline import kafka

#: Checks in a row that must find nothing left: one reader's output may still be on its way to the next.
IDLE_CHECKS = 3


@dataclass(frozen=True, slots=True)
class Reader:
    """`topics` it must read whole; `positions` of each of its processes: `topic/partition` -> next offset."""

    topics: Sequence[str]
    positions: Iterable[Mapping[str, int | None]]

    def behind(self, begins: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]) -> int:
        """Records in the log that no process has dealt with."""
        best: dict[str, int] = {}
        for positions in self.positions:
            for key, value in positions.items():
                best[key] = max(best.get(key, 0), value or 0)
        return sum(
            max(0, end - max(best.get(f"{tp.topic}/{tp.partition}", 0), begins[tp]))
            for tp, end in ends.items()
            if tp.topic in self.topics
        )


async def drained(
    bootstrap: str, readers: Callable[[], list[Reader]], timeout_s: float, meanwhile: Callable[[], None]
) -> bool:
    """Waits until no reader is behind; False when that takes longer than `timeout_s`."""
    deadline, idle = time.monotonic() + timeout_s, 0
    consumer = AIOKafkaConsumer(**kafka.consumer_options(bootstrap, None))
    await consumer.start()
    try:
        tps = await kafka.partitions(bootstrap)
        while time.monotonic() < deadline:
            begins, ends = await consumer.beginning_offsets(tps), await consumer.end_offsets(tps)
            idle = idle + 1 if sum(r.behind(begins, ends) for r in readers()) == 0 else 0
            if idle >= IDLE_CHECKS:
                return True
            meanwhile()
            await asyncio.sleep(0.2)
    finally:
        await consumer.stop()
    return False
