"""Whether the sink would store a dead letter today."""

from __future__ import annotations

import pyarrow as pa

from pipeline.sink.batcher import Batcher
from schemas import topics
from schemas.deadletter import DeadLetter
from schemas.log_record import LogRecord


def recheck(dead: DeadLetter, now_ms: int, max_age_ms: int) -> tuple[bytes | None, str]:
    """Returns (Kafka key, "") when the sink would store the message today, else (None, reason and detail)."""
    if dead.topic not in topics.TOPICS or dead.topic == topics.DEAD_LETTERS:
        return None, f"no topic of ours: {dead.topic!r}"
    batcher = Batcher(max_age_ms=max_age_ms)
    batcher.add(LogRecord(dead.topic, dead.partition, dead.offset, now_ms, dead.value), 0.0)
    batch = batcher.close()
    if batch.dead:
        return None, f"{batch.dead[0].reason}: {batch.dead[0].detail}"
    content = next(iter(batch.messages.values()))[0].content
    return (b"" if isinstance(content, pa.RecordBatch) else content.key()), ""
