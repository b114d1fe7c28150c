"""Windows equal a naive recomputation, whatever the batching, lateness, gaps and restarts."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.compute import derived_rows, stats
from pipeline.compute.derived_rows import ClosedPane
from pipeline.compute.engine import KindEngine
from pipeline.compute.timing import HORIZON_MS
from producers.sources.synthetic import faults
from producers.sources.synthetic.source import Synthetic
from schemas.catalogue import KINDS
from schemas.codec import encode_batch
from schemas.derived import PANE_S, ROLLUPS, WINDOW, WINDOWS
from schemas.frame import Frame, build
from schemas.metric import Formula, Metric

START = 1_750_000_000_000  # a multiple of 10 s
Sample = tuple[int, str, float, float, float]  # ts, device, util, power, energy


def frame(rows: Sequence[Sample], rack: str = "R1") -> Frame:
    who = {
        "site": ["s"] * len(rows),
        "rack": [rack] * len(rows),
        "device": [r[1] for r in rows],
        "model": ["H100"] * len(rows),
        "board": [""] * len(rows),
    }
    return build(
        "gpu",
        np.array([r[0] for r in rows]),
        who,
        {"util_pct": [r[2] for r in rows], "power_w": [r[3] for r in rows], "energy_j": [r[4] for r in rows]},
    )


def naive(samples: Sequence[Sample], end: int, width_s: int) -> dict[str, dict[str, float]]:
    """One window, computed the plain way from all samples; the first sample of a device in a tick counts."""
    seen: dict[tuple[str, int], Sample] = {}
    for s in samples:
        seen.setdefault((s[1], s[0] // 1000), s)
    inside: dict[str, list[Sample]] = defaultdict(list)
    for (device, tick), s in seen.items():
        if end - width_s * 1000 <= tick * 1000 < end:
            inside[device].append(s)
    out = {}
    for device, rows in inside.items():
        util, power = np.array([r[2] for r in rows]), np.array([r[3] for r in rows])
        fine = util[~np.isnan(util)]
        out[device] = {
            "samples": len(rows),
            "util_pct_mean": fine.mean() if len(fine) else math.nan,
            "util_pct_max": fine.max() if len(fine) else math.nan,
            "util_pct_p95": float(np.quantile(fine.astype(np.float32), 0.95)) if len(fine) else math.nan,
            "power_w_mean": power.mean(),
            "power_w_max": power.max(),
            "busy_fraction": (fine >= 10).mean() if len(fine) else math.nan,
        }
        # the counter: from the last value before the window (or the first ever) to the last value inside
        before = [s for (d, t), s in seen.items() if d == device and t * 1000 < end - width_s * 1000]
        first = max(before, key=lambda s: s[0]) if before else min(rows, key=lambda s: s[0])
        out[device]["energy_j"] = max(rows, key=lambda s: s[0])[4] - first[4]
    return out


def windows(closed: Sequence[ClosedPane]) -> dict[tuple[int, int, str], dict[str, Any]]:
    rows = [r for c in closed if "window" in c.batches for r in c.batches["window"].to_pylist()]
    return {(int(r["ts"].timestamp() * 1000), r["window_s"], r["device"]): r for r in rows}


@st.composite
def streams(draw: st.DrawFn) -> list[Sample]:
    """Up to two minutes of three devices with gaps, missing values, and rows up to 2 s late."""
    seconds = draw(st.integers(15, 140))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    rows: list[tuple[float, Sample]] = []
    for n in range(3):
        energy = float(rng.integers(0, 10_000))
        for second in range(seconds):
            energy += float(rng.integers(1, 800))
            if rng.random() < 0.12:
                continue
            util = math.nan if rng.random() < 0.05 else float(rng.integers(0, 101))
            ts = START + second * 1000 + int(rng.integers(0, 400))
            rows.append((ts + int(rng.integers(0, 2000)), (ts, f"g{n}", util, float(rng.integers(50, 700)), energy)))
    return [sample for _, sample in sorted(rows, key=lambda r: r[0])]


@given(streams(), st.lists(st.integers(1, 7), min_size=1, max_size=20))
@settings(max_examples=25, deadline=None)
def test_windows_equal_a_naive_recomputation(samples: list[Sample], cuts: list[int]) -> None:
    engine, at, closed = KindEngine("gpu"), 0, []
    for k in range(10_000):
        size = cuts[k % len(cuts)]
        if at >= len(samples):
            break
        closed += engine.add([frame(samples[at : at + size])])
        at += size
    closed += engine.flush()
    assert engine.counts["late"] == 0
    found = windows(closed)
    ends = {(end, width) for end, width, _ in found}
    assert ends
    for end, width in ends:
        expected = naive(samples, end, width)
        assert {d for e, w, d in found if (e, w) == (end, width)} == set(expected)
        for device, row in expected.items():
            got = found[end, width, device]
            for name, value in row.items():
                assert got[name] == pytest.approx(value, rel=1e-5, nan_ok=True), (end, width, device, name)


def test_every_hop_has_its_window() -> None:
    engine = KindEngine("gpu")
    closed = [c for k in range(400) for c in engine.add([frame([(START + 1000 * k, "g", 50.0, 300.0, 300.0 * k)])])]
    found = windows(closed)
    for width, hop in WINDOWS:
        ends = sorted(end for end, w, _ in found if w == width)
        assert {b - a for a, b in itertools.pairwise(ends)} == {hop * 1000}
        full = [found[end, width, "g"] for end in ends if end - width * 1000 >= START]
        assert {r["samples"] for r in full} == {width}
        assert {round(r["energy_j"]) for r in full if r["ts"].timestamp() * 1000 > START + width * 1000} == {
            300 * width
        }


def plant_frames(racks: int = 2, ticks: int = 200, **more: Any) -> list[Frame]:
    plant = Synthetic(racks, "H100", seed=5, **more)
    return [e for k in range(ticks) for e in plant.frames(START + 1000 * k) if isinstance(e, Frame) and e.kind == "gpu"]


def as_bytes(closed: Sequence[ClosedPane]) -> dict[tuple[int, str], bytes]:
    return {(c.end_ms, name): encode_batch(batch) for c in closed for name, batch in c.batches.items()}


def test_batching_changes_nothing_to_the_last_bit() -> None:
    frames = plant_frames(faults=[faults.parse("gpu-thermal:80"), faults.parse("gpu-dead@R0002-N02-GPU3:120")])
    reference = as_bytes(KindEngine("gpu").add(frames))
    assert {name for _, name in reference} >= {"rollup_gpu", "window", "part", "score", "incident"}
    for size in (1, 3, 64):
        engine = KindEngine("gpu")
        assert (
            as_bytes([c for at in range(0, len(frames), size) for c in engine.add(frames[at : at + size])]) == reference
        )


def test_a_worker_that_starts_later_gives_the_same_windows() -> None:
    """From the offset that a crashed worker had left, everything it publishes is what the first would have
    published.
    """
    frames = plant_frames(1, 700)
    whole = as_bytes(KindEngine("gpu").add(frames))
    start = 120
    late = KindEngine("gpu")
    late.emit_from_ms = START + start * 1000 + HORIZON_MS
    again = as_bytes(late.add(frames[start:]))
    assert again
    warm = {key: value for key, value in whole.items() if key[0] - PANE_S * 1000 >= late.emit_from_ms}
    windowed = {k: v for k, v in warm.items() if k[1] in ("window", "part", "score", "rollup_gpu")}
    assert {k: v for k, v in again.items() if k[1] != "incident"} == windowed


def test_late_rows_are_counted_and_left_out() -> None:
    engine = KindEngine("gpu")
    frames = [frame([(START + 1000 * k, "g", 50.0, 300.0, 1.0 * k)]) for k in range(30)]
    before = windows(engine.add(frames))
    engine.add([frame([(START + 2000, "g", 0.0, 0.0, 0.0)])])
    assert engine.counts["late"] == 1
    assert before[START + 10_000, 10, "g"]["power_w_mean"] == 300.0


def test_doubled_frames_count_once() -> None:
    once, twice = KindEngine("gpu"), KindEngine("gpu")
    frames = plant_frames(1, 40)
    doubled = as_bytes(twice.add([f for f in frames for _ in range(2)]))
    assert {k: v for k, v in doubled.items() if k[1] != "quality"} == as_bytes(once.add(frames))
    assert twice.counts["duplicate"] == sum(f.rows for f in frames)


def test_a_counter_reset_is_not_a_negative_energy() -> None:
    engine = KindEngine("gpu")
    energy = [*range(1000, 1000 + 100 * 25, 100), *range(0, 100 * 25, 100)]
    closed = engine.add([frame([(START + 1000 * k, "g", 50.0, 100.0, float(energy[k]))]) for k in range(50)])
    incs = [r["energy_j_inc"] for c in closed if "rollup_gpu" in c.batches for r in c.batches["rollup_gpu"].to_pylist()]
    assert incs[:4] == [900.0, 1000.0, 500.0 + 400.0, 1000.0], "what it counted before it started again is kept"


def test_a_counter_grows_over_resets_gaps_and_from_what_it_was_before() -> None:
    nan = np.nan
    samples = np.array([[5.0, nan, 3.0, nan], [nan, 7.0, 1.0, nan], [6.0, 9.0, 30.0, nan]])
    grown, latest, reset = stats.increase(samples, np.array([4.0, nan, 2.0, 8.0]))
    assert np.array_equal(grown, [2.0, 2.0, 1.0 + 30.0, nan], equal_nan=True)
    assert latest.tolist() == [6.0, 9.0, 30.0, 8.0]
    assert reset.tolist() == [False, False, True, False], "also when it has grown past its old value since"


def test_a_long_silence_is_skipped_not_computed() -> None:
    engine = KindEngine("gpu")
    engine.add(plant_frames(1, 40))
    closed = engine.add([frame([(START + 86_400_000 * 30 + 1000 * k, "g", 1.0, 1.0, 1.0)]) for k in range(20)])
    assert len(closed) < 80


def test_devices_that_join_later_do_not_disturb_the_others() -> None:
    alone, joined = KindEngine("gpu"), KindEngine("gpu")
    frames = plant_frames(2, 60)
    first = [f for f in frames if f.identity("rack")[0] == "R0001"]
    late = [f for f in frames if f.identity("rack")[0] == "R0001" or int(f.ts_ms()[0]) > START + 25_000]
    a, b = windows(alone.add(first)), windows(joined.add(late))
    assert {k: {n: v for n, v in r.items() if v == v} for k, r in a.items()} == {
        k: {n: v for n, v in b[k].items() if v == v} for k in a
    }


@pytest.mark.parametrize("kind", KINDS)
def test_every_windowed_metric_of_a_kind_is_in_its_windows(kind: str) -> None:
    metrics = KINDS[kind].stored
    identity = {"site": ["s"], "rack": ["R"], "device": ["d"]}
    engine, closed = KindEngine(kind), []
    for k in range(14):
        values = {m.name: [max(m.lo, 0.0) + (k if m.kind == "counter" else 0.5)] for m in metrics}
        closed += engine.add([build(kind, START + 1000 * k, identity, values)])
    row = windows(closed)[START + 10_000, 10, "d"]
    for metric in KINDS[kind].metrics:
        for column in metric.windows:
            assert not math.isnan(row[column]), column


def test_a_new_derived_or_windowed_metric_is_in_windows_and_roll_ups(monkeypatch: pytest.MonkeyPatch) -> None:
    per_util = Formula(("power_w", "util_pct"), lambda power, util: power / util, "power_w / util_pct")
    more = (
        Metric("w_per_util", "W", "Power by utilization.", "derived", windowed=True, formula=per_util),
        Metric("link_errors", "count", "Errors of links.", "gauge", windowed=True),
        Metric("packets_total", "count", "Packets.", "counter", "float64", windowed=True),
    )
    gpu = replace(KINDS["gpu"], metrics=(*KINDS["gpu"].metrics, *more))
    monkeypatch.setitem(KINDS, "gpu", gpu)
    columns = tuple((name, pa.float64()) for m in more for name in m.windows)
    monkeypatch.setattr(derived_rows, "WINDOW", replace(WINDOW, columns=(*WINDOW.columns, *columns)))
    monkeypatch.setattr(derived_rows, "WINDOW_COUNTERS", ("energy_j", "packets_total"))
    rolled = tuple((f"{m.name}_{s}", pa.float64()) for m in more for s in m.rolled)
    rollup = replace(ROLLUPS["gpu"], columns=(*ROLLUPS["gpu"].columns, *rolled))
    monkeypatch.setitem(ROLLUPS, "gpu", rollup)
    engine, closed = KindEngine("gpu"), []
    for k in range(24):
        values = {"power_w": [300.0 + k], "util_pct": [50.0], "link_errors": [float(k)], "packets_total": [10.0 * k]}
        identity = {"site": ["s"], "rack": ["R"], "device": ["d"]}
        closed += engine.add([build("gpu", START + 1000 * k, identity, values)])
    row = windows(closed)[START + 20_000, 10, "d"]
    assert row["w_per_util_mean"] == pytest.approx(np.mean([(300.0 + k) / 50 for k in range(10, 20)]))
    assert (row["w_per_util_max"], row["link_errors_max"]) == (pytest.approx(319 / 50), 19.0)
    assert (row["link_errors_mean"], row["packets_total"]) == (14.5, 100.0)
    (_, last) = [c.batches["rollup_gpu"].to_pylist()[0] for c in closed]
    assert (last["w_per_util_max"], last["packets_total_inc"]) == (pytest.approx(319 / 50), 100.0)
