"""From Kafka records to batches: decode, judge, group by table, close by rows, bytes or age.

Pure: no Kafka, no ClickHouse.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from dataclasses import dataclass, field
from functools import cache

import pyarrow as pa

from pipeline.sink import dedup
from pipeline.sink.stored_message import StoredMessage
from pipeline.store.tables import BY_TOPIC
from schemas import derived, topics
from schemas.catalogue import KINDS
from schemas.codec import Decoder, InvalidFrame
from schemas.deadletter import DeadLetter
from schemas.frame import Frame
from schemas.log_record import LogRecord
from schemas.validation import MAX_AGE_MS, validate_timestamps

_DAY_MS = 86_400_000
_STORED_BEFORE = "stored-before"


@dataclass(slots=True)
class Flush:
    """What one flush does: inserts by table and period, dead letters, then offsets (the next to read) by partition."""

    messages: dict[tuple[str, str], list[StoredMessage]] = field(default_factory=dict)
    dead: list[DeadLetter] = field(default_factory=list)
    offsets: dict[tuple[str, int], int] = field(default_factory=dict)
    rows: int = 0
    bytes: int = 0
    opened: float = 0.0

    def __bool__(self) -> bool:
        return bool(self.offsets)


class Batcher:
    """`max_age_ms`: a sample older than this when Kafka got it is dead-lettered as `stale`."""

    def __init__(
        self,
        *,
        max_rows: int = 1_000_000,
        max_bytes: int = 256 << 20,
        max_wait_s: float = 1.0,
        max_age_ms: int = MAX_AGE_MS,
    ) -> None:
        self._max_rows, self._max_bytes, self._max_wait_s, self._max_age_ms = (
            max_rows,
            max_bytes,
            max_wait_s,
            max_age_ms,
        )
        self._decoder = Decoder()
        self.batch = Flush()
        self.received: Counter[str] = Counter()
        self.discarded: Counter[str] = Counter()

    def add(self, record: LogRecord, now: float, days: set[dt.date] | None = None) -> None:
        """Adds a record; `days` are the first days of the periods of it that are stored already.

        Its offset advances whatever becomes of it.
        """
        batch = self.batch
        if not batch:
            batch.opened = now
        batch.offsets[record.topic, record.partition] = record.offset + 1
        batch.bytes += len(record.value)
        self.received[record.topic] += 1
        table = BY_TOPIC[record.topic]
        try:
            content = self._decode(record)
        except InvalidFrame as err:
            batch.dead.append(
                DeadLetter(
                    record.topic, record.partition, record.offset, record.kafka_ms, record.value, err.reason, err.detail
                )
            )
            self.discarded[err.reason] += 1
            return
        if isinstance(content, Frame) and not days:
            first, last = (ts // _DAY_MS for ts in content.span())
            if first == last:
                self._add(table.name, _day(first), content, record)
                return
        rows = content.batch if isinstance(content, Frame) else content
        if days:
            rows = dedup.remaining(rows, table, days)
            if not rows.num_rows:
                self.discarded[_STORED_BEFORE] += 1
                return
        for day, part in dedup.by_period(rows, table):
            self._add(table.name, day, Frame(content.kind, part) if isinstance(content, Frame) else part, record)

    def _add(self, table: str, day: str, content: Frame | pa.RecordBatch, record: LogRecord) -> None:
        message = StoredMessage(content, record.partition, record.offset, record.kafka_ms)
        self.batch.messages.setdefault((table, day), []).append(message)
        self.batch.rows += message.rows

    @property
    def refused(self) -> Counter[str]:
        """Dead letters so far, by reason."""
        return Counter({reason: n for reason, n in self.discarded.items() if reason != _STORED_BEFORE})

    def due(self, now: float) -> bool:
        batch = self.batch
        return bool(batch) and (
            batch.rows >= self._max_rows or batch.bytes >= self._max_bytes or now - batch.opened >= self._max_wait_s
        )

    def close(self) -> Flush:
        """The batch so far; a new one begins."""
        batch, self.batch = self.batch, Flush()
        return batch

    def _decode(self, record: LogRecord) -> Frame | pa.RecordBatch:
        """A frame, its times judged against the record's own, so that a replay judges as the first run did; derived
        rows; or a dead letter.
        """
        kind = record.topic.removeprefix("telemetry.")
        if kind in KINDS:
            frame = self._decoder.decode(record.value, kind)
            validate_timestamps(*frame.span(), record.kafka_ms, self._max_age_ms)
            return frame
        if record.topic == topics.DEAD_LETTERS:
            return DeadLetter.read(record.value, record.headers, record.kafka_ms).row()
        stream, batch = derived.decode(record.value)
        if record.topic != topics.derived(stream.name):
            raise InvalidFrame("kind", f"a {stream.name} message on {record.topic}")
        return batch


@cache
def _day(number: int) -> str:
    return (dt.date(1970, 1, 1) + dt.timedelta(days=number)).isoformat()
