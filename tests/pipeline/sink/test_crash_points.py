"""The sink killed at every call it makes, before and after its effect: another one then stores the rest, and nothing
twice.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import threading
from collections import Counter
from typing import Any

import numpy as np
from aiokafka import TopicPartition

from pipeline.sink.batcher import Batcher
from pipeline.sink.sink import Sink
from pipeline.store.tables import BY_TOPIC
from schemas import derived, topics
from schemas.codec import encode, encode_batch
from schemas.frame import build
from tests.fakes import Crash, FakeClient, FakeClients, FakeLog, FakeStore, Killed

MIDNIGHT = 1_750_032_000_000  # 2025-06-16 00:00 UTC
LOG = "fake-log"


def filled() -> FakeLog:
    """Two partitions of two kinds over midnight, messages that span it, rubbish among them, and derived rows."""
    log = FakeLog(
        {
            TopicPartition(topic, n): []
            for topic in BY_TOPIC
            for n in (range(2) if topic.startswith("telemetry") else range(1))
        }
    )
    for n in range(6):
        ts = MIDNIGHT - 3000 + 1000 * n
        for partition in range(2):
            who = {"site": ["s"] * 2, "rack": [f"R{partition}"] * 2, "device": [f"R{partition}-a", f"R{partition}-b"]}
            log.append(
                TopicPartition("telemetry.gpu", partition),
                encode(build("gpu", ts, who, {"power_w": np.array([1.0, 2.0], np.float32)})),
                ts,
            )
            both = np.array([ts - 2000, ts + 2000])  # a message of two days
            log.append(
                TopicPartition("telemetry.power", partition),
                encode(build("power", both, who, {"power_w": np.array([3.0, 4.0], np.float32)})),
                ts,
            )
    log.append(TopicPartition("telemetry.gpu", 0), b"rubbish", MIDNIGHT)
    row: dict[str, Any] = {
        "ts": MIDNIGHT,
        "kind": "gpu",
        "site": "s",
        "rack": "R0",
        "metric": "",
        "reason": "late",
        "count": 3,
    }
    log.append(TopicPartition(topics.derived("quality"), 0), encode_batch(derived.QUALITY.build_rows([row])), MIDNIGHT)
    return log


async def drained(log: FakeLog, store: FakeStore, crash: Crash) -> None:
    """A sink on the fakes until all is committed, or until it dies."""
    sink = Sink(
        FakeClients(log, crash),  # type: ignore[arg-type]
        FakeClient(store, crash),  # type: ignore[arg-type]
        FakeClient(store, crash),  # type: ignore[arg-type]
        LOG,
        batcher=Batcher(max_wait_s=0.0),
    )
    running = asyncio.create_task(sink.run())
    while not running.done():
        await asyncio.sleep(0.001)
        if all(log.committed.get(tp, 0) == end for tp, end in log.ends().items() if end):
            sink.stop()
    await running


def stored_once(log: FakeLog, store: FakeStore) -> None:
    """Every message of the log is in its table exactly once."""
    found = Counter(
        (name, r["kafka_partition"], r["kafka_offset"], _ms(r))
        for name, rows in store.tables.items()
        if name != "identities"
        for r in rows
    )
    assert max(found.values()) == 1, [key for key, times in found.items() if times > 1]
    gpu = {("gpu_frames", p, n, MIDNIGHT - 3000 + 1000 * n) for n in range(6) for p in range(2)}
    power = {
        ("power_frames", p, n, MIDNIGHT - 3000 + 1000 * n + d)
        for n in range(6)
        for p in range(2)
        for d in (-2000, 2000)
    }
    letters = {
        ("dead_letters", 0, n, MIDNIGHT) for n in range(len(log.partitions[TopicPartition(topics.DEAD_LETTERS, 0)]))
    }
    assert set(found) == gpu | power | letters | {("quality", 0, 0, MIDNIGHT)}
    rows = sum(r["rows"] for name in ("gpu_frames", "power_frames") for r in store.tables[name])
    assert rows == 2 * 6 * 2 * 2
    assert len({r["id"] for r in store.tables["dead_letters"]}) == 1
    assert all(r["value"] == b"rubbish" for r in store.tables["dead_letters"])


def _ms(row: dict[str, Any]) -> int:
    ts: dt.datetime = row["ts"]
    return round(ts.timestamp() * 1000)


async def test_a_sink_that_nobody_disturbs_stores_everything_once() -> None:
    log, store = filled(), FakeStore()
    await drained(log, store, Crash())
    stored_once(log, store)
    assert len(store.tables["dead_letters"]) == 1


#: Waiting for more goes through these any number of times.
OFTEN = 8


async def _points() -> list[tuple[str, int]]:
    """(name, which time) of every crash point that an undisturbed run passes."""
    counting = Crash()
    await drained(filled(), FakeStore(), counting)
    return [(name, n) for name, times in sorted(counting.passed.items()) for n in range(1, min(times, OFTEN) + 1)]


async def _killed(log: FakeLog, store: FakeStore, crash: Crash) -> bool:
    try:
        await drained(log, store, crash)
    except Killed:
        return True
    return False


async def test_killed_at_any_call_before_or_after_its_effect_nothing_is_lost_and_nothing_stored_twice() -> None:
    points = await _points()
    names = {name for name, _ in points}
    assert {
        "commit: before",
        "commit: after",
        "send: before",
        "send: after",
        "query",
        "getmany",
        "end_offsets",
        "committed",
        "consumer.start",
    } <= names
    assert sum(name.startswith("insert") for name in names) >= 8
    died = set()
    for name, time in points:
        log, store = filled(), FakeStore()
        if await _killed(log, store, Crash(name, time)):
            died.add(name)
        await drained(log, store, Crash())
        stored_once(log, store)
    assert died == names


async def test_killed_twice_in_a_row() -> None:
    points = await _points()
    for first in points[::5]:
        for second in points[2::9]:
            log, store = filled(), FakeStore()
            for point in (first, second):
                await _killed(log, store, Crash(*point))
            await drained(log, store, Crash())
            stored_once(log, store)


async def test_while_nothing_is_stored_the_sink_stops_reading_at_its_bound() -> None:
    log, store, gate = filled(), FakeStore(), threading.Event()

    class Away(FakeClient):
        def raw_insert(self, *args: Any, **more: Any) -> None:
            gate.wait(30)
            super().raw_insert(*args, **more)

    for n in range(200):
        log.append(
            TopicPartition("telemetry.gpu", 0),
            log.partitions[TopicPartition("telemetry.gpu", 0)][n % 6].value,
            MIDNIGHT,
        )
    crash = Crash()
    bound = 20_000
    sink = Sink(
        FakeClients(log, crash),  # type: ignore[arg-type]
        Away(store, crash),  # type: ignore[arg-type]
        FakeClient(store, crash),  # type: ignore[arg-type]
        LOG,
        batcher=Batcher(max_wait_s=0.0),
        max_buffer=bound,
    )
    running = asyncio.create_task(sink.run())
    polls = crash.passed["getmany"] + 60
    while crash.passed["getmany"] < polls:  # long enough to read everything, if it were let  # noqa: ASYNC110
        await asyncio.sleep(0.005)
    held = sink.status()["buffered_bytes"]
    assert bound <= held < 2 * bound, "it reads up to its bound, and goes on polling so that it keeps its partitions"
    assert not log.committed
    gate.set()
    while sum(log.committed.values()) < sum(log.ends().values()):  # noqa: ASYNC110
        await asyncio.sleep(0.005)
    sink.stop()
    await running
    assert sum(r["rows"] for r in store.tables["gpu_frames"]) == 2 * (12 + 200)
