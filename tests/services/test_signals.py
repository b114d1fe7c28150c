"""SIGTERM drains and commits; a second one ends at once and commits nothing that is not stored.

And the sink's bound, while nothing is stored.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator

import numpy as np
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from pipeline import kafka
from pipeline.bench.proxy import FaultMode, Proxy
from pipeline.sink.clients import GROUP
from schemas.codec import encode
from schemas.frame import build
from tests.factories import StartSink, run

pytestmark = pytest.mark.service(25)
MESSAGES = 20


@pytest.fixture
def proxy(clickhouse: str) -> Iterator[Proxy]:
    made = Proxy(clickhouse)
    yield made
    made.stop()


async def _send(bootstrap: str, site: str) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    now = int(time.time()) * 1000
    for n in range(MESSAGES):
        frame = build(
            "power",
            now + n,
            {"site": [site], "rack": ["R1"], "device": ["meter"], "model": ["rack-meter"]},
            {"power_w": np.array([1.0], np.float32)},
        )
        await producer.send_and_wait("telemetry.power", encode(frame), partition=0)
    await producer.stop()


async def _committed(bootstrap: str) -> int:
    consumer = AIOKafkaConsumer(**kafka.consumer_options(bootstrap, GROUP))
    await consumer.start()
    try:
        return await consumer.committed(TopicPartition("telemetry.power", 0)) or 0
    finally:
        await consumer.stop()


def _stored(clickhouse: str, site: str) -> int:
    return int(
        run(
            "query", f"SELECT count() FROM power WHERE site = '{site}'", "--format", "TSV", "--clickhouse", clickhouse
        ).stdout
    )


def test_the_first_signal_drains_and_commits(sink: StartSink, broker: str, clickhouse: str) -> None:
    site, working = f"drain-{time.time_ns()}", sink("--max-wait", "60")  # without the signal it would wait a minute
    working.until(lambda: working.said("assigned"), "partitions")
    asyncio.run(_send(broker, site))
    working.until(lambda: working.said("received") == {"telemetry.power": MESSAGES}, "all messages read")
    assert asyncio.run(_committed(broker)) == 0
    assert working.process.stop(30) == 0
    assert _stored(clickhouse, site) == MESSAGES
    assert asyncio.run(_committed(broker)) == MESSAGES


def test_a_second_signal_ends_at_once_and_commits_nothing(
    sink: StartSink, broker: str, clickhouse: str, proxy: Proxy
) -> None:
    site = f"abort-{time.time_ns()}"
    stuck = sink("--clickhouse", proxy.url)  # the later option counts
    stuck.until(lambda: stuck.said("assigned"), "partitions")
    proxy.mode = FaultMode(code=243, text="Cannot reserve 1.00 MiB, not enough space. (NOT_ENOUGH_SPACE)")
    asyncio.run(_send(broker, site))
    stuck.until(lambda: "NOT_ENOUGH_SPACE" in str(stuck.said("trouble")), "trouble")
    stuck.process.ask_to_stop()
    refused = proxy.misbehaved
    stuck.until(lambda: proxy.misbehaved >= refused + 2, "it still tries to store what it has")
    stuck.process.ask_to_stop()
    assert stuck.process.stop(10) == 1
    assert "stopped without committing" in stuck.process.tail(40)
    assert (asyncio.run(_committed(broker)), _stored(clickhouse, site)) == (0, 0)
    proxy.mode = FaultMode()
    again = sink()
    again.until(lambda: (again.said("rows") or {}).get("power") == MESSAGES, "all stored by the next one")
    assert again.process.gentle is signal.SIGTERM
    assert _stored(clickhouse, site) == MESSAGES
