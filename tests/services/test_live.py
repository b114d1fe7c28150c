"""Live frames of a job through a real broker: what it holds when one begins to look, and what it holds later."""

from __future__ import annotations

import asyncio
import time

import pytest
from aiokafka import AIOKafkaProducer

from pipeline import api, kafka
from schemas import topics
from schemas.codec import encode
from schemas.frame import Frame, build
from schemas.jobs import ALLOCATION

pytestmark = pytest.mark.service(90)

START = int(time.time()) * 1000 - 60_000
CHANGE = START + 60_000


def frame(ts_ms: int) -> Frame:
    who = {"site": ["s"] * 2, "rack": ["R1"] * 2, "node": ["n1"] * 2, "device": ["n1-GPU0", "n1-GPU1"]}
    return build("gpu", ts_ms, who | {"board": ["A", "B"]}, {"util_pct": [1.0, 2.0]})


def allocation(device: str, started: int, ended: int = 0) -> bytes:
    row = {"seen": started, "site": "s", "scheduler": "slurm", "job": "j", "rack": "R1", "node": "n1", "share": 1.0}
    row |= {"devices": [device], "first_rank": 0, "started": started, "ended": ended}
    return ALLOCATION.encode(ALLOCATION.build_rows([row, row | {"job": "other", "devices": ["n1-GPU1"]}]))


async def test_live_frames_of_a_job_follow_what_it_holds(broker: str) -> None:
    await kafka.ensure_topics(broker)
    producer = AIOKafkaProducer(**kafka.client_options(broker))
    await producer.start()
    held = topics.derived("allocation")
    await producer.send_and_wait(held, b"no allocation")
    await producer.send_and_wait(held, allocation("n1-GPU0", START))
    seen: list[list[str]] = []
    changed = False

    async def send() -> None:
        """A frame twice a second; once two have come, the job changes to the other board."""
        nonlocal changed
        while True:
            if len(seen) >= 2 and not changed:
                changed = True
                await producer.send_and_wait(held, allocation("n1-GPU0", START, CHANGE))
                await producer.send_and_wait(held, allocation("B", CHANGE))
            await producer.send_and_wait(topics.telemetry("gpu"), encode(frame(CHANGE if changed else START)))
            await asyncio.sleep(0.5)

    sending = asyncio.create_task(send())
    try:
        async with asyncio.timeout(60):
            async for found in api.live("gpu", job="j", broker=broker):
                seen.append(found.identity("board"))
                if seen[-1] == ["B"]:
                    break
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        await producer.stop()
    assert seen[:2] == [["A"], ["A"]]
    assert {tuple(boards) for boards in seen} == {("A",), ("B",)}
