"""What the worker makes of the plant's swaps, dark racks and job changes: incidents where there is a fault only."""

from __future__ import annotations

from collections import Counter

import pytest

from pipeline.stream.worker import Worker
from producers.emission import Event
from producers.sources.synthetic import faults
from producers.sources.synthetic.source import Synthetic
from schemas import derived, topics
from schemas.codec import encode
from schemas.frame import Frame
from schemas.log_record import LogRecord
from tests.producers.sources.test_synthetic import START


async def incidents(plant: Synthetic, ticks: int) -> set[tuple[str, str]]:
    """(device, cause) of all incidents that a worker without Kafka opens over the plant's ticks."""
    found, parts, offsets = set[tuple[str, str]](), list[bytes](), Counter[str]()

    def record(topic: str, value: bytes) -> LogRecord:
        offsets[topic] += 1
        return LogRecord("", 0, offsets[topic] - 1, now_ms, value)

    async def publish(topic: str, _: bytes, value: bytes) -> None:
        if topic == topics.PART_TOPIC:
            parts.append(value)
        elif topic == topics.derived("incident"):
            found.update((row["device"], row["cause"]) for row in derived.decode(value)[1].to_pylist())

    worker = Worker(publish)
    for tick in range(ticks):
        now_ms = START + 1000 * tick
        waiting: dict[str, list[LogRecord]] = {}
        for emission in plant.frames(now_ms):
            if isinstance(emission, Frame):
                topic = topics.telemetry(emission.kind)
                waiting.setdefault(topic, []).append(record(topic, encode(emission)))
            elif isinstance(emission, Event) and emission.derived.topic in topics.CONTEXT:
                await worker.take_context(emission.derived.topic, emission.derived.encode(emission.batch))
        for topic, messages in waiting.items():
            await worker.process(topic, [(0, messages)])
        taken, parts[:] = [record(topics.PART_TOPIC, value) for value in parts], []
        if taken:
            await worker.process(topics.PART_TOPIC, [(0, taken)])
    return found


@pytest.mark.parametrize("swap", ["gpu-swap@R0001-N01-GPU0:40", "gpu-swap@R0001-N01-GPU0~R0002-N03-GPU2:40"])
async def test_a_swapped_board_raises_no_alarm(swap: str) -> None:
    assert await incidents(Synthetic(2, "GB200", seed=3, faults=[faults.parse(swap)]), 120) == set()


async def test_jobs_that_come_and_go_raise_no_alarm() -> None:
    assert await incidents(Synthetic(2, "H100", seed=3, job_changes=0.5), 150) == set()


async def test_a_dark_rack_is_silent_with_all_its_devices() -> None:
    plant = Synthetic(2, "H100", seed=3, faults=[faults.parse("rack-dark@R0002:40")])
    gpus = plant.topology.identity("gpu")["device"].to_pylist()
    found = await incidents(plant, 90)
    assert {cause for _, cause in found} == {"silent"}
    assert {(gpu, "silent") for gpu in gpus if gpu.startswith("R0002")} <= found
    assert all(device.startswith("R0002") for device, _ in found)
