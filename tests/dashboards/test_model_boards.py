"""Panels about jobs, boards, the blast radius and silence on the real engine, with answers worked out by hand."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from dashboards import build, model
from dashboards.macros import AllOf, Range, expand
from pipeline.store.client import open_folder
from pipeline.store.migrate import migrate
from tests.pipeline.store.model_rows import Filler, Gpu, Hold, hold, put

NOW = dt.datetime.fromtimestamp(int(time.time()) // 60 * 60 - 600, dt.UTC)
START = NOW - dt.timedelta(hours=1)
YEAR_AGO = NOW - dt.timedelta(days=365)
MINUTE = dt.timedelta(minutes=1)
#: Two racks of two nodes of four GPUs; the board of n1-GPU0 moved to n3-GPU3 half an hour ago.
GPUS = [
    Gpu(rack, f"n{n}", k, f"GPU-{n}{k}") for n, rack in ((1, "R1"), (2, "R1"), (3, "R2"), (4, "R2")) for k in range(4)
]
BEFORE = [g if g.device != "n1-GPU0" else Gpu("R1", "n1", 0, "GPU-33") for g in GPUS]
BEFORE = [g if g.device != "n3-GPU3" else Gpu("R2", "n3", 3, "GPU-10") for g in BEFORE]
#: Job a holds rack R1 by whole nodes, b the first two GPUs of n3 by board and one of n4 by name.
HOLDS = [
    Hold("a", "R1", "n1", START),
    Hold("a", "R1", "n2", START, first_rank=4),
    Hold("b", "R2", "n3", START, devices=("GPU-30", "GPU-31")),
    Hold("b", "R2", "n4", START, devices=("n4-GPU2",), first_rank=2),
    Hold("over", "R2", "n4", START, NOW - 20 * MINUTE, devices=("n4-GPU3",)),
    Hold("old", "R2", "n3", YEAR_AGO, YEAR_AGO + 60 * MINUTE),
]
#: SM activity: GPU 1 of n2 does half of what the others do; GPU 2 of n1 idles.
SLOW, IDLE = "n2-GPU1", "n1-GPU2"
REACH = {
    "FEED-A": {"R1": 0, "R2": 0},
    "PDU-7": {"R1": 1, "n3": 0},
    "BREAKER-3": {"SER-R2": 1},  # R2 by its asset id
    "CDU-1": {"R2": 1},
}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder: Path = tmp_path_factory.mktemp("boards")
    (folder / "clickhouse").mkdir()
    made = open_folder(folder)
    migrate(made)
    filler = Filler(made)
    for at, gpus in ((NOW - 40 * MINUTE, BEFORE), (NOW - 10 * dt.timedelta(seconds=1), GPUS), (NOW, GPUS)):
        filler.pane(
            at,
            gpus,
            util_pct_mean=[1.0 if g.device == IDLE else 90.0 for g in gpus],
            sm_active_mean=[{SLOW: 0.4, IDLE: 0.0}.get(g.device, 0.8) for g in gpus],
            power_w_mean=[500.0] * len(gpus),
        )
    hold(made, HOLDS)
    hold(made, [Hold("vanished", "R2", "n4", START, seen=START)])  # its source has not repeated it since
    minute = {"window_s": 60, "site": "s", "util_pct_mean": 80.0, "tensor_active_mean": 0.5, "power_w": 4000.0}
    rows = [
        {**minute, "ts": at, "job": job, "rack": rack, "gpus": gpus, "heard": heard, "idle": idle, "energy_j": joules}
        for at in (NOW - MINUTE, NOW)
        for job, rack, gpus, heard, idle, joules in (("a", "R1", 8.0, 8, 1, 1.8e6), ("b", "R2", 3.0, 2, 0, 0.9e6))
    ]
    rows += [
        {**minute, "ts": YEAR_AGO + n * MINUTE, "job": "old", "rack": "R2", "gpus": 4.0, "heard": 4, "energy_j": 3.6e6}
        for n in range(1, 61)
    ]
    put(made, "job_window", rows)
    job = {"site": "s", "scheduler": "slurm", "user": "ada", "account": "models", "seen": NOW}
    put(made, "job", [{**job, "job": "a", "state": "RUNNING", "submitted": START, "started": START}])
    state = {"site": "s", "scheduler": "slurm", "seen": NOW, "gpus": 4}
    put(
        made,
        "node_state",
        [
            {**state, "rack": "R1", "node": "n1", "state": "idle", "since": START},
            {**state, "rack": "R1", "node": "n1", "state": "allocated", "since": START + MINUTE},
            {**state, "rack": "R2", "node": "n4", "state": "idle+drain", "reason": "fan", "since": YEAR_AGO},
            {**state, "rack": "R9", "node": "n9", "state": "idle", "since": START},
        ],
    )
    racks = [
        {"ts": NOW, "window_s": 60, "site": "s", "rack": rack, "gpus": 8, "gpus_expected": 8, "rack_power_w": watts}
        for rack, watts in (("R1", 10e3), ("R2", 8e3), ("R3", 0.0))
    ]
    put(made, "rack", [*racks[:2], {**racks[2], "gpus": 0}])
    put(made, "site", [{"ts": NOW, "window_s": 60, "site": "s", "gpus": 16, "gpus_expected": 24}])
    put(
        made,
        "reach",
        [
            {"made": NOW, "site": "s", "upstream": up, "downstream": d, "lost": n}
            for up, b in REACH.items()
            for d, n in b.items()
        ]
        + [{"made": START, "site": "s", "upstream": "FEED-A", "downstream": "R9", "lost": 1}],
    )
    edge = {"site": "s", "origin": "csv", "valid_from": START, "seen": START}
    put(
        made,
        "edge",
        [{**edge, "network": "power", "upstream": up, "downstream": "R1"} for up in ("FEED-A", "PDU-7", "BREAKER-3")]
        + [{**edge, "network": "fluid", "upstream": "CDU-1", "downstream": "R2"}],
    )
    put(made, "asset", [{**edge, "asset": "SER-R2", "kind": "rack", "rack": "R2", "state": "active"}])
    columns = {"site": ["s"] * 2, "rack": ["R1", "R2"], "node": ["n1", "n3"], "device": ["http://n1", "http://n3"]}
    for up, at in (([1.0, 1.0], NOW - MINUTE), ([1.0, 0.0], NOW)):
        filler.roll("endpoint", at, {**columns, "up_max": up, "up_mean": up})
    yield made
    made.close()


class Shown:
    """Panels of boards over the last hour, as rows by column."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def panel(
        self, board: str, title: str, last: dt.datetime = NOW, **chosen: str | tuple[str, ...]
    ) -> list[dict[str, Any]]:
        body = build.load()[f"gigawatch-{board}"]
        (panel,) = (p for p in model.panels(body) if p["title"] == title)
        over = Range(last - 60 * MINUTE, last, 10)
        values: model.Values = {
            "site": AllOf(["s"]),
            "job": AllOf(["a", "b"]),
            "rolled": "10s",
            "tier": "10s",
            **chosen,
        }
        found = self._client.query(expand(panel["targets"][0]["rawSql"], over, values))
        return [dict(zip(found.column_names, row, strict=True)) for row in found.result_rows]

    def options(self, board: str, name: str) -> list[str]:
        body = build.load()[f"gigawatch-{board}"]
        over = Range(START, NOW, 10)
        chosen = model.variables(lambda sql: self._client.query(sql).result_rows, body, over, {"site": ["s"]})
        (found,) = (v for v in chosen if v.name == name)
        return [value for _, value in found.options]


