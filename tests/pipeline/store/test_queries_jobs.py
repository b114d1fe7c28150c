"""Questions about jobs on the real engine: rows made by hand, answers worked out by hand."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from pipeline.store.client import open_folder
from pipeline.store.migrate import migrate
from tests.pipeline.store.model_rows import Filler, Gpu, Hold, answer, hold, put, who

NOW = dt.datetime.fromtimestamp(int(time.time()) // 60 * 60 - 600, dt.UTC)
LONG_AGO = NOW - dt.timedelta(days=400)


def ago(minutes: float) -> dt.datetime:
    return NOW - dt.timedelta(minutes=minutes)


#: `train` holds two GPUs by name and a node whole, in two racks; its last GPU is half as busy as the others.
HOLDS = [
    Hold("train", "R1", "n1", ago(60), devices=("n1-GPU0", "n1-GPU1")),
    Hold("train", "R2", "n2", ago(60), first_rank=2),
    Hold("lazy", "R2", "n3", ago(30), devices=("n3-GPU0", "n3-GPU1")),
    Hold("pod-a", "R2", "n4", ago(30), devices=("GPU-4",), share=0.25),
    Hold("pod-b", "R2", "n4", ago(30), devices=("GPU-4",), share=0.25),
    Hold("done", "R2", "n3", ago(300), ago(120), ("n3-GPU0",)),
    Hold("ancient", "R1", "n1", LONG_AGO, LONG_AGO + dt.timedelta(hours=10), ("n1-GPU0", "n1-GPU1")),
]
HEARD = {
    Gpu("R1", "n1", 0, "GPU-10"): (0.8, 90.0),
    Gpu("R1", "n1", 1, "GPU-11"): (0.8, 90.0),
    Gpu("R2", "n2", 0, "GPU-20"): (0.8, 90.0),
    Gpu("R2", "n2", 1, "GPU-21"): (0.4, 88.0),
    Gpu("R2", "n3", 0, "GPU-30"): (0.0, 1.0),
    Gpu("R2", "n4", 0, "GPU-4"): (0.5, 60.0),
    Gpu("R2", "n4", 1): (0.3, 50.0),  # nobody's, and without a board
}


def minute(job: str, rack: str, ts: dt.datetime, **values: Any) -> dict[str, Any]:
    blank = {"tensor_active_mean": 0.0, "slowest_util_pct": 0.0}
    return {"ts": ts, "window_s": 60, "site": "s", "job": job, "rack": rack, **blank, **values}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder: Path = tmp_path_factory.mktemp("jobs")
    (folder / "clickhouse").mkdir()
    made = open_folder(folder)
    migrate(made)
    filler, gpus = Filler(made), list(HEARD)
    stats = {
        "sm_active_mean": [active for active, _ in HEARD.values()],
        "util_pct_mean": [util for _, util in HEARD.values()],
        "power_w_mean": [700.0] * len(gpus),
        "tensor_active_mean": [0.5] * len(gpus),
        "temp_c_max": [60.0] * len(gpus),
        "temp_c_mean": [60.0 - k for k in range(len(gpus))],
    }
    for seconds in range(120, -1, -10):
        filler.pane(NOW - dt.timedelta(seconds=seconds), gpus, **stats)
    for hour in range(1, 11):
        old = {**who(gpus[:2]), "sm_active_mean": [0.6, 0.3], "util_pct_mean": [70.0, 70.0]}
        filler.roll("gpu", LONG_AGO + dt.timedelta(hours=hour), old, 3600, tier="1h")
    hold(made, HOLDS)
    rows = []
    for k in (1, 0):
        busy = {"gpus": 2.0, "heard": 2, "idle": 0}
        rows += [
            minute("train", "R1", ago(k), **busy, util_pct_mean=80.0, power_w=1000.0, energy_j=60_000.0),
            minute("train", "R2", ago(k), **busy, util_pct_mean=60.0, power_w=800.0, energy_j=48_000.0),
            minute("lazy", "R2", ago(k), gpus=2.0, heard=1, idle=1, util_pct_mean=1.0, power_w=90.0, energy_j=5400.0),
        ]
        done = {"gpus": 1.0, "heard": 1, "idle": 0, "util_pct_mean": 50.0, "power_w": 600.0, "energy_j": 36_000.0}
        rows.append(minute("done", "R2", ago(120 + k), **done))
        rows.append(minute("ancient", "R1", LONG_AGO + dt.timedelta(minutes=1 + k), **{**done, "energy_j": 3.6e6}))
    put(made, "job_window", rows)
    job = {"seen": NOW, "site": "s", "scheduler": "slurm", "submitted": ago(70)}
    put(
        made,
        "job",
        [
            {**job, "job": "train", "user": "ada", "name": "llm", "state": "PENDING", "seen": ago(65)},
            {
                **job,
                "job": "train",
                "user": "ada",
                "name": "llm",
                "state": "RUNNING",
                "started": ago(60),
                "account": "x",
            },
            {**job, "job": "done", "user": "bob", "state": "COMPLETED", "started": ago(300), "ended": ago(120)},
            {**job, "job": "next", "user": "eve", "state": "PENDING", "submitted": ago(5)},
        ],
    )
    states = {"site": "s", "scheduler": "slurm", "gpus": 2, "gpus_used": 2, "seen": NOW}
    put(
        made,
        "node_state",
        [
            {**states, "rack": "R1", "node": "n1", "state": "allocated", "since": ago(60)},
            {**states, "rack": "R2", "node": "n2", "state": "allocated", "since": ago(60)},
            {**states, "rack": "R2", "node": "n2", "state": "mixed+drain", "reason": "bad fan", "since": ago(3)},
        ],
    )
    yield made
    made.close()


def test_jobs_now_and_of_the_last_day(client: Client) -> None:
    found = {row["job"]: row for row in answer(client, "jobs")}
    assert next(iter(found)) == "train", "running ones first, by their power"
    assert set(found) == {"train", "lazy", "pod-a", "pod-b", "done", "next"}, "not that of a year ago"
    assert list(found["train"].values()) == [
        *("s", "train", "ada", "llm", "RUNNING", 4.0, 4, 0, 70.0, 1.8, 0.06),
        *(ago(60).replace(tzinfo=None), None),
    ]
    assert [found["lazy"][n] for n in ("state", "gpus", "heard", "idle", "util_pct")] == ["RUNNING", 2.0, 1, 1, 1.0]
    assert [found["pod-a"][n] for n in ("gpus", "power_kw")] == [0.25, None], "a quarter of a GPU"
    done = found["done"]
    assert [done[n] for n in ("state", "gpus", "heard", "util_pct", "kwh")] == ["COMPLETED", 1.0, None, 50.0, 0.02]
    assert (done["since"], done["until"]) == (ago(300).replace(tzinfo=None), ago(120).replace(tzinfo=None))
    assert [found["next"][n] for n in ("state", "gpus", "since")] == ["PENDING", 0.0, ago(5).replace(tzinfo=None)]


def test_one_job(client: Client) -> None:
    (head,) = answer(client, "job", "train")
    shown = ("job", "scheduler", "user", "account", "name", "state", "nodes", "racks", "gpus", "kwh", "gpu_h")
    assert [head[n] for n in shown] == ["train", "slurm", "ada", "x", "llm", "RUNNING", 2, 2, 4.0, 0.06, 0.13]
    assert (head["started"], head["ended"]) == (ago(60).replace(tzinfo=None), None)
    nodes = answer(client, "job", "train", 1)
    columns = ("rack", "node", "gpus", "node_state", "node_reason", "until")
    assert [[row[n] for n in columns] for row in nodes] == [
        ["R1", "n1", 2.0, "allocated", "", None],
        ["R2", "n2", 2.0, "mixed+drain", "bad fan", None],
    ]
    assert answer(client, "job", "nosuch") == []


def test_a_straggler_costs_the_job_what_all_others_wait(client: Client) -> None:
    """Half of the median's activity: each of four GPUs loses half of its time, two GPU-hours an hour."""
    found = answer(client, "job", "train", 2)
    assert [(r["rank"], r["device"], r["board"], r["verdict"], r["costs_gpu_h"]) for r in found] == [
        (3, "n2-GPU1", "GPU-21", "drags the job", 2.0),
        (0, "n1-GPU0", "GPU-10", "", 0.0),
        (1, "n1-GPU1", "GPU-11", "", 0.0),
        (2, "n2-GPU0", "GPU-20", "", 0.0),
    ]
    assert (found[0]["activity"], found[0]["util_pct"], found[0]["power_w"]) == (0.4, 88.0, 700.0)


