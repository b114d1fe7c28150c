"""Job windows against a plain recomputation, sample by sample: splits, late news, shares, idle and silent GPUs."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.compute.allocations import STALE_MS
from pipeline.compute.context import Context
from pipeline.compute.derived_rows import ClosedPane
from pipeline.compute.engine import KindEngine
from schemas.codec import Decoder, encode
from schemas.frame import Frame, build
from schemas.jobs import ALLOCATION

START = 1_750_000_020_000  # a full minute
GPUS = [("R1", f"n{n}", f"n{n}-GPU{i}") for n in (1, 2) for i in (0, 1)] + [("R2", "n3", "n3-GPU0")]
SECONDS = 180


def util(device: int, second: int) -> float:
    return float((device * 37 + second * 7) % 101)


def energy(device: int, second: int) -> float:
    return 1e9 + (100.0 + 10 * device) * second + (second % 3)


def frame(second: int, gpus: Sequence[int] = range(len(GPUS))) -> Frame:
    rack, node, device = (list(column) for column in zip(*(GPUS[g] for g in gpus), strict=True))
    identity = {
        "site": ["s"] * len(rack),
        "rack": rack,
        "node": node,
        "device": device,
        "model": ["H100"] * len(rack),
        "board": [f"GPU-{g}" for g in gpus],
    }
    values = {
        "util_pct": [util(g, second) for g in gpus],
        "power_w": [100.0 + 10 * g for g in gpus],
        "energy_j": [energy(g, second) for g in gpus],
    }
    return Decoder().decode(encode(build("gpu", START + 1000 * second, identity, values)))


def hold(job: str, gpus: Sequence[int], first: int, last: int = 0, **more: Any) -> dict[str, Any]:
    """A hold on devices of one node, in seconds after START; `last` 0 while it lasts."""
    return {
        "seen": START + 1000 * max(first, last),
        "site": "s",
        "scheduler": "slurm",
        "job": job,
        "rack": "",
        "node": GPUS[gpus[0]][1],
        "devices": [GPUS[g][2] for g in gpus],
        "share": 1.0,
        "first_rank": 0,
        "started": START + 1000 * first,
        "ended": START + 1000 * last if last else 0,
    } | more


def apply(context: Context, *holds: dict[str, Any]) -> None:
    assert [*context.apply(ALLOCATION, ALLOCATION.build_rows(holds))] == []


def last_rows(panes: Sequence[ClosedPane]) -> dict[tuple[int, str, str], dict[str, Any]]:
    """(minute, job, rack) -> the row that counts: the last one."""
    out = {}
    for pane in panes:
        for row in pane.batches["job_window"].to_pylist() if "job_window" in pane.batches else []:
            out[(int(row["ts"].timestamp() * 1000) - START) // 60_000, row["job"], row["rack"]] = row
    return out


def naive(holds: Sequence[dict[str, Any]]) -> dict[tuple[int, str, str], dict[str, float]]:
    """The same from single samples: each second of each device belongs to the jobs that hold it."""
    seconds: dict[tuple[int, str, str], list[tuple[float, float, float]]] = defaultdict(list)
    numbers = {name: g for g, (_, _, name) in enumerate(GPUS)}
    for h in holds:
        for name in h["devices"]:
            g = numbers[name]
            for second in range(SECONDS):
                at = START + 1000 * second
                if h["started"] <= at and (not h["ended"] or at < h["ended"]):
                    grown = energy(g, second) - energy(g, second - 1) if second else 0.0
                    key = second // 60 + 1, h["job"], GPUS[g][0]
                    seconds[key].append((util(g, second), grown * h["share"], h["share"]))
    return {
        key: {
            "util_pct_mean": sum(u * s for u, _, s in found) / sum(s for _, _, s in found),
            "energy_j": sum(e for _, e, _ in found),
            "gpus": sum(s for _, _, s in found) / 60,
        }
        for key, found in seconds.items()
    }


def check(panes: Sequence[ClosedPane], holds: Sequence[dict[str, Any]], minutes: Sequence[int] = (1, 2)) -> None:
    expected = {key: row for key, row in naive(holds).items() if key[0] in minutes}
    found = {key: row for key, row in last_rows(panes).items() if key[0] in minutes and row["gpus"] > 0}
    assert found.keys() == expected.keys()
    for key, row in expected.items():
        for name, value in row.items():
            assert found[key][name] == pytest.approx(value, rel=1e-4, abs=1e-3), (key, name)


@st.composite
def many_holds(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Each device goes from job to job, with gaps or without."""
    out = []
    for g in range(len(GPUS)):
        times = sorted(draw(st.sets(st.integers(1, SECONDS - 1), min_size=2, max_size=6)))
        for k, (first, last) in enumerate(pairwise(times)):
            if draw(st.booleans()):
                out.append(hold(f"job-{(g + k) % 3}", [g], first, last, node=GPUS[g][2]))
    return out


