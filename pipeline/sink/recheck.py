"""Whether the sink would store a dead letter today."""

from __future__ import annotations

import pyarrow as pa

from pipeline.sink.batcher import Batcher
from schemas import topics
from schemas.deadletter import DeadLetter
from schemas.log_record import LogRecord


def recheck(letter: DeadLetter, now_ms: int, max_age_ms: int) -> tuple[bytes | None, str]:
    """Returns (Kafka key, "") when the sink would store the message today, else (None, reason and detail)."""
    if letter.topic not in topics.TOPICS or letter.topic == topics.DEAD_LETTERS:
        return None, f"no topic of ours: {letter.topic!r}"
    batcher = Batcher(max_age_ms=max_age_ms)
    batcher.take(LogRecord(letter.topic, letter.partition, letter.offset, now_ms, letter.value), 0.0)
    batch = batcher.close()
    if batch.dead:
        return None, f"{batch.dead[0].reason}: {batch.dead[0].detail}"
    content = next(iter(batch.pieces.values()))[0].content
    return (b"" if isinstance(content, pa.RecordBatch) else content.key()), ""
