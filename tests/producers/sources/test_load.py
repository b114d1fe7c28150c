"""The load source: plant ticks repeated with new time stamps, counters that keep growing, messages of every size."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest

from producers.publish.encoder import TickEncoder
from producers.sources.load import DCGM_DEFAULT, LoadSource
from producers.sources.source import SourceError
from producers.sources.synthetic.source import Synthetic
from schemas.codec import Decoder
from schemas.frame import Frame
from tests.producers.sources.job_ledger import Ledger, rows

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


async def test_jobs_hold_its_gpus_as_in_the_plant_and_change_as_often_as_asked() -> None:
    ledger, source = Ledger(), LoadSource(150, made=1, ticks=20, speed=0.0, start_ms=START, job_changes=3.0)
    emitted = [e async for e in source.emissions()]
    ledger.read(emitted)
    gpus = source.devices["gpu"].identity["device"].to_pylist()
    assert set(ledger.open()) == set(gpus)
    assert len(gpus) == 150
    jobs = rows(emitted, "job")
    plant = rows(Synthetic(3, "GB200").frames(START), "job")
    assert [row["job"] for row in jobs[: len(plant)]] == [row["job"] for row in plant]
    assert len(jobs) - len(plant) == 3 * 19
    assert jobs[0]["gpus"] == 144
    assert jobs[1]["gpus"] == 150 - 144


def test_boards_are_those_of_the_plant_and_the_telemetry_does_not_depend_on_job_changes() -> None:
    calm, changing = (LoadSource(150, made=2, job_changes=rate) for rate in (0.0, 5.0))
    (frame, *_) = [e for e in Synthetic(3, "GB200").frames(START) if isinstance(e, Frame) and e.kind == "gpu"]
    assert calm.devices["gpu"].identity["board"][:72].to_pylist() == frame.identity("board")
    for tick in range(3):
        changing.job_events(START + 1000 * tick)
        for one, other in zip(calm.site_ticks(tick, START), changing.site_ticks(tick, START), strict=True):
            assert all(np.array_equal(one.values[n], other.values[n], equal_nan=True) for n in one.devices.metrics)


def test_wrong_options_are_named() -> None:
    with pytest.raises(SourceError, match="rack, pod or node"):
        LoadSource(10, per="hall")
    with pytest.raises(SourceError, match="at least one"):
        LoadSource(0)
