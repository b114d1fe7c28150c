"""A device is its board: swaps, moves, clashes of names, renamed hosts, and what an inventory declares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from pipeline.compute.context import Context
from pipeline.compute.derived_rows import ClosedPane
from pipeline.compute.engine import KindEngine
from schemas.codec import Decoder, encode
from schemas.frame import Frame, build
from schemas.inventory import ASSET, OPERATOR, SEEN

START = 1_750_000_000_000
#: (rack, node, device, board)
Board = tuple[str, str, str, str]
A, B, C, D = (("R1", "n1", f"n1-GPU{i}", f"GPU-{name}") for i, name in enumerate("abcd"))
AFTER_B_FELL = [A, ("R1", "n1", "n1-GPU1", "GPU-c"), ("R1", "n1", "n1-GPU2", "GPU-d")]
POWER = {"GPU-a": 300.0, "GPU-b": 400.0, "GPU-c": 500.0, "GPU-d": 600.0}


def frame(second: int, boards: Sequence[Board], power_w: Sequence[float] = ()) -> Frame:
    columns = dict(zip(("rack", "node", "device", "board"), map(list, zip(*boards, strict=True)), strict=True))
    identity = {"site": ["s"] * len(boards), "model": ["H100"] * len(boards), **columns}
    power = power_w or [POWER.get(b[3], 350.0) for b in boards]
    made = build("gpu", START + 1000 * second, identity, {"power_w": power, "temp_c": [50.0] * len(boards)})
    return Decoder().decode(encode(made))


def asset(board: str, rack: str, device: str, **more: Any) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(ASSET.names, "") | {"seen": START, "valid_from": 0, "valid_to": 0}
    place = {"site": "s", "asset": board or device, "kind": "gpu", "rack": rack, "node": "n1", "device": device}
    return row | place | {"origin": "csv", "state": "active", "model": "H100"} | more


def context_of(*assets: dict[str, Any]) -> Context:
    context = Context()
    assert [*context.apply(ASSET, ASSET.build_rows(assets))] == []
    return context


def rows(panes: Sequence[ClosedPane], name: str) -> list[dict[str, Any]]:
    return [row for pane in panes if name in pane.batches for row in pane.batches[name].to_pylist()]


def silent(panes: Sequence[ClosedPane]) -> set[str]:
    return {row["board"] or row["device"] for row in rows(panes, "score") if row["cause"] == "silent"}


def run(engine: KindEngine, seconds: range, boards: Sequence[Board]) -> list[ClosedPane]:
    return engine.add([frame(s, boards) for s in seconds])


def test_a_board_that_falls_off_is_silent_and_those_that_move_up_go_on_as_themselves() -> None:
    engine = KindEngine("gpu")
    panes = run(engine, range(40), [A, B, C, D]) + run(engine, range(40, 120), AFTER_B_FELL)
    assert silent(panes) == {"GPU-b"}
    last = {r["board"]: r for r in rows(panes, "window") if r["window_s"] == 10}
    assert {b: r["power_w_mean"] for b, r in last.items() if b != "GPU-b"} == {
        b: w for b, w in POWER.items() if b != "GPU-b"
    }
    assert (last["GPU-c"]["device"], last["GPU-d"]["device"]) == ("n1-GPU1", "n1-GPU2")
    (incident,) = {(r["board"], r["device"], r["cause"]) for r in rows(panes, "incident")}
    assert incident == ("GPU-b", "n1-GPU1", "silent")


def test_a_host_under_another_name_has_the_same_gpu() -> None:
    engine = KindEngine("gpu")
    panes = run(engine, range(40), [("R1", "pod-abcde", "pod-abcde-GPU0", "GPU-c")])
    panes += run(engine, range(40, 100), [("R1", "pod-vwxyz", "pod-vwxyz-GPU0", "GPU-c")])
    assert len(engine.devices) == 1
    assert silent(panes) == set()
    assert {r["device"] for r in rows(panes, "window") if r["ts"].timestamp() * 1000 > START + 60_000} == {
        "pod-vwxyz-GPU0"
    }


def test_two_boards_under_one_name_are_two_devices_and_never_averaged() -> None:
    engine = KindEngine("gpu")
    here, there = ("R1", "localhost", "localhost-GPU0", "GPU-a"), ("R1", "localhost", "localhost-GPU0", "GPU-b")
    panes = engine.add([frame(s, [board]) for s in range(40) for board in (here, there)])
    assert {(r["board"], r["power_w_mean"]) for r in rows(panes, "window")} == {("GPU-a", 300.0), ("GPU-b", 400.0)}
    assert engine.counts["duplicate"] == 0


def test_a_device_that_begins_to_give_its_board_is_the_one_that_was_known_by_its_place() -> None:
    engine = KindEngine("gpu")
    panes = run(engine, range(30), [("R1", "n1", "n1-GPU0", "")]) + run(engine, range(30, 80), [A])
    panes += run(engine, range(80, 120), [("R1", "n1", "n1-GPU0", "")])
    assert len(engine.devices) == 1
    assert engine.devices.columns["board"] == ["GPU-a"]
    assert silent(panes) == set()


def test_a_frame_seen_before_a_swap_and_again_after_it_has_its_own_names_again() -> None:
    engine = KindEngine("gpu")
    swapped = [("R1", "n1", "n1-GPU1", "GPU-a"), ("R1", "n1", "n1-GPU0", "GPU-b")]
    for boards in ([A, B], swapped, [A, B]):
        rows_of = engine.devices.rows_of(frame(0, boards))
        names = engine.devices.columns["device"]
        assert {b[3]: names[r] for b, r in zip(boards, rows_of.tolist(), strict=True)} == {b[3]: b[2] for b in boards}


def test_what_was_declared_and_never_spoke_is_silent_after_a_minute_and_counted() -> None:
    context = context_of(*(asset(b[3], "R1", b[2]) for b in (A, B)), asset("GPU-x", "R9", "n9-GPU0", node="n9"))
    engine = KindEngine("gpu", context=context)
    panes = run(engine, range(60), [A])
    assert silent(panes) == set(), "it may still come"
    panes += run(engine, range(60, 100), [A])
    assert silent(panes) == {"GPU-b", "GPU-x"}
    parts = {r["rack"]: (r["devices"], r["expected"]) for r in rows(panes, "part") if r["window_s"] == 10}
    assert parts == {"R1": (1, 2), "R9": (0, 1)}


def test_a_rack_that_goes_dark_stays_expected_though_nothing_drives_its_time() -> None:
    engine = KindEngine("gpu")
    panes = run(engine, range(40), [A, B])
    for second in range(50, 130, 10):
        panes += engine.advance(START + 1000 * second)
    assert silent(panes) == {"GPU-a", "GPU-b"}
    last = rows(panes, "part")[-1]
    assert (last["rack"], last["devices"], last["expected"]) == ("R1", 0, 2)
    assert run(engine, range(140, 170), [A, B]), "it goes on when it comes back"


@pytest.mark.parametrize(
    "row",
    [
        asset("GPU-b", "R1", "n1-GPU1", origin=OPERATOR, state="maintenance", valid_from=START + 60_000),
        asset("n1-GPU1", "", "", origin=OPERATOR, state="retired", valid_from=START + 60_000),
        asset("GPU-b", "R1", "n1-GPU1", valid_to=START + 60_000),
        asset("GPU-b", "R2", "n2-GPU0", origin=SEEN, valid_from=START + 60_000),
    ],
    ids=["maintenance", "retired by its name", "no longer valid", "seen in another rack"],
)
def test_what_is_out_of_service_or_elsewhere_is_neither_silent_nor_counted(row: dict[str, Any]) -> None:
    engine = KindEngine("gpu", context=context_of(row))
    panes = run(engine, range(40), [A, B]) + run(engine, range(40, 130), [A])
    assert {int(r["ts"].timestamp()) - START // 1000 for r in rows(panes, "score") if r["cause"] == "silent"} <= {
        50,
        60,
    }
    assert rows(panes, "part")[-1]["expected"] == 1


def test_a_rack_in_maintenance_is_not_expected_until_its_time_is_over() -> None:
    off = asset("R1", "R1", "", kind="rack", origin=OPERATOR, state="maintenance", valid_to=START + 100_000)
    engine = KindEngine("gpu", context=context_of(off))
    panes = run(engine, range(20), [A, B]) + run(engine, range(20, 150), [A])
    times = [int(r["ts"].timestamp()) - START // 1000 for r in rows(panes, "score") if r["cause"] == "silent"]
    assert min(times) == 100
    assert {r["board"] for r in rows(panes, "score") if r["cause"] == "silent"} == {"GPU-b"}


def test_inventories_that_differ_are_a_matter_of_quality() -> None:
    context = context_of(asset("GPU-a", "R1", "n1-GPU0"))
    found = [*context.apply(ASSET, ASSET.build_rows([asset("GPU-a", "R7", "n1-GPU0", origin="netbox")]))]
    assert [(r["kind"], r["rack"], r["metric"], r["reason"]) for r in found] == [
        ("gpu", "R7", "rack", "inventory-differs")
    ]
    again = ASSET.build_rows([asset("GPU-a", "R7", "n1-GPU0", origin="netbox")])
    assert [*context.apply(ASSET, again)] == [], "what is repeated is no news"
