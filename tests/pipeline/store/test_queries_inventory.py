"""Questions about what there is and what is silent, on the real engine: answers worked out by hand."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from pipeline.store.client import open_folder
from pipeline.store.migrate import migrate
from tests.pipeline.store.model_rows import Filler, Gpu, answer, put

NOW = dt.datetime.fromtimestamp(int(time.time()) // 60 * 60 - 7200, dt.UTC)
EARLY = NOW - dt.timedelta(hours=5)


def at(seconds: float) -> dt.datetime:
    return NOW + dt.timedelta(seconds=seconds)


def text(moment: dt.datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}"


def asset(gpu: Gpu, **more: Any) -> dict[str, Any]:
    where = {"rack": gpu.rack, "node": gpu.node, "device": gpu.device, "hall": "H1"}
    row = {"site": "s", "asset": gpu.board or gpu.device, "kind": "gpu", "model": "H100", **where}
    return {**row, "origin": "csv", "state": "active", "valid_from": EARLY, "seen": EARLY, **more}


A, B = Gpu("R1", "n1", 0, "A"), Gpu("R1", "n1", 1, "B")
IN_REPAIR, RETIRED = Gpu("R1", "n1", 2, "E"), Gpu("R1", "n1", 3, "F")
C, D = Gpu("R2", "n2", 0, "C"), Gpu("R2", "n2", 1, "D")  # the rack that goes dark
W, X, Y = (Gpu("R3", "n3", k, board) for k, board in enumerate("WXY"))  # X falls off the bus
Y_MOVED = Gpu("R3", "n3", 1, "Y")
NEVER = Gpu("R4", "n4", 0, "Z")
BY_PLACE = Gpu("R5", "n5", 0)  # declared by its place; a board that nobody declared speaks there
ENDPOINTS = {"site": ["s"] * 2, "rack": ["R1", "R2"], "node": ["n1", "n2"], "device": ["e1", "e2"]}


def heard(filler: Filler, end: dt.datetime, gpus: Sequence[Gpu]) -> None:
    filler.pane(end, gpus, util_pct_mean=[50.0] * len(gpus), util_pct_max=[50.0] * len(gpus))


def world(client: Client) -> Filler:
    migrate(client)
    declared = [asset(gpu) for gpu in (A, B, C, D, W, X, Y, NEVER, BY_PLACE)]
    declared += [asset(IN_REPAIR, state="maintenance", reason="new cold plate"), asset(RETIRED, state="retired")]
    put(client, "asset", declared)
    put(client, "name", [{"site": "s", "system": "netbox", "name": "UUID-B", "asset": "B", "valid_from": EARLY}])
    filler = Filler(client)
    heard(filler, at(-1800), [A, B, C, D, W, X, Y])
    heard(filler, at(-600), [W, X, Y])
    called = Gpu("R1", "n1", 1, "UUID-B")  # B by another system's name
    heard(filler, at(0), [A, called, W, Y_MOVED, Gpu("R5", "n5", 0, "NEW")])
    filler.roll("endpoint", at(-1800), {**ENDPOINTS, "up_max": [1.0, 1.0]})
    filler.roll("endpoint", at(0), {**ENDPOINTS, "up_max": [1.0, 0.0]})
    return filler


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    (tmp_path / "clickhouse").mkdir()
    made = open_folder(tmp_path)
    yield made
    made.close()


def silent(client: Client) -> dict[tuple[str, str, str], tuple[Any, ...]]:
    rows = answer(client, "silent")
    return {
        (r["rack"], r["node"], r["kind"]): tuple(r[n] for n in ("silent", "expected", "since", "devices")) for r in rows
    }


def test_what_is_silent_by_rack_and_node(client: Client) -> None:
    world(client)
    assert silent(client) == {
        ("R2", "n2", "gpu"): (2, 2, text(at(-1800)), "n2-GPU0, n2-GPU1"),
        ("R3", "n3", "gpu"): (1, 3, text(at(-600)), "n3-GPU1"),  # X, though Y speaks where it was
        ("R4", "n4", "gpu"): (1, 1, "never", "n4-GPU0"),
        ("R2", "n2", "endpoint"): (1, 1, text(at(-1800)), "e2"),
    }
    assert next(iter(silent(client))) == ("R2", "n2", "gpu"), "the most first"


def test_when_all_gpus_are_dark_all_are_silent(client: Client) -> None:
    """Their endpoints go on to be asked, so the newest moment of the store goes on."""
    filler = world(client)
    filler.roll("endpoint", at(600), {**ENDPOINTS, "up_max": [0.0, 0.0]})
    found = silent(client)
    gpus = {rack: row[:2] for (rack, _, kind), row in found.items() if kind == "gpu"}
    assert gpus == {"R1": (2, 2), "R2": (2, 2), "R3": (3, 3), "R4": (1, 1), "R5": (1, 1)}
    assert found["R1", "n1", "gpu"][2] == text(at(0))
    assert {row[0] for (_, _, kind), row in found.items() if kind == "endpoint"} == {1}
    assert found["R1", "n1", "endpoint"][2] == text(at(0)), "it answered then"


def test_a_row_without_any_value_is_silence(client: Client) -> None:
    filler = world(client)
    filler.pane(at(60), [A], util_pct_mean=[float("nan")], util_pct_max=[float("nan")])
    heard(filler, at(70), [B])
    assert silent(client)["R1", "n1", "gpu"][:2] == (1, 2)


def test_racks_that_no_inventory_has_are_counted_by_their_windows(client: Client) -> None:
    world(client)
    window = {"ts": at(0), "window_s": 10, "site": "s", "model": "GB200", "gpus_expected": 72, "kinds": 1}
    put(client, "rack", [{**window, "rack": "R9", "gpus": 71}, {**window, "rack": "R1", "gpus": 71}])
    found = silent(client)
    assert found["R9", "", "gpu"] == (1, 72, "", "")
    assert ("R1", "", "gpu") not in found, "the inventory knows of what is in repair there"


def test_assets_of_a_place_those_out_of_service_first(client: Client) -> None:
    world(client)
    found = answer(client, "assets", "R1")
    assert [(r["asset"], r["device"], r["state"], r["reason"]) for r in found] == [
        ("E", "n1-GPU2", "maintenance", "new cold plate"),
        ("F", "n1-GPU3", "retired", ""),
        ("A", "n1-GPU0", "active", ""),
        ("B", "n1-GPU1", "active", ""),
    ]
    assert len(answer(client, "assets")) == 11
    assert [r["asset"] for r in answer(client, "assets", "UUID-B")] == ["B"], "by another system's name"


def test_a_place_shows_its_boards_and_a_board_its_places(client: Client) -> None:
    world(client)
    heard(filler := Filler(client), NOW - dt.timedelta(days=40), [Gpu("R3", "n3", 1, "OLD")])
    hours = {"site": ["s"], "rack": ["R3"], "node": ["n3"], "device": ["n3-GPU1"], "board": ["OLD"], "model": ["H100"]}
    long_ago = NOW.replace(minute=0) - dt.timedelta(days=100)
    for hour in (1, 2):
        filler.roll("gpu", long_ago + dt.timedelta(hours=hour), {**hours, "util_pct_mean": [1.0]}, tier="1h")
    found = answer(client, "place", "n3-GPU1")
    naive = [None if m is None else m.replace(tzinfo=None) for m in (long_ago, long_ago + dt.timedelta(hours=2))]
    assert [(r["board"], r["from"], r["until"]) for r in found] == [
        ("OLD", *naive),
        ("X", at(-1810).replace(tzinfo=None), at(-600).replace(tzinfo=None)),
        ("Y", at(-10).replace(tzinfo=None), None),
    ]
    assert [(r["device"], r["until"]) for r in answer(client, "place", "Y")] == [
        ("n3-GPU1", None),
        ("n3-GPU2", at(-600).replace(tzinfo=None)),
    ]
