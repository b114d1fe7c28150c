"""Ticks in record batches: a place on its partition, batches whole, encoded messages for as long as their devices."""

from __future__ import annotations

import asyncio
import gc
import itertools

import numpy as np
import pytest
from aiokafka.errors import MessageSizeTooLargeError, RecordListTooLargeError

from producers.emission import DeviceList, SiteTick
from producers.publish.encoder import TickEncoder
from producers.publish.publisher import Publisher
from schemas.codec import Decoder, encode
from schemas.record_batch import Chunk
from tests.producers.publish.fakes import START, Log, device_list, node_frame


def constant(devices: DeviceList, ts_ms: int, value: float) -> SiteTick:
    return SiteTick(devices, ts_ms, {n: np.full(devices.rows, value) for n in devices.metrics})


@pytest.mark.parametrize("failures", [0, 1])
async def test_a_tick_goes_out_whole_in_compressed_batches_each_place_on_one_partition(failures: int) -> None:
    log, devices = Log(failures), device_list(40, 72, ["a", "bb"])
    publisher = Publisher(log)
    for tick in range(2):
        await publisher.emit(constant(devices, START + tick, 7.0 + tick))
        await publisher.drain()
    assert publisher.published.rows["telemetry.gpu"] == 2 * 40 * 72
    assert publisher.published.frames["telemetry.gpu"] == 80
    assert publisher.status()["retries"] == failures
    assert publisher.devices()["gpu"] == 40 * 72
    places = {(key, partition) for _, partition, key, _ in log.sent}
    assert len(places) == 40, "a place stays on its partition"
    assert len({p for _, p in places}) == 4
    frames = [Decoder().decode(v) for _, _, _, v in log.sent]
    assert sorted((f.key(), f.span()[0]) for f in frames) == sorted(
        (f"s/R{r}".encode(), START + t) for r in range(40) for t in range(2)
    )


async def test_a_swapped_board_at_every_tick_keeps_a_bounded_number_of_encoded_messages() -> None:
    """Each change of an identity makes another device list; what was encoded for the earlier ones must go."""

    def kept() -> list[int]:
        gc.collect()
        found = gc.get_objects()
        return [sum(isinstance(o, kind) for o in found) for kind in (TickEncoder, Chunk, DeviceList)]

    before, log, decoder = kept(), Log(), Decoder()
    publisher = Publisher(log, merge_s=60)
    most = [0, 0, 0]
    for tick in range(60):
        for node in range(4):
            frame = node_frame("R1", node, START + 1000 * tick, 5.0, f"GPU-{tick}" if node == 0 else "steady")
            await publisher.emit(decoder.decode(encode(frame)))
        await publisher.drain()
        if tick % 10 == 9:
            most = [max(m, now - b) for m, now, b in zip(most, kept(), before, strict=True)]
    assert publisher.published.rows["telemetry.gpu"] == 60 * 8
    assert max(most) <= 16


async def test_devices_that_come_back_are_encoded_once_while_their_source_keeps_the_list() -> None:
    publisher, lists = Publisher(Log()), [device_list(2, 4, [board]) for board in ("a", "b")]
    gc.collect()
    others = {id(o) for o in gc.get_objects() if isinstance(o, TickEncoder)}
    seen = set()
    for tick, devices in enumerate(itertools.islice(itertools.cycle(lists), 6)):
        await publisher.emit(constant(devices, START + tick, 1.0))
        await publisher.drain()
        seen |= {id(o) for o in gc.get_objects() if isinstance(o, TickEncoder)} - others
    assert len(seen) == 2


@pytest.mark.parametrize("error", [MessageSizeTooLargeError, RecordListTooLargeError])
async def test_a_batch_that_the_broker_finds_too_large_is_refused_and_the_next_ones_go_out(
    error: type[Exception],
) -> None:
    """The broker's own bound may be below the client's: it refuses only after the send, and does so every time."""
    log, large, small = Log(error=error, max_bytes=4000), device_list(1, 720, [""]), device_list(1, 2, [""])
    publisher = Publisher(log)
    noise = np.random.default_rng(1).uniform(20, 60, large.rows)
    await publisher.emit(SiteTick(large, START, dict.fromkeys(large.metrics, noise)))
    for tick in range(2):
        await publisher.emit(constant(small, START + tick, 1.0))
    await asyncio.wait_for(publisher.drain(), 5)
    status = publisher.status()
    assert (status["refused_messages"], status["refused_rows"]) == ({"telemetry.gpu": 1}, 720)
    assert status["pending_bytes"] == 0
    assert [Decoder().decode(value).rows for _, _, _, value in log.sent] == [2, 2]
