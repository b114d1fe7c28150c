"""The synthetic plant: deterministic, closed physics, held against NVIDIA's recorded trace, faults that show."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from producers.emission import Emission, Event
from producers.sources.replay.source import DsxReplay
from producers.sources.source import SourceError
from producers.sources.synthetic import faults
from producers.sources.synthetic.faults import FAULTS, SWAP, Fault
from producers.sources.synthetic.places import Places
from producers.sources.synthetic.source import Synthetic
from schemas.codec import encode
from schemas.derived import LABEL
from schemas.frame import Frame

START = 1_750_000_000_000

#: What NVIDIA's recorded trace shows on its five loaded racks (means over 99 s); the test below computes them
#: again where it is at hand.
TRACE = {
    "balance": (0.925, 0.952),
    "flow_lpm": (49.5, 51.2),
    "delta_t": (10.0, 14.1),
    "dp_kpa": (77.0, 191.5),
    "supply_c": (31.8, 33.2),
    "lpm_per_kw": (1.0, 1.55),
}


def run(plant: Synthetic, ticks: int) -> list[list[Emission]]:
    return [list(plant.frames(START + 1000 * k)) for k in range(ticks)]


def frames(emissions: Sequence[Emission], kind: str) -> list[Frame]:
    return [e for e in emissions if isinstance(e, Frame) and e.kind == kind]


def loops(emissions: Sequence[Emission], metric: str) -> list[float]:
    return [float(f.values(metric)[0]) for f in frames(emissions, "cooling") if f.identity("model")[0] == "rack-loop"]


def meters(emissions: Sequence[Emission]) -> list[float]:
    return [float(f.values("power_w")[0]) for f in frames(emissions, "power") if f.identity("model")[0] == "rack-meter"]


def test_same_seed_same_bytes_other_seed_other_bytes() -> None:
    first, second, other = (
        b"".join(encode(e) for tick in run(Synthetic(2, "H100", seed=s), 5) for e in tick if isinstance(e, Frame))
        for s in (3, 3, 4)
    )
    assert first == second
    assert first != other


@pytest.mark.parametrize("model", ["H100", "H200", "B200", "GB200", "GB300", "VR200"])
def test_every_model_stays_within_its_limits(model: str) -> None:
    plant = Synthetic(3, model)
    gpu = plant.topology.design.gpu
    for tick in run(plant, 20):
        for frame in frames(tick, "gpu"):
            assert frame.rows == plant.topology.design.gpus
            assert (frame.values("power_w") <= gpu["tdp_w"] * 1.03).all()
            assert (frame.values("power_w") >= gpu["idle_w"] * 0.85).all()
            assert (frame.values("temp_c") < gpu["slowdown_c"]).all()
            assert not np.isnan(frame.values("energy_j")).any()


def test_metered_power_is_the_sum_of_its_parts() -> None:
    plant = Synthetic(3, "GB200")
    for tick in run(plant, 30)[5:]:
        gpus = [float(f.values("power_w").sum()) for f in frames(tick, "gpu")]
        nodes = [float(f.values("power_w").sum()) for f in frames(tick, "node")]
        for meter, gpu, node in zip(meters(tick), gpus, nodes, strict=True):
            other = meter * 0.975 - gpu - node
            assert 0.5 * plant.topology.design["other_w"] < other < 1.15 * plant.topology.design["other_w"]


def test_energy_counters_integrate_power() -> None:
    ticks = run(Synthetic(1, "H100", seed=2), 120)
    first, last = frames(ticks[0], "gpu")[0], frames(ticks[-1], "gpu")[0]
    power = np.mean([frames(t, "gpu")[0].values("power_w") for t in ticks[1:]], axis=0)
    assert (last.values("energy_j") - first.values("energy_j")) / 119 == pytest.approx(power, rel=0.01)


def trace_figures(path: Path) -> dict[str, tuple[float, float]]:
    """The same figures from a DSX trace: (lowest, highest) over the loaded racks of the mean over time."""
    replay = DsxReplay(path, 1.0, 0.0)
    seen: dict[tuple[str, str], list[float]] = {}

    async def collect() -> None:
        async for e in replay.emissions():
            if isinstance(e, Frame) and e.identity("model")[0] in ("rack-loop", "rack-meter"):
                rack = e.identity("rack")[0]
                for name in (
                    ("flow_lpm", "supply_temp_c", "return_temp_c", "diff_pressure_kpa")
                    if e.kind == "cooling"
                    else ("power_w",)
                ):
                    seen.setdefault((rack, name), []).append(float(e.values(name)[0]))

    asyncio.run(collect())
    mean = {k: float(np.nanmean(v)) for k, v in seen.items()}
    racks = sorted(r for r, n in mean if n == "power_w" and mean[r, n] > 5000)
    assert len(racks) == 5
    rise = {r: mean[r, "return_temp_c"] - mean[r, "supply_temp_c"] for r in racks}
    values = {
        "balance": [mean[r, "flow_lpm"] * rise[r] * 65 / mean[r, "power_w"] for r in racks],
        "flow_lpm": [mean[r, "flow_lpm"] for r in racks],
        "delta_t": list(rise.values()),
        "dp_kpa": [mean[r, "diff_pressure_kpa"] for r in racks],
        "supply_c": [mean[r, "supply_temp_c"] for r in racks],
        "lpm_per_kw": [mean[r, "flow_lpm"] / mean[r, "power_w"] * 1000 for r in racks],
    }
    return {k: (min(v), max(v)) for k, v in values.items()}


def test_the_figures_above_are_those_of_the_trace(recorded: Path) -> None:
    found = trace_figures(recorded / "dsx" / "dsx_exemplar.csv")
    for name, (low, high) in TRACE.items():
        assert low <= found[name][0] <= found[name][1] <= high, name


def test_the_plant_closes_like_the_trace() -> None:
    """HGX racks, as in the trace, over five minutes: heat balance, flow per kW, delta-T, pressure and supply in its
    ranges.
    """
    plant = Synthetic(12, "HGX-H100", seed=11)
    ticks = run(plant, 300)
    flow, supply, back, dp = (
        np.mean([loops(t, m) for t in ticks], axis=0)
        for m in ("flow_lpm", "supply_temp_c", "return_temp_c", "diff_pressure_kpa")
    )
    power = np.mean([meters(t) for t in ticks], axis=0)
    loaded = plant.workloads.training | plant.workloads.inference
    balance = (flow * (back - supply) * 65 / power)[loaded]
    assert (balance >= TRACE["balance"][0] - 0.005).all()
    assert (balance <= TRACE["balance"][1] + 0.005).all()
    assert ((back - supply)[loaded] > 0.6 * TRACE["delta_t"][0]).all()
    assert ((back - supply)[loaded] < 1.15 * TRACE["delta_t"][1]).all()
    design = flow / (plant.topology.design.max_power_w / 1000)
    assert (design >= TRACE["lpm_per_kw"][0]).all()
    assert (design <= TRACE["lpm_per_kw"][1]).all()
    assert (dp >= 0.8 * TRACE["dp_kpa"][0]).all()
    assert (dp <= TRACE["dp_kpa"][1]).all()
    assert (np.abs(supply - 32) < 1.2).all()


def test_coolant_answers_a_load_step_with_inertia() -> None:
    """When training pauses for a checkpoint the power falls at once, the return temperature over several seconds."""
    plant = Synthetic(1, "GB200", seed=1)
    begin = START // 600_000 * 600_000 + 600_000 - 20_000  # a checkpoint begins 20 s later
    ticks = [list(plant.frames(begin + 1000 * k)) for k in range(30)]
    power = [meters(t)[0] for t in ticks]
    back = [loops(t, "return_temp_c")[0] for t in ticks]
    drop = next(k for k in range(15, 29) if power[k] < 0.75 * np.mean(power[:15]))
    assert back[drop + 1] > back[drop + 4] - 0.2
    assert back[drop + 1] - loops(ticks[drop + 1], "supply_temp_c")[0] > 0.55 * (np.mean(back[5:15]) - 32)


def test_training_gpus_move_together() -> None:
    plant = Synthetic(4, "H100", seed=5)
    series = np.array([[f.values("power_w") for f in frames(t, "gpu")[:2]] for t in run(plant, 60)])
    assert plant.workloads.names[0] == plant.workloads.names[1] != ""
    assert np.corrcoef(series[:, 0, 0], series[:, 1, 5])[0, 1] > 0.9


def test_an_unlabelled_rack_idles() -> None:
    plant = Synthetic(10, "H100")
    assert plant.workloads.names[9] == ""
    assert frames(run(plant, 3)[-1], "gpu")[9].values("util_pct").max() == 0


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_shows_and_is_labelled(name: str) -> None:
    fault = faults.parse(f"{name}:10" if name == SWAP else f"{name}:10+40")
    plant, calm = Synthetic(4, "GB200", faults=[fault]), Synthetic(4, "GB200")
    seen, base = run(plant, 60), run(calm, 60)
    labels = [e.batch.to_pylist()[0] for t in seen for e in t if isinstance(e, Event) and e.derived is LABEL]
    assert [row["fault"] for row in labels] == [name] * (1 if name == SWAP else 2)
    assert labels[0]["device"] == fault.place
    assert labels[-1]["ended"].timestamp() * 1000 == START + (10_000 if name == SWAP else 50_000)
    assert b"".join(encode(e) for t in seen[:9] for e in t if isinstance(e, Frame)) == b"".join(
        encode(e) for t in base[:9] for e in t if isinstance(e, Frame)
    )
    at = 40
    match name:
        case "gpu-thermal":
            assert frames(seen[at], "gpu")[0].values("temp_c")[0] > frames(base[at], "gpu")[0].values("temp_c")[0] + 8
        case "gpu-throttle":
            assert (
                frames(seen[at], "gpu")[0].values("sm_clock_mhz")[0]
                < 0.7 * frames(base[at], "gpu")[0].values("sm_clock_mhz")[0]
            )
            assert int(frames(seen[at], "gpu")[0].values("clock_event_reasons")[0]) & 8
        case "gpu-straggler":
            mean = [
                np.mean([frames(t, "gpu")[0].values("sm_active")[0] for t in series[20:45]]) for series in (seen, base)
            ]
            assert mean[0] < 0.8 * mean[1]
        case "gpu-dead":
            assert frames(seen[12], "gpu")[0].values("xid")[0] == 79
            assert frames(seen[at], "gpu")[0].rows == 71
            assert frames(seen[59], "gpu")[0].rows == 72
        case "gpu-frozen":
            held = {
                tuple(float(frames(t, "gpu")[0].values(n)[0]) for n in ("power_w", "temp_c", "energy_j"))
                for t in seen[15:45]
            }
            assert len(held) == 1
        case "gpu-swap":
            boards, calm_boards = (frames(t, "gpu")[0].identity("board") for t in (seen[at], base[at]))
            assert boards[0] != calm_boards[0]
            assert boards[1:] == calm_boards[1:]
            assert frames(seen[at], "gpu")[0].values("energy_j")[0] < 1e5
        case "job-idle":
            seen_util, base_util = (frames(t, "gpu")[0].values("util_pct") for t in (seen[at], base[at]))
            assert seen_util[:4].max() == 0
            assert (seen_util[4:] == base_util[4:]).all()
        case "rack-dark":
            assert {f.identity("rack")[0] for f in seen[at] if isinstance(f, Frame)} == {"", "R0002", "R0003", "R0004"}
            assert len(frames(seen[59], "gpu")) == 4
        case "coolant-flow":
            assert loops(seen[at], "flow_lpm")[0] < 0.6 * loops(base[at], "flow_lpm")[0]
            assert loops(seen[at], "return_temp_c")[0] > loops(base[at], "return_temp_c")[0] + 2
        case "cdu-pump":
            cdu = [
                next(f for f in frames(t, "cooling") if f.identity("device")[0] == "CDU-001")
                for t in (seen[at], base[at])
            ]
            assert [float(c.values("pumps_running")[0]) for c in cdu] == [1.0, 2.0]
            assert cdu[0].values("flow_lpm")[0] < 0.8 * cdu[1].values("flow_lpm")[0]
        case "leak":
            assert loops(seen[at], "leak")[0] == 1
            assert loops(seen[at], "level_pct")[0] < loops(base[at], "level_pct")[0] - 0.3
        case "lying-sensor":
            assert loops(seen[at], "return_temp_c")[0] < loops(base[at], "return_temp_c")[0] - 2
            assert loops(seen[at], "flow_lpm")[0] == pytest.approx(loops(base[at], "flow_lpm")[0], rel=0.05)
        case "psu-loss":
            shelves = frames(seen[at], "power")[0]
            assert shelves.values("psu_failed")[1] == 1
            assert shelves.values("power_w")[1] < shelves.values("power_w")[2]


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ("nosuch", "NAME is one of"),
        ("gpu-thermal@R0009-N01-GPU0", "no GPU 'R0009-N01-GPU0' here; the nearest is R0002-N01-GPU0"),
        ("gpu-thermal@R0001-N01-GPU9", "the nearest is R0001-N01-GPU3"),
        ("gpu-thermal@R0001-N00-GPU0", "the nearest is R0001-N01-GPU0"),
        ("gpu-thermal@R0002", "R0001 to R0002, N01 to N18, GPU0 to GPU3, such as R0001-N01-GPU0"),
        ("gpu-thermal@r0002-n03-gpu1", "the nearest is R0002-N03-GPU1"),
        ("gpu-thermal@CDU-001", "no GPU 'CDU-001' here"),
        ("leak@R1", "no rack 'R1' here; the nearest is R0001. A rack is R0001 to R0002"),
        ("leak@R0001-N01-GPU0", "no rack 'R0001-N01-GPU0' here; the nearest is R0001"),
        ("leak@everywhere", "the nearest is R0001"),
        ("coolant-flow@CDU-001", "no rack 'CDU-001' here"),
        ("cdu-pump@CDU-007", "no CDU 'CDU-007' here; the nearest is CDU-001. A CDU is CDU-001 to CDU-001"),
        ("cdu-pump@R0001", "no CDU 'R0001' here"),
        ("job-idle@R0002", "no node 'R0002' here; the nearest is R0002-N01. A node is RACK-NODE"),
        ("job-idle@R0002-N19", "the nearest is R0002-N18"),
        ("rack-dark@R0003", "no rack 'R0003' here; the nearest is R0002"),
        ("gpu-swap@R0001-N01-GPU0~R0003-N01-GPU0", "no GPU 'R0003-N01-GPU0' here; the nearest is R0002-N01-GPU0"),
        ("gpu-swap@R0001-N01-GPU0~R0001-N01-GPU0", "cannot change places with itself"),
        ("gpu-swap@R0001-N01-GPU0:10+5", "a swap is a moment"),
        ("gpu-dead@R0001-N01-GPU0~R0001-N01-GPU1", "only gpu-swap takes a second place"),
    ],
)
def test_a_wrong_fault_names_what_exists(spec: str, complaint: str) -> None:
    with pytest.raises(SourceError, match=complaint):
        Synthetic(2, "GB200", faults=[faults.parse(spec)])


def test_every_place_of_the_plant_can_have_a_fault() -> None:
    """The places by number are the devices by name."""
    plant = Synthetic(2, "GB200")
    places = Places.of(plant.topology)
    gpus = plant.topology.identity("gpu")["device"].to_pylist()
    each = plant.topology.count("gpu")
    for number in (0, 3, 4, 71, 72, len(gpus) - 1):
        assert places.index(Fault("gpu-dead", gpus[number], 0, 1)) == divmod(number, each)
    assert places.index(Fault("job-idle", "R0002-N03", 0, 1)) == (1, 8)
    assert [places.index(Fault("leak", r, 0, 1))[0] for r in plant.topology.rack_names()] == [0, 1]
    assert [places.index(Fault("cdu-pump", c, 0, 1))[0] for c in plant.topology.cdu_names()] == [0]