@given(many_holds())
@settings(max_examples=25, deadline=None)
def test_job_windows_equal_a_plain_recomputation_second_by_second(holds: list[dict[str, Any]]) -> None:
    context = Context()
    engine = KindEngine("gpu", context=context)
    panes = []
    for second in range(SECONDS):
        due = [h | {"ended": 0, "seen": h["started"]} for h in holds if h["started"] == START + 1000 * second]
        due += [h for h in holds if h["ended"] == START + 1000 * second]
        if due:
            apply(context, *due)
        panes += engine.add([frame(second)])
    check(panes + engine.flush(), holds)


@pytest.mark.parametrize("late_s", [5, 45, 100])
def test_late_news_makes_the_windows_of_its_job_again(late_s: int) -> None:
    context = Context()
    engine = KindEngine("gpu", context=context)
    apply(context, hold("old", [0, 1], 0))
    panes = []
    for second in range(SECONDS):
        if second == 57 + late_s:  # what happened at 57 s comes late
            apply(context, hold("old", [0, 1], 0, 57), hold("new", [0, 1], 57))
        panes += engine.add([frame(second)])
    truth = [hold("old", [0, 1], 0, 57), hold("new", [0, 1], 57)]
    found = last_rows(panes)
    assert found[1, "old", "R1"]["gpus"] == pytest.approx(1.9)
    assert found[1, "new", "R1"]["gpus"] == pytest.approx(0.1)
    assert found[2, "new", "R1"]["gpus"] == 2
    assert (2, "old", "R1") not in found or found[2, "old", "R1"]["gpus"] == 0, "what was published is taken back"
    if late_s < 10:  # single samples of the pane are still there: exact
        check(panes, truth)


def test_a_shared_gpu_divides_its_energy_and_not_its_utilization() -> None:
    context = Context()
    engine = KindEngine("gpu", context=context)
    apply(context, *(hold(f"serve-{n}", [4], 0, share=0.25) for n in range(4)))
    found = last_rows(engine.add([frame(s) for s in range(SECONDS)]))
    rows = [found[2, f"serve-{n}", "R2"] for n in range(4)]
    whole = energy(4, 119) - energy(4, 59)
    assert [r["energy_j"] for r in rows] == [pytest.approx(whole / 4)] * 4
    assert [r["util_pct_mean"] for r in rows] == [pytest.approx(np.mean([util(4, s) for s in range(60, 120)]))] * 4
    assert sum(r["gpus"] for r in rows) == 1


def test_what_is_held_and_not_heard_or_idle_shows() -> None:
    context = Context()
    engine = KindEngine("gpu", context=context)
    apply(context, hold("job", [0, 1], 0), hold("job", [2, 3], 0, devices=[]))
    frames = [frame(s) if s < 60 else frame(s, [0, 2]) for s in range(SECONDS)]
    row = last_rows(engine.add(frames))[2, "job", "R1"]
    assert (row["gpus"], row["heard"], row["idle"]) == (4, 2, 0)


def test_an_idle_gpu_of_a_job_is_counted_and_named() -> None:
    context = Context()
    engine = KindEngine("gpu", context=context)
    apply(context, hold("job", [0, 1], 0))
    frames = []
    for second in range(SECONDS):
        made = frame(second, [0, 1])
        identity = {n: made.batch.column(n) for n in ("site", "rack", "node", "device", "model", "board")}
        frames.append(build("gpu", START + 1000 * second, identity, {"util_pct": [97.0, 0.0]}))
    row = last_rows(engine.add(frames))[2, "job", "R1"]
    assert (row["heard"], row["idle"], row["slowest"], row["slowest_util_pct"]) == (2, 1, "n1-GPU1", 0)
    assert math.isnan(row["energy_j"])


def test_a_hold_that_is_not_repeated_is_over() -> None:
    context = Context()
    engine = KindEngine("gpu", context=context)
    apply(context, hold("job", [0], 0))
    found = last_rows(engine.add([frame(s) for s in range(STALE_MS // 1000 + 130)]))
    assert max(minute for minute, _, _ in found) == STALE_MS // 60_000


def test_a_board_is_held_by_its_uuid_and_a_mig_instance_counts_as_its_board() -> None:
    context = Context()
    engine = KindEngine("gpu", context=context)
    by_uuid, by_instance = hold("pod", [0], 0, devices=["GPU-0"]), hold("mig", [1], 0, devices=["n1-GPU1-MIG7"])
    apply(context, by_uuid, by_instance)
    found = last_rows(engine.add([frame(s) for s in range(80)]))
    assert {key for key, row in found.items() if row["gpus"] == 1} == {(1, "pod", "R1"), (1, "mig", "R1")}


def test_changes_of_jobs_grow_neither_devices_nor_holds_without_bound() -> None:
    context = Context()
    engine = KindEngine("gpu", context=context)
    apply(context, hold("first", [0, 1], 0))
    engine.add([frame(s) for s in range(20)])
    for change in range(30_000):
        apply(context, hold(f"job-{change}", [0, 1], 20 + change, 21 + change))
    engine.add([frame(30_020)])
    assert len(engine.devices) == len(GPUS)
    assert len(context.allocations) < 10_000
    assert len(context.allocations.jobs) < 10_000