def test_held_but_idle_and_held_but_silent(client: Client) -> None:
    found = answer(client, "job", "lazy", 2)
    assert [(r["rank"], r["device"], r["verdict"], r["costs_gpu_h"]) for r in found] == [
        (0, "n3-GPU0", "idle", 1.0),
        (1, "n3-GPU1", "silent", None),
    ]


def test_a_gpu_that_is_held_by_its_board(client: Client) -> None:
    (row,) = answer(client, "job", "pod-b", 2)
    assert (row["device"], row["board"], row["verdict"]) == ("n4-GPU0", "GPU-4", "")


def test_a_job_of_a_year_ago_is_answered_from_hours(client: Client) -> None:
    (head,) = answer(client, "job", "ancient")
    assert (head["state"], head["kwh"], head["gpus"]) == ("ENDED", 2.0, 2.0)
    found = answer(client, "job", "ancient", 2)
    # the median of 0.6 and 0.3 is 0.45: (0.45 - 0.3) / 0.45 x 2
    assert [(r["rank"], r["verdict"], r["costs_gpu_h"]) for r in found] == [(1, "drags the job", 0.667), (0, "", 0.0)]


def test_only_that_jobs_minutes_are_read(client: Client) -> None:
    """Its granules are found by the key: the job is its second column."""
    plan = client.query(
        "EXPLAIN indexes = 1 SELECT sum(energy_j) FROM gigawatch.job_windows FINAL WHERE window_s = 60 AND job = 'a'"
    ).result_rows
    assert "job" in [str(row[0]).strip() for row in plan], "a key of the primary index"


