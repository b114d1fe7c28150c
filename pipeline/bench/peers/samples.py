"""The plant's GPU samples once more as JSON, one message a GPU and tick: what the peers read.

Taken from the frames in the log.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import NewTopic

from pipeline import kafka
from pipeline.embedded.supervisor import Supervisor
from schemas.arrays import Floats
from schemas.codec import Decoder

TOPIC = "bench.samples"


@dataclass(frozen=True, slots=True)
class Tick:
    """All GPUs at one tick: float[metrics, GPUs] in the order of `names` and `devices`."""

    ts_ms: int
    values: Floats


@dataclass(frozen=True, slots=True)
class Samples:
    devices: Sequence[str]
    names: Sequence[str]
    ticks: Sequence[Tick]

    @property
    def count(self) -> int:
        return len(self.devices) * len(self.ticks)

    def of(self, device: str, name: str) -> tuple[Floats, Floats]:
        """Returns (int64[ticks] time stamps ms, float[ticks]) of one metric of one GPU."""
        row, column = self.names.index(name), list(self.devices).index(device)
        return np.array([t.ts_ms for t in self.ticks]), np.array([t.values[row, column] for t in self.ticks])


async def read(bootstrap: str) -> Samples:
    """Returns all samples in telemetry.gpu."""
    tps = [tp for tp in await kafka.partitions(bootstrap) if tp.topic == "telemetry.gpu"]
    frames: dict[int, dict[str, tuple[list[str], Floats]]] = {}
    decoder, names = Decoder(), list[str]()
    async for _, value in _everything(bootstrap, tps):
        frame = decoder.decode(value, "gpu")
        names = names or list(frame.batch.schema.names[-frame.metrics :])
        devices = frame.identity("device")
        frames.setdefault(frame.span()[0], {})[devices[0]] = (
            devices,
            np.array([frame.values(n) for n in names], np.float64),
        )
    ticks = []
    for ts in sorted(frames):
        here = [frames[ts][first] for first in sorted(frames[ts])]
        ticks.append(Tick(ts, np.concatenate([v for _, v in here], axis=1)))
    return Samples([d for first in sorted(frames[min(frames)]) for d in frames[min(frames)][first][0]], names, ticks)


async def publish(factory: Supervisor, samples: Samples) -> None:
    """Sends the samples as JSON to TOPIC, one partition, in order of time."""
    async with kafka.admin(factory.bootstrap) as client:
        await client.create_topics(
            [NewTopic(TOPIC, 1, 1, topic_configs={"retention.ms": "86400000", "retention.bytes": "-1"})]
        )
    producer = AIOKafkaProducer(bootstrap_servers=factory.bootstrap, max_batch_size=1 << 20, linger_ms=20)
    await producer.start()
    try:
        for tick in samples.ticks:
            for line, device in zip(json_lines(samples, tick), samples.devices, strict=True):
                await producer.send(TOPIC, line, key=device.encode())
        await producer.flush()
    finally:
        await producer.stop()


def json_lines(samples: Samples, tick: Tick) -> list[bytes]:
    """Returns one JSON object a GPU: ts (ms), device, and its metrics."""
    return [
        json.dumps({"ts": tick.ts_ms, "device": device, **dict(zip(samples.names, column, strict=True))}).encode()
        for device, column in zip(samples.devices, tick.values.T.round(6).tolist(), strict=True)
    ]


async def _everything(bootstrap: str, tps: Sequence[TopicPartition]):  # type: ignore[no-untyped-def]
    consumer = AIOKafkaConsumer(**kafka.consumer_options(bootstrap, None))
    await consumer.start()
    try:
        consumer.assign(list(tps))
        await consumer.seek_to_beginning(*tps)
        ends = await consumer.end_offsets(tps)
        left = {tp for tp in tps if ends[tp] > 0}
        while left:
            for tp, records in (await consumer.getmany(timeout_ms=500)).items():
                for record in records:
                    yield tp, record.value
                if records and records[-1].offset + 1 >= ends[tp]:
                    left.discard(tp)
    finally:
        await consumer.stop()
