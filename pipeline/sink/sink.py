"""The sink: Kafka to ClickHouse. Insert acknowledged, then dead letters acknowledged, then offsets committed.

Kill it between any two of these steps: what was stored is recognised by its Kafka offset when the partition is taken
over again (see `dedup`), so no row is lost and none is stored twice.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from clickhouse_connect.driver.client import Client

from pipeline import kafka
from pipeline.monitoring.statuses import BusyStatus, FreshnessStatus, SinkStatus
from pipeline.sink import dedup
from pipeline.sink.batcher import Batcher, Flush
from pipeline.sink.circuit_breaker import CircuitBreaker
from pipeline.sink.clients import Clients
from pipeline.sink.freshness import Freshness
from pipeline.sink.writer import Aborted, Writer
from pipeline.store.tables import BY_TOPIC, TABLES
from schemas import topics
from schemas.catalogue import KINDS
from schemas.codec import encode, encode_batch
from schemas.deadletter import DeadLetter
from schemas.errors import first_line
from schemas.frame import Frame
from schemas.log_record import LogRecord

log = logging.getLogger("gigawatch.sink")


class Sink(ConsumerRebalanceListener):  # type: ignore[misc]
    """Run `run()` until `stop()`; both clients of ClickHouse are used by one thread at a time each."""

    def __init__(
        self,
        clients: Clients,
        client: Client,
        queries: Client,
        log_id: str,
        *,
        batcher: Batcher | None = None,
        max_buffer: int = 512 << 20,
        breaker: CircuitBreaker | None = None,
    ) -> None:
        self._clients, self._queries, self._log_id = clients, queries, log_id
        self._batcher, self._breaker = batcher or Batcher(), breaker or CircuitBreaker()
        self._stop = asyncio.Event()
        self._abort = False
        self._writer = Writer(client, log_id, lambda: self._abort)
        self._max_buffer = max_buffer
        self._consumer: AIOKafkaConsumer | None = None
        self._producer: AIOKafkaProducer | None = None
        self._flushing: asyncio.Task[None] | None = None
        self._one_flush = asyncio.Lock()
        self._stored: dict[TopicPartition, dedup.StoredOffsets] = {}
        self._known: set[TopicPartition] = set()
        self._ends: dict[TopicPartition, int] = {}
        self._reassigned = False
        self._paused = False
        self.freshness = Freshness()
        self.newest_age_s: float | None = None
        self.dead: Counter[str] = Counter()
        self.commits_refused = 0
        self.positions: dict[str, int] = {}
        self.last_commit = time.time()
        self._began: tuple[float, float] | None = None
        self._ended_cpu = 0.0

    def stop(self, abort: bool = False) -> None:
        """Drain and commit; with `abort`, give up at once without committing."""
        self._abort = self._abort or abort
        self._stop.set()

    def status(self) -> dict[str, Any]:
        """Counters for the status file; rows are those that ClickHouse has acknowledged."""
        assigned = len(self._consumer.assignment()) if self._consumer is not None else 0
        busy = BusyStatus(self._began[0], self.last_commit, self._ended_cpu - self._began[1]) if self._began else None
        return SinkStatus(
            assigned=assigned,
            rows=dict(self._writer.rows),
            received=dict(self._batcher.received),
            discarded=dict(self._batcher.discarded),
            missing={f"{m}/{r}": n for (m, r), n in self._writer.missing.items()},
            dead_letters=sum(self.dead.values()),
            dead=dict(self.dead),
            retries=self._writer.retries,
            commits_refused=self.commits_refused,
            trouble=self._writer.trouble or self._breaker.trouble,
            positions=dict(self.positions),
            last_commit=self.last_commit,
            newest_age_s=self.newest_age_s,
            busy=busy,
            freshness=FreshnessStatus.from_json(self.freshness.summary()),
            buffered_bytes=self._batcher.batch.bytes,
        ).to_json()

    async def run(self) -> None:
        """Consumes until stopped. Raises StoppedByConfig when an operator must help."""
        self._consumer, self._producer = self._clients.consumer(), self._clients.producer()
        await self._producer.start()
        self._consumer.subscribe(list(BY_TOPIC), listener=self)
        await self._consumer.start()
        try:
            while not self._stop.is_set():
                await self._turn(self._consumer)
            if not self._abort:
                await self._flush_all()
        finally:
            if self._flushing is not None and not self._flushing.done():
                self._abort = True
                await asyncio.gather(self._flushing, return_exceptions=True)
            await self._producer.stop()
            await self._consumer.stop()

    async def _turn(self, consumer: AIOKafkaConsumer) -> None:
        if self._flushing is not None and self._flushing.done():
            self._flushing.result()
            self._flushing = None
        full = (self._flushing is not None and self._batcher.batch.bytes >= self._max_buffer) or self._breaker.is_open(
            time.monotonic()
        )
        if full != self._paused:
            tps = consumer.assignment()
            consumer.pause(*tps) if full else consumer.resume(*tps)
            self._paused = full
        if self._reassigned:
            await self._take_over(consumer)
        fetched = await consumer.getmany(timeout_ms=100)
        now = time.monotonic()
        if fetched and self._began is None:
            self._began = time.time(), time.process_time()
        for tp, records in fetched.items():
            if tp not in self._known and records:
                self._stored[tp] = await self._stored_of(consumer, tp, records[0].offset)
                self._known.add(tp)
            self._add(tp, records, now)
        if fetched:
            self._breaker.add(
                now, sum(len(r) for tp, r in fetched.items() if tp.topic != topics.DEAD_LETTERS), self._batcher.refused
            )
        if self._flushing is None and self._batcher.due(now):
            self._flushing = asyncio.create_task(self._flush(self._batcher.close()))

    async def _take_over(self, consumer: AIOKafkaConsumer) -> None:
        """After an assignment: where each partition ends (what is stored of it lies before that) and what is committed
        of it.
        """
        self._reassigned = False
        self._ends = await consumer.end_offsets(list(consumer.assignment()))
        for tp in self._ends:
            committed = await consumer.committed(tp)
            if committed:
                self.positions[f"{tp.topic}/{tp.partition}"] = committed

    def _add(self, tp: TopicPartition, records: Iterable[Any], now: float) -> None:
        stored = self._stored.get(tp)
        for r in records:
            days = stored.pop((r.offset, r.timestamp), None) if stored else None
            self._batcher.add(LogRecord.of(r), now, days)

    async def _stored_of(self, consumer: AIOKafkaConsumer, tp: TopicPartition, first: int) -> dedup.StoredOffsets:
        if self._flushing is not None:  # what is on its way counts as stored, so let it arrive first
            await asyncio.wait([self._flushing])
        end = self._ends.get(tp, first)
        while True:
            try:
                found = await asyncio.to_thread(
                    dedup.stored_offsets, self._queries, BY_TOPIC[tp.topic], self._log_id, tp.partition, first, end
                )
                break
            except Exception as err:  # the store may be away: without its answer a replay could store twice, so wait
                if self._stop.is_set():
                    raise Aborted(str(err)) from err
                log.warning("cannot read what is stored of %s: %s; trying again", tp, first_line(err, 200))
                await asyncio.sleep(1.0)
        if found:
            log.info(
                "%s partition %d: %d messages from offset %d are stored already",
                tp.topic,
                tp.partition,
                len(found),
                first,
            )
        return found

    async def _flush_all(self) -> None:
        if self._flushing is not None:
            await self._flushing
            self._flushing = None
        if self._batcher.batch:
            await self._flush(self._batcher.close())

    async def _flush(self, batch: Flush) -> None:
        async with self._one_flush:
            await self._store(batch)

    async def _store(self, batch: Flush) -> None:
        poison = await asyncio.to_thread(self._writer.write, batch)
        self._measure(batch)
        dead = list(batch.dead)
        for table, message, why in poison:
            content = message.content
            value = encode(content) if isinstance(content, Frame) else encode_batch(content)
            dead.append(
                DeadLetter(
                    TABLES[table].topic, message.partition, message.offset, message.kafka_ms, value, "refused", why
                )
            )
        await self._send_to_dlq(dead)
        await self._commit(batch.offsets)

    def _measure(self, batch: Flush) -> None:
        now_ms, times = time.time() * 1000, dict[int, int]()
        for (table, _), messages in batch.messages.items():
            if table in KINDS:
                for message in messages:
                    ts = message.content.span()[0]
                    times[ts] = times.get(ts, 0) + message.rows
        self.newest_age_s = (now_ms - max(times)) / 1000 if times else self.newest_age_s
        for ts, rows in times.items():
            self.freshness.add((now_ms - ts) / 1000, rows, ts)

    async def _send_to_dlq(self, dead: list[DeadLetter]) -> None:
        """Sends dead letters to their topic, raw bytes and reason, and waits for Kafka before any offset advances."""
        assert self._producer is not None
        for record in [replace(found, log_id=self._log_id) for found in dead]:
            log.warning(
                "dead letter %s: %s partition %d offset %d: %s: %s",
                record.id,
                record.topic,
                record.partition,
                record.offset,
                record.reason,
                record.detail,
            )
            if record.topic != topics.DEAD_LETTERS:  # a dead letter that cannot be stored stays on its topic
                await self._producer.send_and_wait(topics.DEAD_LETTERS, record.value, headers=record.headers())
            self.dead[record.reason] += 1

    async def _commit(self, offsets: dict[tuple[str, int], int]) -> None:
        assert self._consumer is not None
        mine = self._consumer.assignment()
        wanted = {
            tp: offset
            for (topic, partition), offset in offsets.items()
            if (tp := TopicPartition(topic, partition)) in mine
        }
        try:
            if wanted:
                await self._consumer.commit(wanted)
        except (CommitFailedError, IllegalStateError) as err:
            self.commits_refused += 1
            log.info(
                "commit refused after a rebalance (%s): the next owner finds these rows stored", type(err).__name__
            )
        except KafkaError as err:
            self.commits_refused += 1
            log.warning("commit failed: %s; it is tried again with the next batch", err)
        for tp, offset in wanted.items():
            self.positions[f"{tp.topic}/{tp.partition}"] = offset
        self.last_commit, self._ended_cpu = time.time(), time.process_time()

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Flushes the open batch within a deadline shorter than the group's; what misses it is replayed."""
        if not list(revoked):
            return
        try:
            await asyncio.wait_for(asyncio.shield(self._flush_all()), kafka.REBALANCE_TIMEOUT_MS / 1000 * 0.8)
        except Exception as err:  # noqa: BLE001 - whatever it was, the next owner replays from the commit
            log.warning("could not flush before the rebalance: %s", err or type(err).__name__)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Reading starts again at the committed offsets, so what was read and not flushed is read again."""
        self._known.clear()
        self._stored.clear()
        self._reassigned = True
        self._paused = False  # Kafka resumes a partition that is assigned again
        self._batcher.close()
