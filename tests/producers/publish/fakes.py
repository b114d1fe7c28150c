"""Device lists, small frames and messages for tests of publishing, and a producer that keeps what Kafka would read."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pyarrow as pa
from aiokafka.errors import KafkaTimeoutError
from aiokafka.record.memory_records import MemoryRecords

from producers.emission import DeviceList
from producers.publish.outgoing import OutgoingMessage
from schemas.frame import Frame, build
from schemas.identity import IDENTITY

START = 1_750_000_000_000


def device_list(racks: int, each: int, boards: list[str]) -> DeviceList:
    """`racks` racks of `each` GPUs, a message a rack; prefixes of boards go round the racks, empty for none."""
    rack = [f"R{r}" for r in range(racks) for _ in range(each)]
    identity = {
        "site": ["s"] * len(rack),
        "rack": rack,
        "node": [""] * len(rack),
        "device": [f"{r}-g{i}" for i, r in enumerate(rack)],
        "model": ["H100"] * len(rack),
        "board": [
            prefix and f"{prefix}-{i}" for i, r in enumerate(rack) for prefix in (boards[int(r[1:]) % len(boards)],)
        ],
    }
    columns = {name: pa.array(identity[name], pa.string()) for name in IDENTITY}
    return DeviceList("gpu", columns, np.arange(0, len(rack) + 1, each), ("util_pct", "temp_c", "energy_j"))


def node_frame(rack: str, node: int, ts_ms: int, value: float, board: str = "") -> Frame:
    """Two GPUs of one node."""
    identity = {
        "site": ["s"] * 2,
        "rack": [rack] * 2,
        "device": [f"{rack}-{node}-{i}" for i in range(2)],
        "board": [board and f"{board}/{i}" for i in range(2)],
    }
    return build("gpu", ts_ms, identity, {"power_w": [value, value + 1]})


def message(n: int, size: int = 100) -> OutgoingMessage:
    """Number `n` of a series, of `size` bytes."""
    value = n.to_bytes(8, "big") + bytes(size - 8)
    return OutgoingMessage("telemetry.gpu", b"s/R1", value, size, kind="gpu", rows=72, metrics=20, ts_ms=1000 * n)


def number(p: OutgoingMessage) -> int:
    return int.from_bytes(p.value[:8], "big")


class Log:
    """A producer on four partitions that keeps every batch as Kafka would read it. The first `failures` sends fail, and
    so does each of more than `max_bytes`.
    """

    def __init__(self, failures: int = 0, error: type[Exception] = KafkaTimeoutError, max_bytes: int = 1 << 30) -> None:
        self.sent: list[tuple[str, int, bytes, bytes]] = []
        self.failures, self.error, self.max_bytes = failures, error, max_bytes

    async def partitions_for(self, topic: str) -> set[int]:
        return {0, 1, 2, 3}

    async def send_batch(self, batch: Any, topic: str, *, partition: int) -> asyncio.Future[None]:
        failed = self.failures > 0 or batch.size() > self.max_bytes
        self.failures -= self.failures > 0

        async def outcome() -> None:
            if failed:
                raise self.error
            records = MemoryRecords(bytes(batch._build()))
            while records.has_next():
                found = records.next_batch()
                assert found.validate_crc()
                self.sent += [(topic, partition, r.key, r.value) for r in found]

        return asyncio.ensure_future(outcome())
