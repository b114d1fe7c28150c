"""A record of a Kafka log, as workers and the sink read it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple


class LogRecord(NamedTuple):
    """`kafka_ms` is the record's time stamp, ms since 1970; `value` its bytes, empty for a tombstone."""

    topic: str
    partition: int
    offset: int
    kafka_ms: int
    value: bytes
    headers: Sequence[tuple[str, bytes]] = ()

    @classmethod
    def of(cls, record: Any) -> LogRecord:
        """From an aiokafka `ConsumerRecord`."""
        return cls(record.topic, record.partition, record.offset, record.timestamp, record.value or b"", record.headers)
