"""Has everything in the log been dealt with? End offsets against what readers say of themselves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition

from pipeline import kafka

#: So many looks in a row must find nothing left: one reader's output may still be on its way to the next.
CALM_LOOKS = 3


@dataclass(frozen=True, slots=True)
class Reader:
    """`topics` it must read whole; `positions` of each of its processes: `topic/partition` -> next offset."""

    topics: Sequence[str]
    positions: Iterable[Mapping[str, int | None]]

    def behind(self, begins: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]) -> int:
        """Records that are in the log and that nobody has dealt with."""
        best: dict[str, int] = {}
        for said in self.positions:
            for key, value in said.items():
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
    deadline, calm = time.monotonic() + timeout_s, 0
    consumer = AIOKafkaConsumer(**kafka.consumer_options(bootstrap, None))
    await consumer.start()
    try:
        tps = await kafka.partitions(bootstrap)
        while time.monotonic() < deadline:
            begins, ends = await consumer.beginning_offsets(tps), await consumer.end_offsets(tps)
            calm = calm + 1 if sum(r.behind(begins, ends) for r in readers()) == 0 else 0
            if calm >= CALM_LOOKS:
                return True
            meanwhile()
            await asyncio.sleep(0.2)
    finally:
        await consumer.stop()
    return False
