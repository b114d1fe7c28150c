"""A plant's hour in a store without waiting an hour: the synthetic source, the worker and the sink's own writer, in
this process, without Kafka.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from clickhouse_connect.driver.client import Client

from pipeline.sink.batcher import Batcher
from pipeline.sink.writer import Writer
from pipeline.store.tables import BY_TOPIC
from pipeline.stream.context_feed import ContextFeed
from pipeline.stream.worker import Worker
from producers.emission import Event
from producers.sources.synthetic import faults as labelled
from producers.sources.synthetic.source import Synthetic
from schemas import topics
from schemas.codec import encode
from schemas.frame import Frame
from schemas.log_record import LogRecord
from schemas.topics import CONTEXT, PART_TOPIC

_AT_ONCE, _STORED = 20, 80  # ticks that the worker reads together, and that are inserted together


async def store(
    client: Client,
    racks: int,
    ticks: int,
    start_ms: int,
    faults: Sequence[str] = (),
    *,
    raw: bool = False,
    seed: int = 3,
    site: str = "site-1",
    more: Callable[[int], Sequence[Frame]] = lambda _: (),
) -> None:
    """Runs `ticks` seconds of a plant from `start_ms` and stores all that the pipeline makes of it; `raw` samples
    too. `more` gives frames of other sources at each ms.
    """
    plant = Synthetic(racks, "GB200", seed=seed, site=site, faults=[labelled.parse(f) for f in faults])
    batcher, writer = Batcher(), Writer(client, f"plant-{site}-{start_ms}")
    offsets: Counter[str] = Counter()
    now_ms, parts = start_ms, list[LogRecord]()

    def offset(topic: str) -> int:
        offsets[topic] += 1
        return offsets[topic] - 1

    def keep(topic: str, value: bytes) -> None:
        batcher.add(LogRecord(topic, 0, offset(f"stored {topic}"), now_ms + 400, value), 0.0)

    async def publish(topic: str, _: bytes, value: bytes) -> None:
        if topic == PART_TOPIC:
            parts.append(LogRecord("", 0, offset(topic), now_ms, value))
        elif topic in BY_TOPIC:
            keep(topic, value)

    worker = Worker(publish)
    feed = ContextFeed(worker)
    waiting: dict[str, list[LogRecord]] = {}
    for tick in range(ticks):
        if tick == 1:
            await feed.settle()
        now_ms = start_ms + 1000 * tick
        for emission in (*plant.frames(now_ms), *more(now_ms)):
            if isinstance(emission, Event):
                topic, value = emission.derived.topic, emission.derived.encode(emission.batch)
                keep(topic, value)
                if topic in CONTEXT:
                    await feed.take(topic, value)
            elif isinstance(emission, Frame):
                topic, value = topics.telemetry(emission.kind), encode(emission)
                waiting.setdefault(topic, []).append(LogRecord("", 0, offset(topic), now_ms, value))
                if raw:
                    keep(topic, value)
        if tick % _AT_ONCE == _AT_ONCE - 1 or tick == ticks - 1:
            for topic, messages in waiting.items():
                await worker.process(topic, [(0, messages)])
            waiting = {}
            taken, parts = parts, []
            if taken:
                await worker.process(PART_TOPIC, [(0, taken)])
        if tick % _STORED == _STORED - 1 or tick == ticks - 1:
            assert writer.write(batcher.close()) == []
