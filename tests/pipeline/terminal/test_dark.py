"""What `top` and the overview show of racks and GPUs that are silent, moved or held, on the real engine."""

from __future__ import annotations

import datetime as dt
import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client
from rich.console import Console

from pipeline.store.client import open_folder
from pipeline.store.migrate import migrate
from pipeline.terminal import overview
from pipeline.terminal.snapshot import RackRow, SiteRow, take, with_dark, with_dark_sites
from pipeline.terminal.top.queries import GpuRow, Store
from tests.pipeline.store.model_rows import Filler, Gpu, Hold, hold, put

NOW = dt.datetime.fromtimestamp(int(time.time()) // 60 * 60 - 3600, dt.UTC)
A, B = Gpu("R1", "n1", 0, "A"), Gpu("R1", "n1", 1, "B")
A_THEN, B_THEN = Gpu("R1", "n1", 1, "A"), Gpu("R1", "n1", 0, "B")  # where they were before they changed places
LOST, UNKNOWN = Gpu("R1", "n1", 2, "L"), Gpu("R1", "n1", 3)
DARK = [Gpu("R2", "n2", k, f"D{k}") for k in range(4)]
REPAIR = Gpu("R2", "n2", 4, "E")


def ago(seconds: float) -> dt.datetime:
    return NOW - dt.timedelta(seconds=seconds)


def window(rack: str, ts: dt.datetime, gpus: int, expected: int) -> dict[str, Any]:
    row = {"ts": ts, "site": "s", "rack": rack, "model": "H100", "gpus": gpus, "gpus_expected": expected}
    return {**row, "window_s": 10, "rack_power_w": 5000.0, "kinds": 1}


def site(name: str, ts: dt.datetime, gpus: int) -> dict[str, Any]:
    return {"ts": ts, "window_s": 10, "site": name, "racks": 1, "gpus": gpus, "gpus_expected": gpus}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder: Path = tmp_path_factory.mktemp("dark")
    (folder / "clickhouse").mkdir()
    made = open_folder(folder)
    migrate(made)
    base = {"site": "s", "kind": "gpu", "origin": "seen", "state": "active", "valid_from": ago(7200), "model": "H100"}
    rows = [{**base, "asset": g.board, "rack": g.rack, "node": g.node, "device": g.device} for g in (A, B, LOST, *DARK)]
    rows.append({**base, "asset": "E", "rack": "R2", "node": "n2", "device": REPAIR.device, "state": "maintenance"})
    rows.append({**base, "site": "far", "asset": "F", "rack": "R1", "node": "n1", "device": "n1-GPU0"})
    put(made, "asset", rows)
    filler = Filler(made)

    def heard(end: dt.datetime, gpus: list[Gpu], watts: float) -> None:
        filler.pane(end, gpus, power_w_mean=[watts] * len(gpus), util_pct_mean=[50.0] * len(gpus))

    heard(ago(200), [A_THEN, B_THEN, LOST, UNKNOWN, *DARK], 300.0)
    heard(ago(10), [A, B, UNKNOWN], 400.0)
    heard(NOW, [A, B, UNKNOWN], 400.0)
    put(made, "rack", [window("R1", NOW, 3, 4), window("R2", ago(200), 4, 4), window("R9", NOW, 7, 8)])
    put(made, "site", [site("s", NOW, 10), site("far", ago(200), 1)])
    hold(made, [Hold("train", "R1", "n1", ago(600), devices=("A", "L")), Hold("over", "R1", "n1", ago(900), ago(500))])
    yield made
    made.close()


def test_a_rack_that_goes_dark_stays_and_comes_first(client: Client) -> None:
    snapshot = overview.overview_of(client)
    assert [(r.site, r.rack, r.gpus, r.expected, r.dark) for r in snapshot.racks] == [
        ("far", "R1", 0, 1, True),
        ("s", "R2", 0, 4, True),  # what is in repair is not expected
        ("s", "R1", 3, 3, False),
        ("s", "R9", 7, 8, False),  # no inventory knows it: its windows count
    ]
    assert [r.rack for r in take(client).racks] == ["R1", "R1", "R2", "R9"], "by name"
    assert [(s.site, s.gpus, s.expected) for s in snapshot.sites] == [("far", 0, 1), ("s", 10, 15)]
    console = Console(width=130, record=True, file=io.StringIO())
    console.print(overview.draw(snapshot, {}, 130))
    text = console.export_text()
    assert "0/4" in text
    assert "10/15 GPUs" in text


def gpus(client: Client, rack: str) -> dict[str, GpuRow]:
    rows, error = Store(client).gpus("s", rack)
    assert error == ""
    assert len({f"{row.device} {row.board}" for row in rows}) == len(rows)
    return {row.board or row.device: row for row in rows}


def test_a_racks_gpus_are_its_boards_where_they_are_now_and_who_holds_them(client: Client) -> None:
    found = gpus(client, "R1")
    shown = {name: (row.device, row.job, row.cause, row.power_w) for name, row in found.items()}
    assert shown == {
        "A": ("n1-GPU0", "train", "", 400.0),
        "B": ("n1-GPU1", "", "", 400.0),
        "L": ("n1-GPU2", "train", "silent", 300.0),
        "n1-GPU3": ("n1-GPU3", "", "", 400.0),
    }


def test_the_gpus_of_a_dark_rack_are_silent(client: Client) -> None:
    found = gpus(client, "R2")
    assert {(row.device, row.cause) for row in found.values()} == {(g.device, "silent") for g in DARK}


def test_a_gpus_past_is_its_boards_wherever_it_was(client: Client) -> None:
    past, error = Store(client).past(gpus(client, "R1")["A"])
    assert error == ""
    assert [row[1] for row in past] == [300.0, 400.0, 400.0]
    past, _ = Store(client).past(gpus(client, "R1")["n1-GPU3"])
    assert [row[1] for row in past] == [300.0, 400.0, 400.0]


def rack(name: str, gpus: int, expected: int) -> RackRow:
    return RackRow("s", name, "H100", gpus, expected, *(None,) * 8)


def test_what_no_inventory_knows_stays_as_it_was_heard_last() -> None:
    old = NOW - dt.timedelta(hours=1)
    heard = [(rack("R1", 4, 4), old), (rack("R2", 4, 4), old), (rack("R3", 9, 9), NOW)]
    known = {("s", "R1"): ("H100", 4), ("s", "R3"): ("H100", 8)}
    assert with_dark(heard, known, NOW) == [rack("R2", 4, 4), rack("R3", 9, 9), rack("R1", 0, 4)]
    racks = with_dark(heard, known, NOW)
    site_row = SiteRow("s", old, 3, 17, 17, *(None,) * 6)
    assert with_dark_sites([site_row], racks, {}, NOW) == [site_row]
    assert with_dark_sites([site_row], racks, known, NOW) == [SiteRow("s", NOW, 0, 0, 17, *(None,) * 6)]
