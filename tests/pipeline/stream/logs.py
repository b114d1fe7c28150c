"""A seeded plant as a log of messages, a worker that publishes into a list, and a log that can be read again."""

from __future__ import annotations

from pipeline.stream.worker import Worker
from producers.sources.synthetic import faults
from producers.sources.synthetic.source import Synthetic
from schemas.codec import encode
from schemas.frame import Frame
from schemas.log_record import LogRecord

START = 1_750_000_000_000
Published = list[tuple[str, bytes, bytes]]


def messages(ticks: int, kind: str = "gpu", racks: int = 1) -> list[LogRecord]:
    plant = Synthetic(racks, "H100", seed=4, faults=[faults.parse("gpu-thermal:60")])
    frames = [
        e
        for k in range(ticks)
        for e in plant.frames(START + 1000 * k)
        if isinstance(e, Frame) and e.kind == kind and e.identity("model")[0] != "utility-meter"
    ]
    return [LogRecord("", 0, n, int(f.ts_ms()[0]), encode(f)) for n, f in enumerate(frames)]


def worker() -> tuple[Worker, Published]:
    out: Published = []

    async def publish(topic: str, key: bytes, value: bytes) -> None:
        out.append((topic, key, value))

    return Worker(publish), out


class Rewindable:
    """A log that can be read again; `trimmed` messages are gone."""

    def __init__(self, messages: list[LogRecord], committed: int = 0, trimmed: int = 0) -> None:
        self.messages, self.committed, self.trimmed, self.asked = messages, committed, trimmed, list[int]()

    async def begin(self, topic: str, number: int) -> int:
        return max(self.committed, self.trimmed)

    async def rewind(self, topic: str, number: int, offset: int) -> None:
        self.asked.append(offset)

    def is_at_end(self, topic: str, number: int, position: int | None) -> bool:
        return (position or 0) >= len(self.messages)

    async def open_incidents(self) -> list[dict[str, object]]:
        return []
