"""Scores, incidents, physics and the site: what is flagged, what is not, and why."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.compute import physics, scores, stats
from pipeline.compute.context import Context
from pipeline.compute.engine import KindEngine
from pipeline.compute.groups import Groups
from pipeline.compute.incidents import Incidents, Judgement
from pipeline.compute.site import SiteEngine
from producers.emission import Event
from producers.sources.synthetic import faults
from producers.sources.synthetic.source import Synthetic
from schemas.derived import PART
from schemas.frame import Frame
from schemas.kinds.cooling import coolant_heat_w

START = 1_750_000_000_000


@given(
    hnp.arrays(
        np.float64,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=30),
        elements=st.floats(-1e3, 1e3) | st.just(math.nan),
    ),
    st.sampled_from([0.5, 0.95]),
)
@settings(max_examples=80, deadline=None)
def test_quantiles_are_numpys(samples: Any, q: float) -> None:
    with np.errstate(all="ignore"):
        expected = np.array([np.quantile(c[~np.isnan(c)], q) if (~np.isnan(c)).any() else np.nan for c in samples.T])
    assert stats.quantile(samples, q) == pytest.approx(expected, nan_ok=True, abs=1e-9)


@given(st.lists(st.tuples(st.integers(0, 4), st.floats(-1e3, 1e3) | st.just(math.nan)), max_size=60))
@settings(max_examples=80, deadline=None)
def test_group_medians_are_numpys(pairs: list[tuple[int, float]]) -> None:
    group, values = np.array([g for g, _ in pairs], np.int64), np.array([v for _, v in pairs])
    found, count = Groups(group, 5).median(values)
    for g in range(5):
        mine = [v for k, v in pairs if k == g and not math.isnan(v)]
        assert count[g] == len(mine)
        assert found[g] == pytest.approx(np.median(mine) if mine else math.nan, nan_ok=True)


def test_evidence_grows_from_nothing_to_certainty() -> None:
    assert scores.evidence(np.array([-50.0, 0.0, 3.5, math.nan])).tolist() == [0, 0, 0, 0]
    rising = scores.evidence(np.array([4.0, 6.0, 8.0, 10.0, 20.0]))
    assert (np.diff(rising) > 0).all()
    assert rising[-1] > 0.999


def test_a_job_that_changes_phase_flags_nobody() -> None:
    """Every GPU leaves its own past at once; none leaves its peers."""
    assert scores.combine(np.array([50.0]), np.array([0.5]))[0] == 0


def test_a_device_without_peers_is_judged_by_its_past() -> None:
    assert scores.combine(np.array([50.0]), np.array([math.nan]))[0] > 0.99


def detect(
    ticks: int, *specs: str, racks: int = 4, model: str = "GB200"
) -> dict[tuple[str, str], list[tuple[int, float, str]]]:
    """(kind, device) -> [(seconds after the start, score, cause)] as published, all kinds in one partition, and the
    site.
    """
    plant = Synthetic(racks, model, seed=3, faults=[faults.parse(s) for s in specs])
    context = Context()
    engines = {k: KindEngine(k, context=context) for k in ("gpu", "node", "power", "cooling")}
    site, out = SiteEngine(), defaultdict(list)
    for k in range(ticks):
        frames = []
        for emission in plant.frames(START + 1000 * k):
            if isinstance(emission, Frame):
                frames.append(emission)
            elif isinstance(emission, Event):
                assert [*context.apply(emission.derived, emission.batch)] == []
        for kind, engine in engines.items():
            for closed in engine.add([f for f in frames if f.kind == kind]):
                batches = [closed.batches.get("score")]
                if "part" in closed.batches:
                    batches.append(site.add(closed.batches["part"]).get("score"))
                for batch in batches:
                    for row in batch.to_pylist() if batch is not None else []:
                        out[row["kind"], row["device"]].append((k, row["score"], row["cause"]))
    return out


def test_a_healthy_plant_opens_nothing() -> None:
    found = detect(300)
    worst = max((s for rows in found.values() for _, s, _ in rows), default=0.0)
    assert worst < 0.6, {k: v for k, v in found.items() if max(s for _, s, _ in v) >= 0.6}


@pytest.mark.parametrize(
    ("spec", "kind", "device", "causes", "within_s"),
    [
        ("gpu-thermal@R0002-N03-GPU2:130", "gpu", "R0002-N03-GPU2", {"temp_c", "mem_temp_c"}, 30),
        ("gpu-throttle@R0001-N05-GPU1:130", "gpu", "R0001-N05-GPU1", {"sm_clock_mhz"}, 30),
        (
            "gpu-straggler@R0003-N02-GPU0:130",
            "gpu",
            "R0003-N02-GPU0",
            {"power_w", "sm_active", "tensor_active", "util_pct"},
            30,
        ),
        ("gpu-dead@R0002-N01-GPU3:130", "gpu", "R0002-N01-GPU3", {"silent", "xid", "power_w"}, 30),
        ("gpu-frozen@R0002-N01-GPU3:130", "gpu", "R0002-N01-GPU3", {"frozen"}, 30),
        ("coolant-flow@R0003:130", "cooling", "R0003", {"flow_lpm"}, 30),
        ("cdu-pump@CDU-001:130", "cooling", "CDU-001", {"flow_lpm", "pump_speed_pct", "diff_pressure_kpa"}, 30),
        ("leak@R0001:130", "cooling", "R0001", {"leak"}, 30),
        ("psu-loss@R0002:130", "power", "R0002-SHELF0", {"psu_failed"}, 30),
        ("lying-sensor@R0002:130", "cooling", "R0002", {"heat_balance", "return_temp_c"}, 90),
    ],
)
def test_each_fault_is_found_and_named(spec: str, kind: str, device: str, causes: set[str], within_s: int) -> None:
    found = detect(130 + within_s, spec)
    before = [s for t, s, _ in found[kind, device] if t < 130]
    hits = [(t, s, c) for t, s, c in found[kind, device] if t >= 130 and s >= 0.4]
    assert max(before, default=0.0) < 0.4
    assert hits, found[kind, device]
    assert hits[-1][2] in causes
    last = max(t for rows in found.values() for t, _, _ in rows)
    rivals = {k: max((s for t, s, _ in rows if t > last - 12), default=0.0) for k, rows in found.items()}
    same_kind = {k: s for k, s in rivals.items() if k[0] == kind and k != (kind, device) and kind == "gpu"}
    assert max(same_kind.values(), default=0.0) < max(s for _, s, _ in hits)


IDENTITY = {"site": "s", "rack": "R", "node": "", "device": "d", "model": "m", "board": ""}


def feed(tracker: Incidents, values: list[float], start: int = 0) -> list[dict[str, Any]]:
    return [
        row
        for k, v in enumerate(values)
        for row in tracker.update((start + k + 1) * 10_000, [Judgement(dict(IDENTITY), v, "temp_c")] if v else [])
    ]


def test_an_incident_opens_after_two_panes_and_closes_after_six() -> None:
    rows = feed(Incidents("gpu", 10_000), [0.9, 0.9, 0.9, *[0.0] * 6, 0.0])
    assert [(r["open"], r["updated"]) for r in rows] == [(1, 20_000), (0, 90_000)]
    assert rows[0]["opened"] == 10_000
    assert rows[0]["incident"] == rows[1]["incident"] == "gpu/s/d/10000"


def test_one_bad_pane_is_no_incident() -> None:
    assert feed(Incidents("gpu", 10_000), [0.9, 0.0, 0.9, 0.0]) == []


def test_news_is_published_and_repetition_is_not() -> None:
    rows = feed(Incidents("gpu", 10_000), [0.7, 0.7, 0.71, 0.95, 0.95, 0.95])
    assert [round(r["peak"], 2) for r in rows] == [0.7, 0.95]


def test_a_restart_keeps_the_incident_it_had() -> None:
    first = Incidents("gpu", 10_000)
    opened = feed(first, [0.9, 0.9])
    second = Incidents("gpu", 10_000)
    second.restore(opened)
    second.adopt(lambda key: key if key == ("s", "R", "d") else None)
    assert feed(second, [0.9, 0.9]) == [], "what was published before is not published again"
    closing = feed(second, [0.0] * 6, start=2)
    assert [(r["incident"], r["open"]) for r in closing] == [(opened[0]["incident"], 0)]


def test_an_open_incident_of_someone_elses_device_is_left_alone() -> None:
    other = Incidents("gpu", 10_000)
    other.restore(feed(Incidents("gpu", 10_000), [0.9, 0.9]))
    other.adopt(lambda key: key if key == ("s", "R", "another") else None)
    assert [row for k in range(20) for row in other.update(10_000 * (k + 3), [])] == []
    assert len(other) == 0


def test_physics() -> None:
    heat = coolant_heat_w(np.array([50.8]), np.array([32.0]), np.array([42.1]))
    assert heat[0] == pytest.approx(33_351, rel=1e-3)  # NVIDIA's trace, rack 02: 33.4 kW
    assert physics.heat_balance(np.array([33_400.0]), np.array([35_200.0]))[0] == pytest.approx(0.95, abs=0.002)
    assert math.isnan(physics.heat_balance(np.array([10.0]), np.array([96.0]))[0])
    assert physics.pue(1.15e6, 1e6) == 1.15
    assert math.isnan(physics.pue(math.nan, 1e6))


def parts_of(ticks: int = 80) -> list[dict[str, Any]]:
    plant = Synthetic(3, "H100", seed=1)
    rows: list[dict[str, Any]] = []
    engines = {k: KindEngine(k) for k in ("gpu", "node", "power", "cooling")}
    for k in range(ticks):
        frames = [e for e in plant.frames(START + 1000 * k) if isinstance(e, Frame)]
        for kind, engine in engines.items():
            for closed in engine.add([f for f in frames if f.kind == kind]):
                rows += [{**r, "ts": int(r["ts"].timestamp() * 1000)} for r in closed.batches["part"].to_pylist()]
    return rows


def final(engine: SiteEngine, groups: list[list[dict[str, Any]]], name: str) -> dict[tuple[Any, ...], dict[str, Any]]:
    """The last row of every key, as the store keeps it."""
    out: dict[tuple[Any, ...], dict[str, Any]] = {}
    for group in groups:
        batch = engine.add(PART.build_rows(group)).get(name)
        for row in batch.to_pylist() if batch is not None else []:
            out[row["site"], row.get("rack"), row["window_s"], row["ts"]] = row
    return out


def test_the_order_of_parts_does_not_matter() -> None:
    parts = parts_of(60)
    names = "rack", "site"
    one = {name: {k: repr(v) for k, v in final(SiteEngine(), [[p] for p in parts], name).items()} for name in names}

    @given(st.randoms(use_true_random=False))
    @settings(max_examples=10, deadline=None)
    def any_order_gives_the_same(rnd: Any) -> None:
        shuffled = list(parts)
        rnd.shuffle(shuffled)
        for name in names:
            other = final(SiteEngine(), [shuffled[i : i + 7] for i in range(0, len(shuffled), 7)], name)
            assert one[name] == {k: repr(v) for k, v in other.items()}

    any_order_gives_the_same()


def test_rack_and_site_figures_are_sums_of_their_parts() -> None:
    parts = parts_of()
    racks, sites = (final(SiteEngine(), [parts], name) for name in ("rack", "site"))
    (key, site), *_ = [(k, v) for k, v in sites.items() if k[2] == 60][-1:]
    mine = [v for k, v in racks.items() if k[2:] == key[2:]]
    assert site["racks"] == len(mine) == 3
    assert site["gpus"] == sum(r["gpus"] for r in mine) == 96
    assert site["it_power_w"] == pytest.approx(sum(r["rack_power_w"] for r in mine), rel=1e-6)
    assert 1.05 < site["pue"] < 1.3
    assert 0.9 < site["heat_balance"] < 0.97
    assert all(r["kinds"] == 4 for r in mine)
    assert all(r["gpu_power_w"] + r["node_power_w"] < r["rack_power_w"] for r in mine)


def test_the_p95_of_a_rack_with_two_models_is_that_of_all_its_gpus() -> None:
    def part(model: str, devices: int, util: int, temp: float) -> dict[str, Any]:
        counts = [0] * 101
        counts[util] = 10 * devices
        figures = {"util_pct": float(util), "temp_c": temp}
        row = {n: 0 if n in ("expected", "window_s", "devices") else math.nan for n, _ in PART.columns}
        row |= {f"{name}_{s}": value for name, value in figures.items() for s in ("mean", "max", "p95")}
        place = {"ts": START, "kind": "gpu", "window_s": 10, "site": "s", "rack": "R", "model": model}
        return row | place | {"devices": devices, "coverage": 1.0, "util_counts": counts}

    alone, small, big = part("B200", 4, 90, 75.25), part("A100", 1, 20, 70.5), part("A100", 8, 20, 70.5)
    for parts, util, temp in (([alone], 90.0, 75.25), ([small, alone], 90.0, 75.25), ([big, alone], 90.0, 75.25)):
        (row,) = final(SiteEngine(), [parts], "rack").values()
        assert (row["util_pct_p95"], row["gpu_temp_c_p95"]) == (util, temp)
    (row,) = final(SiteEngine(), [[part("A100", 96, 20, 70.5), alone]], "rack").values()
    assert row["util_pct_p95"] == 20.0, "4 of 100 GPUs are above"
