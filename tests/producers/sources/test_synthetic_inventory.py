"""The plant's boards and inventory: who is where, what feeds what, and boards that are swapped."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest

from producers.emission import Emission
from producers.sources.synthetic import faults
from producers.sources.synthetic.source import Synthetic
from schemas.frame import Frame
from tests.producers.sources.job_ledger import OPEN, rows
from tests.producers.sources.test_synthetic import START, frames, run

UUID = re.compile(r"GPU-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
HERE, THERE = "R0001-N01-GPU0", "R0002-N03-GPU2"


def boards(tick: Sequence[Emission], kind: str = "gpu") -> dict[str, str]:
    return {d: b for f in frames(tick, kind) for d, b in zip(f.identity("device"), f.identity("board"), strict=True)}


def of(tick: Sequence[Emission], device: str, metric: str) -> float:
    frame = next(f for f in frames(tick, "gpu") if device in f.identity("device"))
    return float(frame.values(metric)[frame.identity("device").index(device)])


def test_every_device_with_a_plate_has_a_board_of_its_own_that_stays() -> None:
    first, again, other = (run(Synthetic(2, "GB200", seed=s), 1)[0] for s in (3, 3, 4))
    held = {f"{k}/{d}": b for k in ("gpu", "node", "power", "cooling") for d, b in boards(first, k).items()}
    without = {name for name, board in held.items() if not board}
    assert without == {
        *(f"{kind}/R000{rack}" for kind in ("power", "cooling") for rack in (1, 2)),
        "power/utility-meter",
        "cooling/cooling-plant",
    }
    assert len(set(held.values())) == len(held) - len(without) + 1
    assert all(UUID.fullmatch(board) for board in boards(first).values())
    assert boards(first) == boards(again)
    assert not set(boards(first).values()) & set(boards(other).values())


def test_the_inventory_holds_every_board_at_its_place_and_its_names() -> None:
    (tick,) = run(Synthetic(2, "GB200", seed=3), 1)
    assets = {row["asset"]: row for row in rows(tick, "asset")}
    assert len(assets) == len(rows(tick, "asset"))
    for kind in ("gpu", "node", "power", "cooling"):
        for device, board in boards(tick, kind).items():
            if board:
                found = assets[board]
                assert (found["kind"], found["device"], found["state"]) == (kind, device, "active")
                assert (found["hall"], found["row"], found["origin"]) == ("H1", "ROW-001", "synthetic")
                assert found["serial"]
    gpu = assets[boards(tick)[THERE]]
    assert (gpu["rack"], gpu["node"], gpu["slot"], gpu["model"]) == ("R0002", "R0002-N03", "N03", "GB200")
    assert {row["kind"] for row in assets.values() if not row["device"]} == {
        *("hall", "row", "rack", "node", "pdu", "ups", "switchgear", "utility")
    }
    names = {(row["system"], row["asset"]): row["name"] for row in rows(tick, "name")}
    assert [names[system, gpu["asset"]] for system in ("dcgm", "pci", "slurm")] == [
        "R0002-N03/gpu2",
        "R0002-N03/00000018:01:00.0",
        "R0002-N03/2",
    ]
    assert len({(row["system"], row["name"]) for row in rows(tick, "name")}) == len(rows(tick, "name"))


def test_the_edges_of_sixteen_racks_are_those_of_the_hall() -> None:
    """By hand: two rows of eight NVL72 racks of 18 nodes; a CDU and two PDUs a row, two UPS behind one switchgear."""
    (tick,) = run(Synthetic(16, "GB200"), 1)
    edges = rows(tick, "edge")
    assert Counter(e["network"] for e in edges) == {
        "contains": 2 + 16 + 16 * 18,
        "power": 1 + 2 + 2 * 2 + 16 * 2,
        "fluid": 2 + 16,
    }
    feeds: dict[str, list[tuple[str, str]]] = {}
    for edge in edges:
        feeds.setdefault(f"{edge['network']} {edge['downstream']}", []).append((edge["upstream"], edge["redundancy"]))
    assert feeds["power R0009"] == [("PDU-002-A", "ab"), ("PDU-002-B", "ab")]
    assert feeds["power PDU-002-A"] == [("UPS-A", "")]
    assert feeds["power UPS-B"] == [("SWGR-1", "")]
    assert feeds["power SWGR-1"] == [("UTILITY", "")]
    assert feeds["fluid R0008"] == [("CDU-001", "")]
    assert feeds["fluid CDU-002"] == [("cooling-plant", "")]
    assert feeds["contains R0016-N18"] == [("R0016", "")]
    assert feeds["contains R0009"] == [("ROW-002", "")]
    assert feeds["contains ROW-002"] == [("H1", "")]
    watts = {(e["upstream"], e["downstream"]): e["capacity_w"] for e in edges if e["network"] == "power"}
    rack_w = watts["PDU-001-A", "R0001"]
    assert rack_w > Synthetic(1, "GB200").topology.design.max_power_w
    assert watts["UPS-A", "PDU-001-A"] == pytest.approx(8 * rack_w)
    assert watts["UTILITY", "SWGR-1"] == pytest.approx(16 * rack_w)
    assets = {row["device"] or row["asset"] for row in rows(tick, "asset")}
    assert {end for e in edges for end in (e["upstream"], e["downstream"])} <= assets


def test_the_inventory_comes_again_every_ten_minutes() -> None:
    plant = Synthetic(1, "H100")
    came = [k for k in range(0, 1300, 10) if rows(plant.frames(START + 1000 * k), "edge")]
    assert came == [0, 600, 1200]


def test_a_spare_keeps_both_histories_straight() -> None:
    plant = Synthetic(2, "GB200", seed=5, faults=[faults.parse(f"gpu-swap@{HERE}:20")])
    seen = run(plant, 40)
    old, new = boards(seen[19])[HERE], boards(seen[20])[HERE]
    assert new not in boards(seen[0]).values()
    assert old not in {board for tick in seen[20:] for board in boards(tick).values()}
    assert {HERE} == {d for d, b in boards(seen[20]).items() if boards(seen[19])[d] != b}
    assert of(seen[19], HERE, "energy_j") > 1e7
    energy = np.array([of(tick, HERE, "energy_j") for tick in seen[20:]])
    assert energy[0] < 5e3
    assert (np.diff(energy) > 0).all()
    assert of(seen[20], HERE, "ecc_sbe_total") == 0
    moved = {row["asset"]: row for row in rows(seen[20], "asset")}
    at = START / 1000 + 20
    assert moved.keys() == {old, new}
    assert (moved[old]["state"], moved[old]["reason"], moved[old]["valid_to"].timestamp()) == ("retired", "swapped", at)
    assert moved[old]["valid_from"].timestamp() == START / 1000
    assert (moved[new]["state"], moved[new]["valid_from"].timestamp(), moved[new]["valid_to"]) == ("active", at, OPEN)
    assert [moved[b]["device"] for b in (old, new)] == [HERE, HERE]
    names = {(row["system"], row["asset"]): row for row in rows(seen[20], "name")}
    assert names["slurm", old]["name"] == names["slurm", new]["name"] == "R0001-N01/0"
    assert names["slurm", old]["valid_to"] == names["slurm", new]["valid_from"] != OPEN


def test_two_boards_that_change_places_take_their_counters_along() -> None:
    plant = Synthetic(2, "GB200", seed=5, faults=[faults.parse(f"gpu-swap@{HERE}~{THERE}:20")])
    seen = run(plant, 22)
    before, after = boards(seen[19]), boards(seen[20])
    assert (after[HERE], after[THERE]) == (before[THERE], before[HERE])
    for now, then in ((HERE, THERE), (THERE, HERE)):
        assert 0 < of(seen[20], now, "energy_j") - of(seen[19], then, "energy_j") < 5e3
    last = {row["asset"]: row for row in rows(seen[20], "asset")}
    assert {row["device"]: asset for asset, row in last.items()} == {HERE: after[HERE], THERE: after[THERE]}
    assert {row["state"] for row in last.values()} == {"active"}


def test_what_ailed_a_board_is_gone_with_it_and_a_later_look_has_it_retired_still() -> None:
    plant = Synthetic(1, "GB200", faults=[faults.parse(f"gpu-dead@{HERE}:5"), faults.parse(f"gpu-swap@{HERE}:30")])
    old = boards(list(plant.frames(START)))[HERE]
    seen = [list(plant.frames(START + 1000 * k)) for k in (*range(1, 40), 600)]
    assert HERE not in boards(seen[20])
    assert boards(seen[38])[HERE] != old
    ended = [row["fault"] for tick in seen for row in rows(tick, "label") if row["ended"] != OPEN]
    assert sorted(ended) == ["gpu-dead", "gpu-swap"]
    states = [row["state"] for row in rows(seen[-1], "asset") if row["asset"] == old]
    assert states == ["retired"]


def test_nothing_is_heard_of_a_dark_rack_which_draws_power_all_the_same() -> None:
    seen, calm = (
        run(Synthetic(3, "H100", faults=[faults.parse("rack-dark@R0002:5+5")]), 15),
        run(Synthetic(3, "H100"), 15),
    )
    heard = [{f.identity("rack")[0] for f in tick if isinstance(f, Frame)} for tick in seen]
    assert [("R0002" in racks) for racks in heard] == [True] * 5 + [False] * 5 + [True] * 5
    meters = [
        [f for f in frames(t, "power") if "utility-meter" in f.identity("device")] for ts in (seen, calm) for t in ts
    ]
    watts = [float(frame.values("power_w")[0]) for (frame,) in meters]
    assert watts[:15] == watts[15:]
