"""Packing, merging and batches: what is encoded once and stamped anew is, byte for byte, what the plain way gives."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given, settings
from hypothesis import strategies as st

from producers.publish.coalesce import Coalescer
from producers.publish.encoder import DeviceList, SiteTick
from producers.publish.publisher import Publisher
from producers.sources.load import DCGM_DEFAULT, LoadSource
from producers.sources.source import SourceError
from schemas.codec import Decoder, encode
from schemas.frame import Frame, build
from schemas.identity import IDENTITY
from schemas.record_batch import BATCH_BYTES, RecordBatchV2, cut

START = 1_750_000_000_000


def roster(racks: int, each: int, jobs: list[str]) -> DeviceList:
    rack = [f"R{r}" for r in range(racks) for _ in range(each)]
    identity = {
        "site": ["s"] * len(rack),
        "rack": rack,
        "node": [""] * len(rack),
        "device": [f"{r}-g{i}" for i, r in enumerate(rack)],
        "model": ["H100"] * len(rack),
        "job": [jobs[int(r[1:]) % len(jobs)] for r in rack],
    }
    return DeviceList(
        "gpu",
        {n: pa.array(identity[n], pa.string()) for n in IDENTITY},
        np.arange(0, len(rack) + 1, each),
        ("util_pct", "temp_c", "energy_j"),
    )


@given(
    st.integers(1, 5),
    st.integers(1, 9),
    st.lists(st.sampled_from(["", "a", "train-7"]), min_size=1, max_size=3),
    st.integers(0, 2**32),
)
@settings(max_examples=40, deadline=None)
def test_a_packed_message_is_the_frame_that_the_plain_way_encodes(
    racks: int, each: int, jobs: list[str], seed: int
) -> None:
    who, rng = roster(racks, each, jobs), np.random.default_rng(seed)
    for tick in range(2):  # the second one is stamped over the first
        values = {n: rng.integers(0, 90, who.rows).astype(np.float64) for n in who.names}
        values["temp_c"][rng.random(who.rows) < 0.2] = np.nan
        messages = who.packer.pack(SiteTick(who, START + tick, values), Counter())
        for message, begin in zip(messages, who.cuts, strict=False):
            plain = build(
                "gpu",
                START + tick,
                {n: who.identity[n][begin : begin + each] for n in IDENTITY},
                {n: v[begin : begin + each] for n, v in values.items()},
            )
            found = Decoder().decode(message).batch
            assert found.schema.equals(plain.batch.schema)
            assert repr(found.to_pydict()) == repr(plain.batch.to_pydict())
            assert Decoder().decode(message).key() == plain.key()


def test_impossible_values_are_counted_and_never_leave() -> None:
    who, counts = roster(2, 3, ["j"]), Counter[tuple[str, str]]()
    values = {"util_pct": np.full(6, 50.0), "temp_c": np.array([40, 900.0, 41, 42, 43, 44]), "energy_j": np.ones(6)}
    sent = [
        Decoder().decode(m).values("temp_c").tolist() for m in who.packer.pack(SiteTick(who, START, values), counts)
    ]
    assert counts == {("temp_c", "range"): 1}
    assert [len(s) for s in sent] == [3, 3]
    assert np.isnan(sent[0][1])


class Log:
    """A producer that keeps every batch as Kafka would read it; the first `failures` fail."""

    def __init__(self, failures: int = 0) -> None:
        self.sent: list[tuple[str, int, bytes, bytes]] = []
        self.failures = failures

    async def partitions_for(self, topic: str) -> set[int]:
        return {0, 1, 2, 3}

    async def send_batch(self, batch: Any, topic: str, *, partition: int) -> Any:
        import asyncio

        from aiokafka.errors import KafkaTimeoutError

        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.failures:
            self.failures -= 1
            done.set_exception(KafkaTimeoutError())
            return done
        records = MemoryRecords(bytes(batch._build()))
        while records.has_next():
            found = records.next_batch()
            assert found.validate_crc()
            self.sent += [(topic, partition, r.key, r.value) for r in found]
        done.set_result(None)
        return done


@pytest.mark.parametrize("failures", [0, 1])
async def test_a_sheet_goes_out_whole_in_compressed_batches_each_place_on_one_partition(failures: int) -> None:
    log, who = Log(failures), roster(40, 72, ["a", "bb"])
    publisher = Publisher(log)
    for tick in range(2):
        await publisher.emit(SiteTick(who, START + tick, {n: np.full(who.rows, 7.0 + tick) for n in who.names}))
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


@pytest.mark.parametrize("count", [1, 63, 64, 200])  # offsets of one byte and of two
def test_a_batch_is_what_kafka_reads_and_much_smaller(count: int) -> None:
    values = [b"x" * 1000 + b"%d" % n for n in range(count)]
    keys = [b"k%d" % n for n in range(count)]
    (chunk,) = cut(keys, [*map(len, values)], [0])
    batch = RecordBatchV2(chunk.records(values), count, START)
    batch._set_producer_state(7, 1, 30)
    data = batch._build()
    assert batch._build() is data, "built once, sent again as it is"
    assert len(data) == batch.size()
    records = MemoryRecords(data)
    found = records.next_batch()
    assert found.validate_crc()
    assert (found.producer_id, found.producer_epoch, found.base_sequence) == (7, 1, 30)
    assert [(r.offset, r.key, r.value, r.timestamp) for r in found] == [
        (n, keys[n], values[n], START) for n in range(count)
    ]
    assert len(data) < sum(map(len, values)) / 8


def test_messages_are_cut_into_batches_that_fit_each_partition_in_turn() -> None:
    keys, size = [b"s/R%d" % n for n in range(40)], BATCH_BYTES // 3
    chunks = cut(keys, [size] * len(keys), [0, 1, 2, 3])
    assert sorted(n for c in chunks for n in c.numbers) == list(range(40))
    assert max(len(c.numbers) for c in chunks) == 2, "three and their framing are too much"
    assert len({c.partition for c in chunks[:4]}) == 4


def small(rack: str, node: int, ts: int, value: float) -> Frame:
    return build(
        "gpu",
        ts,
        {"site": ["s"] * 2, "rack": [rack] * 2, "device": [f"{rack}-{node}-{i}" for i in range(2)]},
        {"power_w": [value, value + 1]},
    )


def test_small_frames_of_a_tick_become_one_message_a_rack() -> None:
    decoder, merger = Decoder(), Coalescer()
    for ts in (START, START + 1000):  # the second tick uses what the first has taught
        frames = [
            decoder.decode(encode(small(rack, node, ts, 10.0 * node))) for node in (2, 0, 1) for rack in ("R2", "R1")
        ]
        sheets, rest = merger.merge(frames)
        assert rest == []
        merged = [decoder.decode(m) for sheet in sheets for m in sheet.roster.packer.pack(sheet, Counter())]
        assert sorted(f.key() for f in merged) == [b"s/R1", b"s/R2"]
        for frame in merged:
            rack = frame.identity("rack")[0]
            assert set(zip(frame.identity("device"), frame.values("power_w").tolist(), strict=True)) == {
                (f"{rack}-{node}-{i}", 10.0 * node + i) for node in range(3) for i in range(2)
            }
            assert frame.span() == (ts, ts)


def test_frames_that_do_not_fit_a_sheet_are_merged_the_plain_way() -> None:
    mixed = build(
        "gpu",
        np.array([START, START + 5]),
        {"site": ["s"] * 2, "rack": ["R1"] * 2, "device": ["a", "b"]},
        {"power_w": [1.0, 2.0]},
    )
    sheets, rest = Coalescer().merge([mixed, small("R1", 0, START, 5.0)])
    assert sheets == []
    assert [f.rows for f in rest] == [4]


def test_premade_ticks_are_stamped_anew_and_counters_go_on_growing() -> None:
    source = LoadSource(150, made=3)
    energies, stamps = [], []
    for tick in range(7):
        gpu = next(s for s in source.sheets(tick, START + 1000 * tick) if s.roster.kind == "gpu")
        assert gpu.roster.rows == 150
        assert gpu.roster.names == DCGM_DEFAULT
        energies.append(gpu.values["energy_j"].copy())
        stamps.append(Decoder().decode(gpu.roster.packer.pack(gpu, Counter())[0]).span()[0])
    assert stamps == [START + 1000 * k for k in range(7)]
    assert all((b >= a).all() for a, b in itertools.pairwise(energies)), "a counter never goes back"
    assert [s.roster.kind for s in source.sheets(0, START)] == ["gpu", "power", "cooling", "cooling"]


def test_premade_cuts_by_rack_pod_or_node_and_refuses_the_rest() -> None:
    assert [
        np.diff(LoadSource(2400, per=per, made=1).rosters["gpu"].cuts).max() for per in ("node", "rack", "pod")
    ] == [
        8,
        72,
        1152,
    ]
    with pytest.raises(SourceError, match="rack, pod or node"):
        LoadSource(10, per="hall")
    with pytest.raises(SourceError, match="at least one"):
        LoadSource(0)
