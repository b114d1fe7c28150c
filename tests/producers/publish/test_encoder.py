"""The encoder: what is encoded once and filled in place is, byte for byte, what encoding it as a whole gives."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from producers.emission import DeviceList, SiteTick
from producers.publish.encoder import TickEncoder
from schemas.codec import Decoder
from schemas.frame import build
from schemas.identity import IDENTITY
from tests.producers.publish.fakes import START, device_list


@given(
    st.integers(1, 5),
    st.integers(1, 9),
    st.lists(st.sampled_from(["", "a", "GPU-7"]), min_size=1, max_size=3),
    st.booleans(),
    st.integers(0, 2**32),
)
@settings(max_examples=40, deadline=None)
def test_an_encoded_message_is_the_frame_that_encoding_it_alone_gives(
    racks: int, each: int, boards: list[str], own_stamps: bool, seed: int
) -> None:
    devices, rng = device_list(racks, each, boards), np.random.default_rng(seed)
    encoder = TickEncoder(devices)
    for tick in range(2):  # the second one is written over the first
        values = {n: rng.integers(0, 90, devices.rows).astype(np.float64) for n in devices.metrics}
        values["temp_c"][rng.random(devices.rows) < 0.2] = np.nan
        stamps = START + tick + (rng.integers(0, 9, devices.rows) if own_stamps else np.zeros(devices.rows, np.int64))
        site_tick = SiteTick(devices, stamps if own_stamps else START + tick, values)
        messages = encoder.encode(site_tick, Counter())
        for message, frame, begin in zip(messages, site_tick.frames(), devices.cuts, strict=False):
            rows = slice(begin, begin + each)
            plain = build(
                "gpu",
                stamps[rows],
                {n: devices.identity[n][rows] for n in IDENTITY},
                {n: v[rows] for n, v in values.items()},
            )
            found = Decoder().decode(message).batch
            assert found.schema.equals(plain.batch.schema)
            assert repr(found.to_pydict()) == repr(plain.batch.to_pydict()) == repr(frame.batch.to_pydict())
            assert Decoder().decode(message).key() == plain.key()


def test_messages_without_a_plain_layout_are_encoded_too() -> None:
    """A device without a name has no bytes by which a layout could be recognised."""
    identity = {n: pa.array(["s", "s"] if n == "site" else ["", ""], pa.string()) for n in IDENTITY}
    devices = DeviceList("gpu", identity, np.array([0, 1, 2]), ("temp_c",))
    encoder = TickEncoder(devices)
    for tick in range(2):
        values = {"temp_c": np.array([40.0 + tick, 50.0 + tick])}
        sent = [Decoder().decode(m) for m in encoder.encode(SiteTick(devices, START + tick, values), Counter())]
        assert [(f.span()[0], f.values("temp_c").tolist()) for f in sent] == [
            (START + tick, [40.0 + tick]),
            (START + tick, [50.0 + tick]),
        ]


def test_invalid_values_are_counted_and_never_leave() -> None:
    devices, counts = device_list(2, 3, ["j"]), Counter[tuple[str, str]]()
    values = {"util_pct": np.full(6, 50.0), "temp_c": np.array([40, 900.0, 41, 42, 43, 44]), "energy_j": np.ones(6)}
    messages = TickEncoder(devices).encode(SiteTick(devices, START, values), counts)
    sent = [Decoder().decode(m).values("temp_c").tolist() for m in messages]
    assert counts == {("temp_c", "range"): 1}
    assert [len(s) for s in sent] == [3, 3]
    assert np.isnan(sent[0][1])
