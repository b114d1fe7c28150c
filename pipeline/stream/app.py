"""The faust app: one agent per topic, a few lines around the worker each; settings that differ from the defaults."""

from __future__ import annotations

import asyncio
import logging
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import faust
from aiokafka import AIOKafkaProducer
from aiokafka.errors import IllegalStateError
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.record.util import calc_crc32c
from faust.types import TP

from pipeline import kafka
from pipeline.monitoring.status import Status
from pipeline.stream.context_feed import ContextFeed
from pipeline.stream.context_reader import ContextReader
from pipeline.stream.transport import BundleTransport, NeededFrom
from pipeline.stream.worker import Worker
from schemas import derived
from schemas.codec import InvalidFrame
from schemas.derived import INCIDENT
from schemas.derived_stream import columns_of
from schemas.record_batch import single
from schemas.topics import CONSUMED, TELEMETRY

log = logging.getLogger("gigawatch.stream")

GROUP = "gigawatch-stream"
TAKE_BUNDLES = 4
TAKE_WITHIN_S = 0.1


class StreamApp(faust.App):
    """A faust app with the worker its agents call; `needed_from` gives the transport what may be committed."""

    worker: Worker
    needed_from: NeededFrom


def make_app(bootstrap: str, *, tick_ms: int = 1000, lateness_ms: int = 3000, group: str = GROUP) -> StreamApp:
    """Returns the app, not started."""
    app = StreamApp(
        group,
        broker=[f"kafka://{address.strip()}" for address in bootstrap.split(",")],
        broker_credentials=_credentials(bootstrap),
        store="memory://",
        datadir=tempfile.mkdtemp(prefix="gigawatch-faust-"),  # faust wants a folder, though nothing is kept in it
        web_enabled=False,  # no port, and no memory for its statistics
        topic_disable_leader=True,
        topic_allow_declare=False,  # `kafka.ensure_topics` makes topics, with the partitions asked for
        value_serializer="raw",
        key_serializer="raw",
        consumer_auto_offset_reset="earliest",
        stream_wait_empty=False,  # messages in flight at a rebalance are replayed
        stream_buffer_maxsize=8,  # bundles, of some megabytes each
        broker_commit_interval=1.0,
        broker_session_timeout=kafka.SESSION_TIMEOUT_MS / 1000,
        broker_heartbeat_interval=kafka.HEARTBEAT_MS / 1000,
        broker_rebalance_timeout=kafka.REBALANCE_TIMEOUT_MS / 1000,
        broker_request_timeout=30.0,
        consumer_max_fetch_size=kafka.FETCH_BYTES,
        producer_max_request_size=32 << 20,
        producer_acks=-1,
        producer_linger=0.0,
    )
    app.transport = BundleTransport(app.conf.broker, app, app.loop)
    channels = {
        name: app.topic(name, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")
        for name in CONSUMED
    }

    choose = DefaultPartitioner()

    async def publish(topic: str, key: bytes, value: bytes) -> None:
        # faust cannot send a finished batch
        producer: AIOKafkaProducer = app.producer._producer  # type: ignore[attr-defined]  # noqa: SLF001
        partitions = sorted(await producer.partitions_for(topic))
        batch = single(key, value, int(time.time() * 1000), calc_crc32c)
        await (await producer.send_batch(batch, topic, partition=choose(key, partitions, partitions)))

    app.worker = Worker(publish, tick_ms, lateness_ms, FaustLog(app, bootstrap))
    app.needed_from = app.worker.needed_from
    for name in CONSUMED:
        app.agent(channels[name], name=f"agent.{name}", concurrency=1)(_agent(app, name))

    @app.on_partitions_assigned.connect(weak=False)
    async def assigned(_: Any, got: Any, **__: Any) -> None:
        count = len([tp for tp in await kafka.partitions(bootstrap) if tp.topic == TELEMETRY[0]])
        app.worker.partition_of = lambda key: int(choose(key, range(count), range(count)))
        app.worker.assign((tp.topic, tp.partition) for tp in got)

    return app


class FaustLog:
    """The worker's access to the log, through faust's consumer."""

    def __init__(self, app: StreamApp, bootstrap: str) -> None:
        self._app, self._bootstrap = app, bootstrap
        self._found: list[dict[str, Any]] = []
        self._asked = -10.0

    async def begin(self, topic: str, number: int) -> int:
        return await self._app.consumer.begin(topic, number)  # type: ignore[no-any-return, attr-defined]

    async def open_incidents(self) -> list[dict[str, Any]]:
        if time.monotonic() > self._asked + 2.0:
            self._found, self._asked = await open_incidents(self._bootstrap), time.monotonic()
        return self._found

    def is_at_end(self, topic: str, number: int, position: int | None) -> bool:
        try:
            end = self._app.consumer.highwater(TP(topic, number))
        except (IllegalStateError, AssertionError, AttributeError):  # not assigned, or not asked for yet
            return False
        return end is not None and (position or 0) >= end

    async def rewind(self, topic: str, number: int, offset: int) -> None:
        await self._app.consumer.rewind(topic, number, offset)  # type: ignore[attr-defined]


def _credentials(bootstrap: str) -> Any:
    """Returns the settings of every Kafka client here in faust's form."""
    given = kafka.client_options(bootstrap)
    if "sasl_mechanism" in given:
        return faust.SASLCredentials(
            username=given["sasl_plain_username"],
            password=given["sasl_plain_password"],
            mechanism=given["sasl_mechanism"],
            ssl_context=given.get("ssl_context"),
        )
    return faust.SSLCredentials(context=given["ssl_context"]) if "ssl_context" in given else None


def _agent(app: StreamApp, topic: str) -> Any:
    async def agent(stream: Any) -> AsyncIterator[None]:
        async for events in stream.noack_take(TAKE_BUNDLES, within=TAKE_WITHIN_S):
            await app.worker.process(topic, [(event.message.partition, event.value.records) for event in events])
            for event in events:
                event.ack()
            yield

    return agent


async def open_incidents(bootstrap: str) -> list[dict[str, Any]]:
    """Reads the latest row of every open incident from the incident topic."""
    latest: dict[str, dict[str, Any]] = {}
    for record in (await kafka.read_whole(bootstrap, INCIDENT.topic))[0]:
        try:
            _, batch = derived.decode(record.value)
        except InvalidFrame:
            continue
        names = batch.schema.names
        rows = (dict(zip(names, row, strict=True)) for row in zip(*columns_of(batch, *names), strict=True))
        latest |= {row["incident"]: row for row in rows}
    return [row for row in latest.values() if row["open"]]


async def run(
    app: StreamApp, bootstrap: str, stop: asyncio.Event, *, snapshot: Path | None = None, status: Status | None = None
) -> None:
    """Runs the app until `stop`; then commits, and writes the snapshot if `snapshot` names one."""
    worker: Worker = app.worker
    log_id = await kafka.log_id(bootstrap)
    if snapshot is None or not worker.load(snapshot, log_id):
        worker.restore_incidents(await open_incidents(bootstrap))
    keeper = asyncio.create_task((status or Status("stream", None, worker.status)).keep())
    feed = ContextFeed(worker)
    reader = ContextReader(bootstrap, feed.take, feed.settle)
    try:
        await reader.start()
        await app.start()
        await stop.wait()
    finally:
        async with worker.idle:
            worker.stop()
        await reader.stop()
        await app.stop()
        if snapshot:
            worker.save(snapshot, log_id)
        shutil.rmtree(app.conf.datadir, ignore_errors=True)
        keeper.cancel()
        await asyncio.gather(keeper, return_exceptions=True)
