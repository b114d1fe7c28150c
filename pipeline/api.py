"""The Python API: live frames as they come, history as Arrow.

What `gigawatch tail` and `gigawatch history` are made of.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncGenerator
from pathlib import Path

import pyarrow as pa
from aiokafka import AIOKafkaConsumer

from pipeline import kafka
from pipeline.holdings import Holdings
from pipeline.instance import DEFAULT_DIR, running
from pipeline.store import history as _history
from pipeline.store.access import opened
from schemas import topics
from schemas.catalogue import KINDS
from schemas.codec import Decoder, InvalidFrame
from schemas.derived import decode
from schemas.frame import Frame

_ALLOCATIONS = topics.derived("allocation")


async def live(
    kind: str | None = None,
    place: str = "",
    *,
    job: str = "",
    broker: str | None = None,
    data_dir: str | Path = DEFAULT_DIR,
) -> AsyncGenerator[Frame]:
    """Yields frames from now on: of one kind or all, of places (`site/rack` keys) that contain `place`, of a job only
    the rows of what it holds at their time.

    `broker` is HOST:PORT; by default that of the factory that runs on `data_dir`. Frames that cannot be read are
    skipped (the sink dead-letters them). Raises BrokerError when there is no broker, KeyError for an unknown kind.
    """
    if kind is not None and kind not in KINDS:
        raise KeyError(f"no kind {kind!r}; there are {', '.join(KINDS)}")
    factory = running(Path(data_dir))
    address = broker or (factory.bootstrap if factory else None)
    if address is None:
        raise kafka.BrokerError(f"no factory runs on {data_dir}, and no broker was given")
    options = {**kafka.consumer_options(address, None), "auto_offset_reset": "latest"}
    wanted = [topics.telemetry(k) for k in ([kind] if kind else KINDS)]
    consumer = AIOKafkaConsumer(*wanted, *([_ALLOCATIONS] if job else []), **options)
    decoder, holdings = Decoder(), Holdings(job)
    try:
        with kafka.explained(address):
            await consumer.start()
        if job:
            await _read_allocations(consumer, holdings)
        async for record in consumer:
            if record.topic == _ALLOCATIONS:
                _learn(holdings, record.value or b"")
                continue
            if place and place not in (record.key or b"").decode("utf-8", "replace"):
                continue
            try:
                frame = decoder.decode(record.value or b"")
            except InvalidFrame:
                continue
            found = holdings.rows_of(frame) if job else frame
            if found is not None:
                yield found
    finally:
        await consumer.stop()


async def _read_allocations(consumer: AIOKafkaConsumer, holdings: Holdings) -> None:
    """Reads the allocations that the log has, from its beginning, before any frame: sources repeat them, so that those
    of now are among them.
    """
    parts = [tp for tp in consumer.assignment() if tp.topic == _ALLOCATIONS]
    others = [tp for tp in consumer.assignment() if tp.topic != _ALLOCATIONS]
    await consumer.seek_to_end(*others)
    consumer.pause(*others)
    await consumer.seek_to_beginning(*parts)
    ends = await consumer.end_offsets(parts)
    while any([await consumer.position(tp) < ends[tp] for tp in parts]):
        for records in (await consumer.getmany(*parts, timeout_ms=200)).values():
            for record in records:
                _learn(holdings, record.value or b"")
    consumer.resume(*others)


def _learn(holdings: Holdings, value: bytes) -> None:
    """Takes allocations; what cannot be read is skipped, as frames are."""
    try:
        holdings.learn(decode(value)[1])
    except InvalidFrame:
        return


def history(
    metric: str,
    place: str = "",
    *,
    first: dt.datetime | None = None,
    last: dt.datetime | None = None,
    every_s: float = 0.0,
    by: str = "device",
    job: str = "",
    clickhouse: str | None = None,
    data_dir: str | Path = DEFAULT_DIR,
) -> pa.Table:
    """Returns one metric over time as an Arrow table (`.to_pandas()` for pandas): columns `bucket` (start of the row,
    UTC), `by`'s name (and `board` by device), `mean`, `max`, `samples`; for a counter `increase` in place of mean and
    max.

    `place` is a site, rack, node, device, board or what another system calls one, `R0001*` for all that begin so, empty
    for everything; `job` leaves only what it held, while it held it. `first` (inclusive) and `last` (exclusive) are in
    UTC; by default the newest 15 minutes, or all the time of the job. `every_s` is the width of a row, 0 for what suits
    the range; `by` is board, device, rack, job or site. Reads the factory on `data_dir`, running or stopped, or the
    ClickHouse at the URL `clickhouse`. Raises StoreError, AskError.
    """
    with opened(clickhouse, Path(data_dir)) as client:
        return _history.history(client, _history.HistoryQuery(metric, place, first, last, every_s, by, job=job))
