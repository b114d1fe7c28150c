"""Frames in a known layout: what is compared instead of parsed reads the same, and nothing slips in that parsing would
refuse.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.codec import Decoder, InvalidFrame, encode
from schemas.frame import Frame, build
from schemas.stack import Stack, stacks


def frame(rack: str, ts: int, seed: int, devices: int = 6, job: str = "j") -> Frame:
    rng = np.random.default_rng(seed)
    who = {
        "site": ["s"] * devices,
        "rack": [rack] * devices,
        "device": [f"{rack}-é{i}" for i in range(devices)],
        "job": [job] * devices,
    }
    return build(
        "gpu",
        ts,
        who,
        {
            "util_pct": rng.random(devices) * 100,
            "temp_c": rng.random(devices) * 90,
            "energy_j": rng.random(devices) * 1e9,
        },
    )


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["R1", "R2", "R10"]),
            st.integers(0, 2**40),
            st.integers(0, 99),
            st.sampled_from(["", "j", "job-22"]),
        ),
        min_size=1,
        max_size=12,
    )
)
@settings(max_examples=60, deadline=None)
def test_the_short_way_reads_what_the_long_way_reads(specs: list[tuple[str, int, int, str]]) -> None:
    decoder = Decoder()
    for rack, ts, seed, job in specs:
        data = encode(frame(rack, ts, seed, job=job))
        short, long = decoder.decode(data), Decoder().decode(data)
        assert short.batch.equals(long.batch)
        assert short.span() == (ts, ts)
        assert short.rows == long.rows
        assert short.metrics == 3
        assert encode(short) == data
        short.batch.validate(full=True)


@given(st.integers(0, 10_000), st.integers(0, 255), st.sampled_from(["change", "cut", "add"]))
@settings(max_examples=300, deadline=None)
def test_damage_is_judged_the_same_with_and_without_a_memory(at: int, byte: int, how: str) -> None:
    good = encode(frame("R1", 1_750_000_000_000, 1))
    decoder = Decoder()
    decoder.decode(good)
    decoder.decode(good)
    at %= len(good)
    bad = {
        "change": good[:at] + bytes([byte]) + good[at + 1 :],
        "cut": good[:at],
        "add": good[:at] + bytes([byte]) + good[at:],
    }[how]

    def verdict(reader: Decoder) -> object:
        try:
            return (
                reader.decode(bad).batch.serialize().to_pybytes()
            )  # no Python values: a time stamp may lie beyond the year 9999
        except InvalidFrame as err:
            return err.reason

    assert verdict(decoder) == verdict(Decoder())


def test_a_known_layout_with_strangers_in_it_is_parsed() -> None:
    decoder = Decoder()
    first, second = encode(frame("R1", 5, 1)), encode(frame("R2", 5, 1))
    assert len(first) == len(second)
    decoder.decode(first)
    assert decoder.decode(second).identity("rack") == ["R2"] * 6
    torn = bytearray(second)
    at = torn.index("R2-é0".encode()) + 3
    torn[at : at + 2] = b"\xff\xff"  # no UTF-8
    with pytest.raises(InvalidFrame) as caught:  # bad UTF-8 in an identity column must not pass for a known one
        decoder.decode(bytes(torn))
    assert caught.value.reason == "corrupt"


def test_a_stack_gives_each_metric_of_all_frames_in_order() -> None:
    decoder = Decoder()
    frames = [decoder.decode(encode(frame(rack, 1000 * k, k))) for k, rack in enumerate(["R1", "R2", "R1", "R3"])]
    other = frame("R1", 7, 9, devices=2)
    found = list(stacks([*frames, other]))
    assert [which for which, _ in found] == [[0, 1, 2, 3], [4]]
    stack = found[0][1]
    assert stack.rows == 24
    assert stack.names == ["util_pct", "temp_c", "energy_j"]
    for name in stack.names:
        assert np.array_equal(
            stack.column(name),
            np.concatenate([f.batch.column(f.batch.schema.get_field_index(name)).to_numpy() for f in frames]),
        )
    assert stack.ts_ms().tolist() == [1000 * k for k in range(4) for _ in range(6)]
    assert Stack([other]).column("temp_c").tolist() == other.values("temp_c").tolist()
