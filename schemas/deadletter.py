"""Dead letters: messages that could not be taken, as they came, with where they came from and why."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from schemas.identity import VERSION

_TS = pa.timestamp("ms", "UTC")
_LAST_MS = 4_102_444_800_000  # the year 2100: what ClickHouse's dates hold
#: What the store keeps of one. `ts` is when Kafka got the message, so that one that is written twice lands in one
#: place.
SCHEMA = pa.schema(
    [
        ("ts", _TS),
        ("id", pa.string()),
        ("topic", pa.string()),
        ("partition", pa.uint32()),
        ("offset", pa.uint64()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("bytes", pa.uint64()),
        ("value", pa.binary()),
    ]
)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """`value` are the message's bytes; `offset`, `partition` and `kafka_ms` (its time stamp) are its place in the log
    of `topic`.
    """

    topic: str
    partition: int
    offset: int
    kafka_ms: int
    value: bytes
    reason: str
    detail: str
    log_id: str = ""

    @property
    def id(self) -> str:
        """The same message refused twice has one name."""
        name = f"{self.log_id}/{self.topic}/{self.partition}/{self.offset}/{self.kafka_ms}/".encode()
        return hashlib.blake2b(name + self.value, digest_size=6).hexdigest()

    def headers(self) -> list[tuple[str, bytes]]:
        """Kafka headers beside the raw value."""
        fields = {
            "log": self.log_id,
            "topic": self.topic,
            "partition": self.partition,
            "offset": self.offset,
            "timestamp": self.kafka_ms,
            "reason": self.reason,
            "detail": self.detail,
            "schema_version": VERSION,
        }
        return [(name, str(value).encode("utf-8", "replace")) for name, value in fields.items()]

    @classmethod
    def read(cls, value: bytes, headers: Sequence[tuple[str, bytes]], kafka_ms: int) -> DeadLetter:
        """From a record of the dead-letter topic; what another program left out of the headers is empty, 0, or the
        record's own time.
        """
        fields = {name: raw.decode("utf-8", "replace") for name, raw in headers if raw is not None}

        def number(name: str, instead: int, most: int) -> int:
            text = fields.get(name, "")
            found = int(text) if text.isascii() and text.isdigit() and len(text) < 19 else instead
            return found if found <= most else instead

        return cls(
            fields.get("topic", ""),
            number("partition", 0, 1 << 31),
            number("offset", 0, 1 << 62),
            number("timestamp", kafka_ms, _LAST_MS),
            value,
            fields.get("reason", ""),
            fields.get("detail", ""),
            fields.get("log", ""),
        )

    def row(self) -> pa.RecordBatch:
        """One row of SCHEMA."""
        columns = [
            [self.kafka_ms],
            [self.id],
            [self.topic],
            [self.partition],
            [self.offset],
            [self.reason],
            [self.detail],
            [len(self.value)],
            [self.value],
        ]
        return pa.RecordBatch.from_arrays(
            [pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)], schema=SCHEMA
        )
