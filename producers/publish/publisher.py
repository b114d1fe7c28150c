"""The publisher: frames and events to Kafka through one aiokafka producer, with bounded memory and a clean drain."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from aiokafka import AIOKafkaProducer
from aiokafka.errors import UnknownError

from producers.publish.coalesce import Coalescer
from producers.publish.disk_buffer import DiskBuffer
from producers.publish.encoder import SiteTick, TickEncoder
from producers.publish.outgoing import OutgoingMessage
from producers.publish.send_queue import SendQueue
from producers.sources.source import Emission, Event, SourceFailure
from schemas import topics
from schemas.codec import encode, encode_batch
from schemas.derived import QUALITY
from schemas.frame import Frame
from schemas.record_batch import Chunk, cut
from schemas.validation import Counts, mask_invalid

log = logging.getLogger("gigawatch.publish")

MAX_REQUEST = 16 << 20
_TELL_S = 10.0
_MOST_MERGING = 262_144  # frames held back for merging


@dataclass(slots=True)
class Published:
    """What went out, counted when Kafka acknowledged it.

    `missing` is by (metric, reason), `silent` by (place, reason).
    """

    frames: Counter[str] = field(default_factory=Counter)
    rows: Counter[str] = field(default_factory=Counter)
    bytes: int = 0
    first_ts_ms: int = 0
    last_ts_ms: int = 0
    missing: Counts = field(default_factory=Counter)
    silent: Counter[tuple[str, str]] = field(default_factory=Counter)
    metrics: dict[str, int] = field(default_factory=dict)


async def connect(client: dict[str, Any], linger_ms: int = 20) -> AIOKafkaProducer:
    """A started producer: idempotent where the broker can (Tansu cannot), acknowledged by all replicas.

    `client`: address and security.
    """
    options = {
        **client,
        "linger_ms": linger_ms,
        "acks": "all",
        "max_batch_size": 1 << 20,
        "max_request_size": MAX_REQUEST,
        "request_timeout_ms": 20_000,
    }
    producer = AIOKafkaProducer(enable_idempotence=True, **options)
    logging.getLogger("aiokafka.producer").setLevel(logging.CRITICAL)
    try:
        await producer.start()
    except UnknownError:
        await producer.stop()
        producer = AIOKafkaProducer(**options)
        await producer.start()
    finally:
        logging.getLogger("aiokafka.producer").setLevel(logging.WARNING)
    return producer


class Publisher:
    """Sends in order per key; holds at most `max_pending` bytes that Kafka has not acknowledged, then makes callers
    wait.

    `merge_s` > 0 collects small frames until none has come for that long, and sends those of one kind, place and tick
    as one. `held` may return True to stop sending for a while (nothing is lost: callers wait). With a `spool`, what
    Kafka does not take goes to disk.
    """

    def __init__(
        self,
        producer: AIOKafkaProducer,
        *,
        max_pending: int = 64 << 20,
        merge_s: float = 0.0,
        held: Callable[[], bool] = lambda: False,
        spool: DiskBuffer | None = None,
    ) -> None:
        self._producer = producer
        self._merge_s = merge_s
        self._held = held
        self._outbox = SendQueue(producer, self._arrived, max_pending=max_pending, held=held, spool=spool)
        self._merging: list[Frame] = []
        self._merge_last = 0.0
        self._merge_timer: asyncio.Task[None] | None = None
        self._merger = Coalescer()
        self._chunks_of: dict[TickEncoder, list[Chunk]] = {}
        self._rows_of: dict[Chunk, int] = {}
        self._stamping = asyncio.Lock()
        self._finishing = self._busy = False
        self._task: asyncio.Task[None] | None = None
        self._missing: dict[str, Counts] = {}
        self._told = time.monotonic()
        self._places: dict[tuple[str, bytes, str], int] = {}
        self.published = Published()

    async def emit(self, emission: Emission) -> None:
        """Takes one emission; returns when there is room for it."""
        if time.monotonic() >= self._told + _TELL_S:
            await self._tell_missing()
        if isinstance(emission, SourceFailure):
            self.published.silent[emission.endpoint, emission.reason] += 1
            row = {
                "ts": emission.ts_ms,
                "kind": "source",
                "site": emission.site,
                "rack": emission.rack,
                "metric": "",
                "reason": emission.reason,
                "count": 1,
            }
            await self._send_event(topics.derived("quality"), QUALITY.build_rows([row]))
        elif isinstance(emission, Event):
            await self._send_event(topics.derived(emission.derived.name), emission.batch)
        elif isinstance(emission, SiteTick):
            await self._send_sheet(emission)
        elif self._merge_s <= 0:
            await self._send_frame(self._clean(emission))
        else:
            self._merging.append(emission)
            self._merge_last = time.monotonic()
            if self._merge_timer is None:
                self._merge_timer = asyncio.create_task(self._merge_when_quiet())
            if len(self._merging) >= _MOST_MERGING:
                await self._flush_merged(all_ticks=False)

    def _clean(self, frame: Frame) -> Frame:
        return mask_invalid(frame, self._missing.setdefault(frame.kind, Counter()))

    async def _tell_missing(self) -> None:
        """What was impossible and is missing now, for the quality table: every ten seconds, by kind, metric and
        reason.
        """
        self._told = time.monotonic()
        rows = [
            {
                "ts": int(time.time() * 1000),
                "kind": kind,
                "site": "",
                "rack": "",
                "metric": metric,
                "reason": reason,
                "count": count,
            }
            for kind, counts in self._missing.items()
            for (metric, reason), count in counts.items()
        ]
        for counts in self._missing.values():
            self.published.missing += counts
            counts.clear()
        if rows:
            await self._send_event(topics.derived("quality"), QUALITY.build_rows(rows))

    async def drain(self) -> None:
        """Sends what was held back for merging and waits until Kafka has acknowledged everything."""
        if self._merge_timer is not None:
            self._merge_timer.cancel()
            await asyncio.gather(self._merge_timer, return_exceptions=True)
        await self._flush_merged()
        await self._tell_missing()
        await self._outbox.drain()

    def finish(self) -> None:
        """`run` ends after the emission in hand, with a drain; a source that waits for its next tick is not waited
        for.
        """
        self._finishing = True
        if self._task is not None and not self._busy:
            self._task.cancel()

    async def run(self, emissions: AsyncGenerator[Emission]) -> None:
        """Everything a source gives until it ends or `finish` is called, then a drain."""
        self._task = asyncio.current_task()
        try:
            async for emission in emissions:
                self._busy = True
                await self.emit(emission)
                self._busy = False
                if self._finishing:
                    break
        except asyncio.CancelledError:
            if not self._finishing:
                raise
        finally:
            self._busy = True
            await emissions.aclose()
            await self.drain()

    def status(self) -> dict[str, object]:
        """Counters for the status file; rows and frames are those that Kafka has acknowledged."""
        p = self.published
        return {
            "frames": dict(p.frames),
            "rows": dict(p.rows),
            "bytes": p.bytes,
            "first_ts_ms": p.first_ts_ms,
            "last_ts_ms": p.last_ts_ms,
            "missing": {f"{m}/{r}": n for (m, r), n in p.missing.items()},
            "silent": {f"{place}: {why}": n for (place, why), n in p.silent.items()},
            "devices": dict(self.devices()),
            "metrics": p.metrics,
            "held": self._held(),
            **self._outbox.status(),
        }

    async def _merge_when_quiet(self) -> None:
        """Sends what was collected once nothing has come for `merge_s`: a tick's frames arrive together."""
        began = time.monotonic()
        try:
            # quiet is the absence of an event
            while time.monotonic() < min(self._merge_last + self._merge_s, began + 8 * self._merge_s):  # noqa: ASYNC110
                await asyncio.sleep(self._merge_s / 4)
        finally:
            self._merge_timer = None
        await self._flush_merged(all_ticks=time.monotonic() >= self._merge_last + self._merge_s)

    async def _flush_merged(self, all_ticks: bool = True) -> None:
        """Without `all_ticks` the newest tick stays, which may not be whole yet."""
        frames, self._merging = self._merging, []
        if not all_ticks and frames:
            newest = max(f.span()[1] for f in frames)
            self._merging = [f for f in frames if f.span()[1] == newest]
            frames = [f for f in frames if f.span()[1] < newest] or self._merging
            if frames is self._merging:
                self._merging = []
        sheets, rest = self._merger.merge(frames)
        for sheet in sheets:
            await self._send_sheet(sheet)
        for frame in rest:
            await self._send_frame(self._clean(frame))

    async def _send_sheet(self, sheet: SiteTick) -> None:
        """A site's tick, in batches made here: Kafka's cost is then a batch's, not a message's.

        Order holds per place.
        """
        topic, packer = topics.telemetry(sheet.roster.kind), sheet.roster.packer
        async with self._stamping:  # the messages of a roster are stamped over with its next sheet
            messages = packer.stamp(sheet, self._missing.setdefault(sheet.roster.kind, Counter()))
            chunks = self._chunks_of.get(packer)
            if chunks is None:
                chunks = self._chunks_of[packer] = cut(
                    packer.keys, [len(m) for m in messages], sorted(await self._producer.partitions_for(topic))
                )
            kind, metrics = sheet.roster.kind, len(sheet.roster.names)
            for chunk in chunks:
                await self._outbox.send(
                    OutgoingMessage(
                        topic,
                        b"",
                        chunk.records(messages),
                        chunk.size,
                        len(chunk.numbers),
                        chunk.partition,
                        kind,
                        self._rows(kind, packer, chunk),
                        metrics,
                        sheet.ts_ms,
                    )
                )

    def _rows(self, kind: str, packer: TickEncoder, chunk: Chunk) -> int:
        """Its samples; its places are noted the first time."""
        rows = self._rows_of.get(chunk)
        if rows is None:
            sizes = packer.sizes[list(chunk.numbers)].tolist()
            rows = self._rows_of[chunk] = sum(sizes)
            for number, count in zip(chunk.numbers, sizes, strict=True):
                self._note_place(kind, packer.keys[number], packer.firsts[number], count)
        return rows

    async def _send_frame(self, frame: Frame) -> None:
        value, key = encode(frame), frame.key()
        self._note_place(frame.kind, key, frame.batch.column(3)[0].as_py(), frame.rows)
        await self._outbox.send(
            OutgoingMessage(
                topics.telemetry(frame.kind),
                key,
                value,
                len(value),
                kind=frame.kind,
                rows=frame.rows,
                metrics=frame.metrics,
                ts_ms=frame.span()[1],
            )
        )

    async def _send_event(self, topic: str, batch: pa.RecordBatch) -> None:
        value = encode_batch(batch)
        await self._outbox.send(OutgoingMessage(topic, b"", value, len(value)))

    def _note_place(self, kind: str, key: bytes, first: str, devices: int) -> None:
        self._places[kind, key, first] = max(devices, self._places.get((kind, key, first), 0))

    def _arrived(self, parcel: OutgoingMessage) -> None:
        done = self.published
        done.bytes += parcel.size
        done.frames[parcel.topic] += parcel.messages or 1
        if parcel.kind:
            done.rows[parcel.topic] += parcel.rows
            self._seen(parcel.kind, parcel.metrics, parcel.ts_ms)

    def _seen(self, kind: str, metrics: int, ts_ms: int) -> None:
        done = self.published
        done.metrics[kind] = max(done.metrics.get(kind, 0), metrics)
        done.first_ts_ms = min(done.first_ts_ms or ts_ms, ts_ms)
        done.last_ts_ms = max(done.last_ts_ms, ts_ms)

    def devices(self) -> Counter[str]:
        """How many devices of each kind have been published: the largest frame of each place, added up."""
        total: Counter[str] = Counter()
        for (kind, _, _), rows in self._places.items():
            total[kind] += rows
        return total