@pytest.fixture(scope="module")
def shown(client: Client) -> Shown:
    return Shown(client)


def test_a_job_is_what_it_holds_and_does(shown: Shown) -> None:
    assert shown.panel("jobs", "Jobs") == [{"jobs": 2, "allocated": 11.0, "heard": 10, "idle": 1}]
    rows = {row["job"]: row for row in shown.panel("jobs", "All jobs")}
    assert list(rows) == ["a", "b"]
    a = rows["a"]
    assert [a[n] for n in ("user", "account", "state", "allocated", "heard", "idle")] == [
        "ada",
        "models",
        "RUNNING",
        8,
        8,
        1,
    ]
    assert a["energy"] == pytest.approx(2 * 1.8e6 / 3.6e6)
    assert (a["gpu_hours"], a["idle_hours"]) == (pytest.approx(16 / 60), pytest.approx(2 / 60))
    assert (rows["b"]["user"], rows["b"]["allocated"], rows["b"]["heard"]) == (None, 3, 2)
    assert shown.panel("jobs", "Without a job") == [{"value": 16 - 8 - 3}]
    assert shown.options("jobs", "job") == ["a", "b", "over", "vanished"]


def test_a_straggler_costs_what_its_job_waits_for(shown: Shown) -> None:
    (slow,) = shown.panel("jobs", "Stragglers by rank")
    assert (slow["job"], slow["device"], slow["rank"]) == ("a", SLOW, 4)
    assert slow["costs_gpus"] == pytest.approx((0.8 - 0.4) / 0.8 * 8)
    (idle,) = shown.panel("jobs", "Held but idle")
    assert (idle["job"], idle["node"], idle["idle"]) == ("a", "n1", 1)


