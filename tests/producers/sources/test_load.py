"""The load source: plant ticks repeated with new time stamps, counters that keep growing, messages of every size."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest

from producers.publish.encoder import TickEncoder
from producers.sources.load import DCGM_DEFAULT, LoadSource
from producers.sources.source import SourceError
from schemas.codec import Decoder
from schemas.frame import Frame

START = 1_750_000_000_000


def test_ticks_are_repeated_with_new_stamps_and_counters_keep_growing() -> None:
    source = LoadSource(150, made=3)
    encoder, energies, stamps = TickEncoder(source.devices["gpu"]), [], []
    for tick in range(7):
        gpu = next(t for t in source.site_ticks(tick, START + 1000 * tick) if t.devices.kind == "gpu")
        assert gpu.devices.rows == 150
        assert gpu.devices.metrics == DCGM_DEFAULT
        energies.append(gpu.values["energy_j"].copy())
        stamps.append(Decoder().decode(encoder.encode(gpu, Counter())[0]).span()[0])
    assert stamps == [START + 1000 * k for k in range(7)]
    assert all((b >= a).all() for a, b in itertools.pairwise(energies)), "a counter never goes back"
    assert [t.devices.kind for t in source.site_ticks(0, START)] == ["gpu", "power", "cooling", "cooling"]


async def test_trays_send_loose_frames_of_their_own() -> None:
    source = LoadSource(20, per="node", made=1, ticks=1, speed=0.0, start_ms=START)
    frames = [e async for e in source.emissions() if isinstance(e, Frame)]
    assert [f.rows for f in frames] == [8, 8, 4]


@pytest.mark.parametrize(("per", "rows"), [("node", 8), ("rack", 72), ("pod", 1152)])
def test_messages_are_cut_by_node_rack_or_pod(per: str, rows: int) -> None:
    assert np.diff(LoadSource(2400, per=per, made=1).devices["gpu"].cuts).max() == rows


def test_wrong_options_are_named() -> None:
    with pytest.raises(SourceError, match="rack, pod or node"):
        LoadSource(10, per="hall")
    with pytest.raises(SourceError, match="at least one"):
        LoadSource(0)
