"""Blast radius on the real engine, in a hall of three racks whose answers are worked out by hand."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client

from pipeline.store.client import open_folder
from pipeline.store.migrate import migrate
from tests.pipeline.store.model_rows import Filler, Gpu, Hold, answer, hold, put

NOW = dt.datetime.fromtimestamp(int(time.time()) // 60 * 60 - 600, dt.UTC)
BEFORE = NOW - dt.timedelta(hours=1)
#: R1 has two nodes and a meter, R2 one node and no meter; R3 is in another hall.
NODES = {"n1": "R1", "n2": "R1", "n3": "R2", "n4": "R3"}
GPUS = [Gpu(rack, node, k, f"{node}-{k}") for node, rack in NODES.items() for k in (0, 1)]
#: Upstream -> what is behind it, and whether it is lost. Feeds A and B stand in for each other (2N); the CDU is alone.
REACH = {
    "FEED-A": {"R1": 0, "n1": 0, "n2": 0, "R2": 0, "n3": 0},
    "FEED-B": {"R1": 0, "n1": 0, "n2": 0, "R2": 0, "n3": 0},
    "CDU-1": {"R1": 1, "n1": 1, "n2": 1},
    "PDU-07": {"R1": 0, "n1": 0, "n2": 0, "SER-R2": 1},  # R2 by its asset id, which it has on no other feed
    "BREAKER-3": {"n3": 1},
}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder: Path = tmp_path_factory.mktemp("blast")
    (folder / "clickhouse").mkdir()
    made = open_folder(folder)
    migrate(made)
    gpu = {"site": "s", "kind": "gpu", "origin": "csv", "state": "active", "valid_from": BEFORE, "seen": BEFORE}
    assets = [
        {
            **gpu,
            "asset": g.board,
            "rack": g.rack,
            "node": g.node,
            "device": g.device,
            "hall": "H2" if g.rack == "R3" else "H1",
        }
        for g in GPUS
    ]
    assets.append({**gpu, "asset": "SER-R2", "kind": "rack", "rack": "R2"})
    repair = {"asset": "n1-9", "rack": "R1", "node": "n1", "device": "n1-GPU9", "state": "maintenance"}
    put(made, "asset", [*assets, {**gpu, **repair}])
    put(made, "name", [{"site": "s", "system": "bms", "name": "Q7.3", "asset": "PDU-07", "valid_from": BEFORE}])
    rows = [
        {"made": NOW, "site": "s", "upstream": up, "downstream": down, "depth": 1, "lost": lost}
        for up, below in REACH.items()
        for down, lost in below.items()
    ]
    gone = {"made": BEFORE, "site": "s", "upstream": "FEED-A", "downstream": "R3", "depth": 1, "lost": 1}
    put(made, "reach", [*rows, gone])
    window = {"ts": NOW, "window_s": 60, "site": "s", "model": "H100", "gpus": 4, "gpus_expected": 4, "kinds": 1}
    put(
        made,
        "rack",
        [
            {**window, "rack": "R1", "rack_power_w": 10_000.0, "gpu_power_w": 2800.0},
            {**window, "rack": "R2", "rack_power_w": None, "gpu_power_w": 1500.0},
            {**window, "rack": "R3", "rack_power_w": 9000.0, "gpu_power_w": 1500.0},
        ],
    )
    Filler(made).pane(NOW, GPUS, power_w_mean=[700.0] * len(GPUS), power_w_max=[700.0] * len(GPUS))
    hold(
        made,
        [
            Hold("wide", "R1", "n1", BEFORE),  # all of the node
            Hold("wide", "R2", "n3", BEFORE, devices=("n3-GPU0",)),
            Hold("pod", "", "n3", BEFORE, devices=("n3-1",), share=0.25),  # by board, rack not known
            Hold("far", "R3", "n4", BEFORE),
            Hold("over", "R1", "n2", BEFORE, NOW - dt.timedelta(minutes=5)),
        ],
    )
    yield made
    made.close()


LOST, SPARE = "lost", "redundancy lost"


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("FEED-A", [(SPARE, 0.0115, 2, 3, 6, 144, 2, "pod, wide")]),
        ("CDU-1", [(LOST, 0.01, 1, 2, 4, 96, 1, "wide")]),
        ("PDU-07", [(LOST, 0.0015, 1, 1, 2, 48, 2, "pod, wide"), (SPARE, 0.01, 1, 2, 4, 96, 0, "")]),
        ("BREAKER-3", [(LOST, 0.0014, 0, 1, 2, 48, 2, "pod, wide")]),  # the node's GPUs: the rack stays
        ("R2", [(LOST, 0.0015, 1, 1, 2, 48, 2, "pod, wide")]),  # no edge leads from it
        ("n1", [(LOST, 0.0014, 0, 1, 2, 48, 1, "wide")]),
        ("n3-GPU1", [(LOST, 0.0007, 0, 0, 1, 24, 0, "")]),
        ("H1", [(LOST, 0.0115, 2, 3, 6, 144, 2, "pod, wide")]),
        ("nothing", []),
    ],
)
def test_what_is_behind_it(client: Client, name: str, found: list[tuple[object, ...]]) -> None:
    rows = answer(client, "blast-radius", name)
    assert [tuple(row.values())[1:] for row in rows] == found


def test_it_is_found_by_another_systems_name(client: Client) -> None:
    assert answer(client, "blast-radius", "Q7.3") == answer(client, "blast-radius", "PDU-07")