def test_nodes_that_are_out_come_first(shown: Shown) -> None:
    found = [(row["node"], row["state"], row["reason"], row["jobs"]) for row in shown.panel("jobs", "Nodes")]
    assert found == [("n4", "idle+drain", "fan", "b"), ("n1", "allocated", "", "a")]


def test_a_job_of_a_year_ago_has_its_energy(shown: Shown) -> None:
    (row,) = shown.panel("jobs", "All jobs", last=YEAR_AGO + 60 * MINUTE, job=("old",))
    assert row["energy"] == pytest.approx(60.0)
    assert row["gpu_hours"] == pytest.approx(4.0)


def test_a_gpu_shows_its_boards_and_its_holders(shown: Shown) -> None:
    rack, gpu = "R1", "n1-GPU0"
    (who,) = shown.panel("gpu", "Identity", rack=rack, gpu=gpu)
    assert (who["board"], who["job"]) == ("GPU-10", "a")
    places = {(row["board"], row["device"]) for row in shown.panel("gpu", "Boards at this place", rack=rack, gpu=gpu)}
    assert places == {("GPU-10", "n1-GPU0"), ("GPU-33", "n1-GPU0"), ("GPU-10", "n3-GPU3"), ("GPU-33", "n3-GPU3")}
    assert [(row["job"], row["until"]) for row in shown.panel("gpu", "Who held it", rack=rack, gpu=gpu)] == [
        ("a", None)
    ]
    (held,) = shown.panel("gpu", "Who held it", rack="R2", gpu="n3-GPU1")
    assert (held["job"], held["rank"]) == ("b", 1)


@pytest.mark.parametrize(
    ("board", "element", "rows"),
    [
        ("power", "FEED-A", [("left without redundancy", 18e3, 2, 16, 384, 2)]),
        ("power", "PDU-7", [("lost with it", 10e3, 1, 8, 192, 1), ("left without redundancy", 4e3, 1, 4, 96, 1)]),
        ("power", "BREAKER-3", [("lost with it", 8e3, 1, 8, 192, 1)]),
        ("cooling", "CDU-1", [("lost with it", 8e3, 1, 8, 192, 1)]),
        ("power", "nothing", []),
    ],
)
def test_the_blast_radius_is_power_racks_gpus_hours_and_jobs(
    shown: Shown, board: str, element: str, rows: list[tuple[Any, ...]]
) -> None:
    names = ("what", "power", "racks", "GPUs", "gpu_hours_a_day", "jobs")
    found = shown.panel(board, "Blast radius", element=element)
    assert [tuple(row[n] for n in names) for row in found] == rows
    by_rack = shown.panel(board, "Behind it by rack", element=element)
    assert sum(row["power"] for row in by_rack) == sum(row[1] for row in rows)


def test_elements_are_those_of_the_boards_network(shown: Shown) -> None:
    assert shown.options("power", "element") == ["BREAKER-3", "FEED-A", "PDU-7"]
    assert shown.options("cooling", "element") == ["CDU-1"]


def test_what_is_not_heard_shows(shown: Shown) -> None:
    assert shown.panel("health", "Endpoints") == [{"answering": 1, "down": 1}]
    (down,) = shown.panel("health", "Endpoints that are down")
    assert (down["endpoint"], down["node"], down["rack"]) == ("http://n3", "n3", "R2")
    assert shown.panel("health", "Not heard")[0]["GPUs"] == 8
    assert [row["expected"] - row["heard"] for row in shown.panel("factory", "GPUs expected and heard")] == [8]
