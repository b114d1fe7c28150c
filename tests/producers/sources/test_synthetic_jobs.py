"""The plant's scheduler: holds are disjoint, the load follows them, changes come at once and repeats in time."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest

from producers.emission import Emission, Event
from producers.sources.synthetic import faults
from producers.sources.synthetic.source import Synthetic
from schemas.codec import encode
from schemas.jobs import REPEAT_S
from tests.producers.sources.job_ledger import OPEN, Ledger, rows
from tests.producers.sources.test_synthetic import START, frames


def ticks(plant: Synthetic, seconds: range) -> list[list[Emission]]:
    return [list(plant.frames(START + 1000 * k)) for k in seconds]


def utilization(tick: Sequence[Emission]) -> dict[str, float]:
    return {
        device: value
        for f in frames(tick, "gpu")
        for device, value in zip(f.identity("device"), f.values("util_pct").tolist(), strict=True)
    }


@pytest.mark.parametrize(("racks", "changes"), [(12, 0.0), (10, 4.0), (1, 30.0)])
def test_holds_are_disjoint_at_any_time_and_equal_what_the_load_does(racks: int, changes: float) -> None:
    plant, ledger, met = Synthetic(racks, "H100", seed=6, job_changes=changes), Ledger(), Counter[str]()
    for second in range(0, 1200, 3 if not changes else 1):
        if changes and second > 90:
            break
        tick = list(plant.frames(START + 1000 * second))
        ledger.read(tick)
        held, busy = ledger.open(), utilization(tick)
        for device, util in busy.items():
            kind = held.get(device, "").split("-")[0]
            met[kind] += 1
            if kind in ("", "infer", "batch"):  # training pauses for checkpoints
                assert (util > 0) == (kind != ""), f"{device} of {kind!r} at {second} s: {util} %"
    assert {"", "train", "batch"} <= met.keys() if racks > 1 else {"train", "batch"} == met.keys()


def test_same_seed_same_jobs_and_events_other_seed_others() -> None:
    def events(seed: int) -> list[bytes]:
        plant = Synthetic(4, "H100", seed=seed, job_changes=3.0)
        return [e.derived.encode(e.batch) for t in ticks(plant, range(40)) for e in t if isinstance(e, Event)]

    assert events(3) == events(3) != events(4)


def test_the_telemetry_of_a_node_that_keeps_its_job_does_not_depend_on_the_changes_of_others() -> None:
    calm, changing = (Synthetic(4, "H100", seed=3, job_changes=rate) for rate in (0.0, 0.5))
    first, last = next(zip(ticks(calm, range(5)), ticks(changing, range(5)), strict=True))
    assert b"".join(encode(f) for f in frames(first, "gpu")) == b"".join(encode(f) for f in frames(last, "gpu"))


def test_the_rate_of_changes_is_the_one_asked_for_and_each_is_emitted_at_once() -> None:
    plant = Synthetic(6, "H100", seed=2, job_changes=2.0)
    begun = ticks(plant, range(1))[0]
    nodes = {row["node"] for row in rows(begun, "node_state")}
    assert len(nodes) == 6 * plant.topology.design["nodes"]
    for second, tick in enumerate(ticks(plant, range(1, 50)), 1):
        changed = rows(tick, "allocation")
        ended = [r for r in changed if r["ended"] != OPEN]
        assert len(rows(tick, "job")) == 2
        assert len(ended) <= 2
        assert all(r["seen"].timestamp() == START / 1000 + second for r in changed)
        assert all(r["ended"] == r["seen"] for r in ended)


def test_all_allocations_are_repeated_within_a_minute_of_event_time() -> None:
    for tick_s, step in ((1.0, 1), (7.0, 7)):
        plant, seen = Synthetic(2, "H100", tick_s=tick_s), list[int]()
        for second in range(0, 200, step):
            emitted = rows(plant.frames(START + 1000 * second), "allocation")
            if emitted:
                assert len(emitted) == 2 * plant.topology.design["nodes"]
                seen.append(second)
        assert max(b - a for a, b in itertools.pairwise(seen)) <= REPEAT_S
        assert len(seen) <= 200 / (REPEAT_S - tick_s) + 1


def test_ranks_go_by_rack_order_and_cover_the_job() -> None:
    (first,) = ticks(Synthetic(10, "H100"), range(1))
    allocations = rows(first, "allocation")
    sizes = {row["job"]: row["gpus"] for row in rows(first, "job")}
    assert sizes.keys() == {row["job"] for row in allocations}
    for job, gpus in sizes.items():
        mine = [row for row in allocations if row["job"] == job]
        ranks = [row["first_rank"] + k for row in mine for k in range(len(row["devices"]))]
        assert ranks == list(range(gpus))
        assert [row["node"] for row in mine] == sorted(row["node"] for row in mine)


def test_racks_that_infer_see_jobs_end_and_begin_every_few_minutes() -> None:
    """What the demo shows: rack 4 of four infers, stands idle for a moment, runs a batch job, infers again."""
    plant, jobs, ledger = Synthetic(4, "H100", seed=0), list[tuple[str, str]](), Ledger()
    last = 0
    for second in range(0, 1500, 5):
        tick = list(plant.frames(START + 1000 * second))
        ledger.read(tick)
        jobs += [(row["job"], row["state"]) for row in rows(tick, "job")]
        last = second if rows(tick, "job") else last
        assert second - last < 500
    assert jobs[:3] == [("train-001", "RUNNING"), ("train-002", "RUNNING"), ("infer-004", "RUNNING")]
    assert jobs[3:8] == [
        ("infer-004", "COMPLETED"),
        ("batch-000001", "RUNNING"),
        ("batch-000001", "COMPLETED"),
        ("infer-008", "RUNNING"),
        ("infer-008", "COMPLETED"),
    ]
    assert {job for device, job in ledger.open().items() if device < "R0003"} == {"train-001"}


def test_a_job_that_idles_keeps_its_gpus() -> None:
    plant, ledger = Synthetic(2, "H100", faults=[faults.parse("job-idle@R0001-N02:10+10")]), Ledger()
    seen = ticks(plant, range(30))
    for tick in seen:
        ledger.read(tick)
    gpus = [f"R0001-N02-GPU{slot}" for slot in range(8)]
    assert {ledger.open()[gpu] for gpu in gpus} == {"train-001"}
    assert all(not row["ended"] > OPEN for row in ledger.holds.values())
    mean = [np.mean([utilization(t)[gpu] for t in seen[a:b] for gpu in gpus]) for a, b in ((0, 10), (10, 20), (20, 30))]
    assert mean[1] == 0 < min(mean[0], mean[2])


def test_an_hour_of_changes_leaves_no_more_behind_than_a_minute() -> None:
    plant = Synthetic(2, "H100", seed=1, job_changes=5.0)
    plant.schedule.advance(START)
    sizes = list[int]()
    for second in range(1, 3601):
        plant.schedule.advance(START + 1000 * second)
        plant.schedule.changes()
        if second in (60, 3600):
            sizes.append(len(plant.schedule.jobs))
    assert 3 <= sizes[1] <= sizes[0] + 1
