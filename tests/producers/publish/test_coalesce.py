"""Coalescing: the small frames of a tick become one message a rack, and no sample is lost or doubled."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from producers.emission import SiteTick
from producers.publish.coalesce import Coalescer
from producers.publish.encoder import TickEncoder
from schemas.codec import Decoder, encode
from schemas.frame import Frame, build
from tests.producers.publish.fakes import START, node_frame

Row = tuple[str, int, float]


def coalesced(coalescer: Coalescer, frames: list[Frame]) -> list[SiteTick]:
    for frame in frames:
        coalescer.add(frame)
    return coalescer.flush()


def messages(ticks: list[SiteTick]) -> list[Frame]:
    return [Decoder().decode(m) for t in ticks for m in TickEncoder(t.devices).encode(t, Counter())]


def rows(frames: list[Frame]) -> list[Row]:
    return sorted(
        row
        for f in frames
        for row in zip(f.identity("device"), f.ts_ms().tolist(), f.values("power_w").tolist(), strict=True)
    )


def test_small_frames_of_a_tick_become_one_message_a_rack() -> None:
    decoder, coalescer = Decoder(), Coalescer()
    for ts in (START, START + 1000):  # the second tick uses the plan of the first
        frames = [
            decoder.decode(encode(node_frame(rack, node, ts, 10.0 * node)))
            for node in (2, 0, 1)
            for rack in ("R2", "R1")
        ]
        merged = messages(coalesced(coalescer, frames))
        assert [f.key() for f in merged] == [b"s/R1", b"s/R2"]
        for frame in merged:
            rack = frame.identity("rack")[0]
            assert set(zip(frame.identity("device"), frame.values("power_w").tolist(), strict=True)) == {
                (f"{rack}-{node}-{i}", 10.0 * node + i) for node in range(3) for i in range(2)
            }
            assert frame.span() == (ts, ts)


@given(st.booleans(), st.randoms(use_true_random=False))
def test_devices_keep_their_list_in_whatever_order_their_frames_arrive(over_the_wire: bool, rng: random.Random) -> None:
    decoder, coalescer = Decoder(), Coalescer()
    lists = set()
    for tick in range(4):
        frames = [node_frame(rack, node, START + tick, 10.0 * node) for node in range(3) for rack in ("R1", "R22")]
        expected = rows(frames)
        rng.shuffle(frames)
        if over_the_wire:
            frames = [decoder.decode(encode(f)) for f in frames]
        ticks = coalesced(coalescer, frames)
        lists |= {id(t.devices) for t in ticks}
        assert rows(messages(ticks)) == expected
        assert all(t.ts_ms == START + tick for t in ticks)
    assert len(lists) == (2 if over_the_wire else 1), "names of another length are another layout"


def test_frames_of_a_rack_that_differ_in_time_or_metrics_become_one_message() -> None:
    mixed = build(
        "gpu",
        np.array([START, START + 5]),
        {"site": ["s"] * 2, "rack": ["R1"] * 2, "device": ["a", "b"]},
        {"power_w": [1.0, 2.0], "temp_c": [40.0, 41.0]},
    )
    frames = [mixed, node_frame("R1", 0, START, 5.0)]
    (found,) = messages(coalesced(Coalescer(), frames))
    assert rows([found]) == [("R1-0-0", START, 5.0), ("R1-0-1", START, 6.0), ("a", START, 1.0), ("b", START + 5, 2.0)]
    temperatures = dict(zip(found.identity("device"), found.values("temp_c").tolist(), strict=True))
    assert temperatures["a"] == 40.0
    assert np.isnan(temperatures["R1-0-0"])


def test_messages_that_mix_time_stamps_keep_each_of_them() -> None:
    decoder = Decoder()
    frames = [
        build(
            "gpu",
            np.array([START + node, START + 5]),
            {"site": ["s"] * 2, "rack": ["R1"] * 2, "device": [f"{node}-a", f"{node}-b"]},
            {"power_w": [1.0 + node, 2.0]},
        )
        for node in range(2)
    ]
    (tick,) = coalesced(Coalescer(), [decoder.decode(encode(f)) for f in frames])
    assert rows(messages([tick])) == rows(frames)


def test_a_board_that_is_replaced_makes_another_list_and_keeps_its_own_samples() -> None:
    decoder, coalescer, seen = Decoder(), Coalescer(), list[tuple[str, float]]()
    lists = set()
    for tick, board in enumerate(("GPU-a", "GPU-a", "GPU-b", "GPU-b")):
        frames = [decoder.decode(encode(node_frame("R1", node, START + tick, 10.0 * tick, board))) for node in (0,)]
        (found,) = coalesced(coalescer, frames)
        lists.add(id(found.devices))
        (frame,) = messages([found])
        seen += zip(frame.identity("board"), frame.values("power_w").tolist(), strict=True)
    assert len(lists) == 2
    assert seen == [(f"GPU-{b}/{i}", 10.0 * t + i) for t, b in enumerate("aabb") for i in range(2)]


def test_racks_with_other_metrics_do_not_share_columns() -> None:
    warm = build("gpu", START, {"site": ["s"], "rack": ["R2"], "device": ["x"]}, {"temp_c": [40.0]})
    found = messages(coalesced(Coalescer(), [node_frame("R1", 0, START, 5.0), warm]))
    assert {(f.key(), f.metrics) for f in found} == {(b"s/R1", 1), (b"s/R2", 1)}


def test_the_newest_tick_waits_for_its_last_frames_unless_it_is_the_only_one() -> None:
    coalescer = Coalescer()
    for ts in (START, START + 1000):
        coalescer.add(node_frame("R1", 0, ts, 1.0))
    assert [t.ts_ms for t in coalescer.flush(keep_newest=True)] == [START]
    assert len(coalescer) == 1
    assert [t.ts_ms for t in coalescer.flush(keep_newest=True)] == [START + 1000]
    assert len(coalescer) == 0