def test_who_is_busiest_and_what_nobody_holds(client: Client) -> None:
    found = {r["job"]: (r["gpus"], r["racks"], r["util_pct"], r["power_kw"]) for r in answer(client, "busiest")}
    assert found == {
        "train": (4, 2, 89.5, 2.8),
        "lazy": (1, 1, 1.0, 0.7),
        "pod-a": (1, 1, 60.0, 0.2),  # a quarter of 700 W
        "pod-b": (1, 1, 60.0, 0.2),
        "(no job)": (1, 1, 50.0, 0.7),
    }


def test_energy_by_job_over_all_time(client: Client) -> None:
    found = {r["job"]: (r["gpus"], r["kwh"], r["gpu_h"], r["idle_gpu_h"]) for r in answer(client, "energy")}
    assert found["ancient"] == (1.0, 2.0, 0.03, 0.0)
    assert found["train"] == (4.0, 0.06, 0.13, 0.0)
    assert found["lazy"] == (2.0, 0.003, 0.07, 0.03)


def test_the_hottest_name_their_jobs(client: Client) -> None:
    found = answer(client, "hottest")
    assert [(r["device"], r["job"]) for r in found] == [
        ("n1-GPU0", "train"),
        ("n1-GPU1", "train"),
        ("n2-GPU0", "train"),
        ("n2-GPU1", "train"),
        ("n3-GPU0", "lazy"),
        ("n4-GPU0", "pod-a, pod-b"),
        ("n4-GPU1", ""),
    ]


def test_nodes_that_are_out_of_service_come_first(client: Client) -> None:
    found = answer(client, "nodes")
    assert [(r["node"], r["state"], r["reason"]) for r in found] == [
        ("n2", "mixed+drain", "bad fan"),
        ("n1", "allocated", ""),
    ]
