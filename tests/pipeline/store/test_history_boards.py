"""History of boards and jobs on the real engine: boards that change places, jobs that change boards; on every tier."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from pipeline.store import rollup
from pipeline.store.client import open_folder
from pipeline.store.history import AskError, HistoryQuery, history
from pipeline.store.migrate import migrate
from tests.pipeline.store.model_rows import NEVER, Filler, Gpu, Hold, hold, put

#: A whole hour of today, which is over.
START = dt.datetime.fromtimestamp((int(time.time()) // 3600 - 1) * 3600, dt.UTC)
TICKS, CHANGE = 120, 60
SPANS = {"raw": 3600, "10s": 86_400, "1m": 30 * 86_400, "1h": 61 * 86_400}
#: Board -> its temperature, which never changes, and the J that each second adds; "" is the GPU that has none.
TEMP = {"A": 50.0, "B": 60.0, "C": 70.0, "D": 80.0, "": 90.0}
JOULES = {"A": 100.0, "B": 200.0, "C": 300.0, "D": 400.0, "": 500.0}


def at(tick: float) -> dt.datetime:
    return START + dt.timedelta(seconds=tick)


def gpus(tick: int) -> list[Gpu]:
    """A and B change places in the rack, C moves to another rack; D and the one without a board stay."""
    a, b = (0, 1) if tick < CHANGE else (1, 0)
    moved = Gpu("R1", "n2", 0, "C") if tick < CHANGE else Gpu("R2", "n3", 0, "C")
    return [Gpu("R1", "n1", a, "A"), Gpu("R1", "n1", b, "B"), moved, Gpu("R2", "n4", 0, "D"), Gpu("R2", "n4", 1)]


HOLDS = [
    Hold("one", "R1", "n1", at(0), at(CHANGE), ("n1-GPU0",)),
    Hold("two", "R1", "n1", at(CHANGE), devices=("n1-GPU0",)),
    Hold("pod-1", "", "n2", at(0), devices=("C",), share=0.25),  # by its board, wherever that is
    Hold("pod-2", "", "n2", at(0), devices=("C",), share=0.25),
    Hold("wide", "R1", "n1", at(0), at(CHANGE), ("n1-GPU1",)),
    Hold("wide", "R2", "n4", at(0), at(CHANGE)),  # all of the node
    Hold("early", "R2", "n4", at(CHANGE), at(CHANGE + 40), ("n4-GPU0",)),
    Hold("late", "R2", "n4", at(CHANGE + 40), devices=("n4-GPU0",)),
    Hold("elsewhere", "R7", "n1", at(0), devices=("n1-GPU0",)),  # a node of that name in another rack
]


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder: Path = tmp_path_factory.mktemp("boards")
    (folder / "clickhouse").mkdir()
    client = open_folder(folder)
    migrate(client)
    filler = Filler(client)
    for tick in range(TICKS):
        here = gpus(tick)
        energy = [1e9 + JOULES[g.board] * tick for g in here]
        filler.samples(at(tick), here, temp_c=[TEMP[g.board] for g in here], energy_j=energy)
        if tick % 10 == 0:
            temp, steps = [TEMP[g.board] for g in here], 9 if tick == 0 else 10
            inc = [steps * JOULES[g.board] for g in here]
            filler.pane(at(tick + 10), here, temp_c_mean=temp, temp_c_max=temp, energy_j_inc=inc)
    rollup.Roller(client).roll(everything=True)
    hold(client, HOLDS)
    put(client, "name", [{"site": "s", "system": "pci", "name": "0000:1b", "asset": "A", "valid_from": START}])
    put(client, "asset", [{"site": "s", "asset": "SER-9", "kind": "gpu", "node": "n4", "device": "n4-GPU1"}])
    yield client
    client.close()


def ask(client: Client, tier: str, metric: str, by: str, **more: Any) -> dict[Any, Any]:
    """Line -> (mean or increase, samples), over all that is stored."""
    last = at(TICKS)
    span = dt.timedelta(seconds=SPANS[tier])
    query = HistoryQuery(metric, first=last - span, last=last + dt.timedelta(hours=1), every_s=3600.0, by=by, **more)
    if tier in ("raw", "10s"):
        query = HistoryQuery(metric, first=last - span, last=last, every_s=3600.0, by=by, **more)
    lines: dict[Any, Any] = {}
    for row in history(client, query).to_pylist():
        line = (row["device"], row["board"]) if by == "device" else row[by]
        assert line not in lines, "one row a line, since all lies in one hour"
        lines[line] = (round(row.get("mean", row.get("increase")), 6), row["samples"])
    return lines


ALL = pytest.mark.parametrize("tier", ["raw", "10s", "1m", "1h"])
FINE = pytest.mark.parametrize("tier", ["raw", "10s", "1m"])


@FINE
def test_a_place_shows_which_board_it_held(stored: Client, tier: str) -> None:
    found = ask(stored, tier, "gpu.temp_c", "device", place="n1-GPU0")
    assert found == {("n1-GPU0", "A"): (50.0, 60), ("n1-GPU0", "B"): (60.0, 60)}


@ALL
def test_a_board_keeps_its_history_through_places(stored: Client, tier: str) -> None:
    assert ask(stored, tier, "gpu.temp_c", "board", place="A") == {"A": (50.0, 120)}
    assert ask(stored, tier, "gpu.temp_c", "rack", place="C") == {"R1": (70.0, 60), "R2": (70.0, 60)}
    found = ask(stored, tier, "gpu.temp_c", "device", place="C")
    assert found == {("n2-GPU0", "C"): (70.0, 60), ("n3-GPU0", "C"): (70.0, 60)}
    found = ask(stored, tier, "gpu.temp_c", "board")
    assert found == {"A": (50.0, 120), "B": (60.0, 120), "C": (70.0, 120), "D": (80.0, 120), "n4-GPU1": (90.0, 120)}


@ALL
def test_a_counter_goes_on_where_its_board_goes(stored: Client, tier: str) -> None:
    found = ask(stored, tier, "gpu.energy_j", "board")
    assert {line: value for line, (value, _) in found.items()} == {
        (board or "n4-GPU1"): 119 * joules for board, joules in JOULES.items()
    }
    found = ask(stored, tier, "gpu.energy_j", "device", place="n1-GPU0")
    assert found == {("n1-GPU0", "A"): (59 * 100.0, 60), ("n1-GPU0", "B"): (60 * 200.0, 60)}


@FINE
def test_a_jobs_rows_are_those_of_its_boards_while_it_held_them(stored: Client, tier: str) -> None:
    assert ask(stored, tier, "gpu.temp_c", "board", job="one") == {"A": (50.0, 60)}
    assert ask(stored, tier, "gpu.temp_c", "board", job="two") == {"B": (60.0, 60)}
    assert ask(stored, tier, "gpu.energy_j", "board", job="two") == {"B": (60 * 200.0, 60)}
    assert ask(stored, tier, "gpu.temp_c", "board", job="elsewhere") == {}
    found = ask(stored, tier, "gpu.temp_c", "rack", job="wide")
    assert found == {"R1": (60.0, 60), "R2": (85.0, 120)}, "both GPUs of the whole node"
    assert ask(stored, tier, "gpu.temp_c", "board", job="wide", place="R1") == {"B": (60.0, 60)}


@ALL
def test_a_shared_gpu_divides_energy_and_no_temperature(stored: Client, tier: str) -> None:
    for pod in ("pod-1", "pod-2"):
        assert ask(stored, tier, "gpu.energy_j", "job", job=pod) == {pod: (119 * 300.0 / 4, 120)}
        assert ask(stored, tier, "gpu.temp_c", "job", job=pod) == {pod: (70.0, 120)}


@pytest.mark.parametrize(("tier", "early", "late"), [("raw", 40, 20), ("10s", 40, 20), ("1m", 60, 0)])
def test_a_job_change_within_a_minute(stored: Client, tier: str, early: int, late: int) -> None:
    """A minute belongs to the job that has more than half of it."""
    found = ask(stored, tier, "gpu.temp_c", "job", place="n4-GPU0")
    wanted = {"wide": (80.0, 60), "early": (80.0, early), "late": (80.0, late)}
    assert found == {job: row for job, row in wanted.items() if row[1]}


@pytest.mark.parametrize(("ends", "found"), [(4.9, 0), (5.0, 10), (5.1, 10), (15.0, 20)])
def test_a_roll_up_of_which_a_job_has_half_is_of_the_job_that_begins_it(
    stored: Client, ends: float, found: int
) -> None:
    name = f"half-{ends}"
    hold(stored, [Hold(name, "R2", "n4", at(0), at(ends), ("n4-GPU1",))])
    assert sum(n for _, n in ask(stored, "10s", "gpu.temp_c", "site", job=name).values()) == found


@FINE
def test_by_job_each_row_counts_for_each_job_and_for_none(stored: Client, tier: str) -> None:
    found = ask(stored, tier, "gpu.temp_c", "job", place="R1")
    assert found == {
        "one": (50.0, 60),
        "two": (60.0, 60),
        "wide": (60.0, 60),
        "pod-1": (70.0, 60),
        "pod-2": (70.0, 60),
        "": (50.0, 60),  # A at GPU1 after the change
    }


def test_another_systems_name_leads_to_the_board_or_to_its_place(stored: Client) -> None:
    assert ask(stored, "raw", "gpu.temp_c", "board", place="0000:1b") == {"A": (50.0, 120)}
    assert ask(stored, "raw", "gpu.temp_c", "device", place="SER-9") == {("n4-GPU1", ""): (90.0, 120)}
    assert ask(stored, "raw", "gpu.temp_c", "device", place="nobody") == {}


def test_without_a_range_a_job_is_asked_for_its_own_time(stored: Client) -> None:
    rows = history(stored, HistoryQuery("gpu.temp_c", job="one", by="job")).to_pylist()
    assert [r["bucket"] for r in (rows[0], rows[-1])] == [at(0), at(CHANGE - 1)]
    assert sum(r["samples"] for r in rows) == 60
    rows = history(stored, HistoryQuery("gpu.temp_c", job="late", by="job")).to_pylist()
    assert (rows[0]["bucket"], rows[-1]["bucket"]) == (at(CHANGE + 40), at(TICKS - 1)), "it holds on until now"
    with pytest.raises(AskError, match="no job 'nosuch' held anything"):
        history(stored, HistoryQuery("gpu.temp_c", job="nosuch"))


def test_a_job_of_other_kinds_has_what_its_nodes_have(stored: Client) -> None:
    filler = Filler(stored)
    cpus = {"site": ["s", "s"], "rack": ["R1", "R1"], "node": ["n1", "n2"], "device": ["n1-CPU0", "n2-CPU0"]}
    filler.roll("node", at(10), {**cpus, "util_pct_mean": [25.0, 75.0], "util_pct_max": [25.0, 75.0]})
    assert ask(stored, "10s", "node.util_pct", "device", job="one") == {("n1-CPU0", ""): (25.0, 10)}


def test_an_instance_is_found_by_its_board_and_held_with_it(stored: Client) -> None:
    who = {"site": ["s"] * 2, "rack": ["R1"] * 2, "node": ["n9"] * 2, "device": ["n9-GPU0/1", "n9-GPU0/2"]}
    rows = {**who, "board": ["GPU-9/1", "GPU-9/2"], "util_pct_mean": [10.0, 30.0], "util_pct_max": [10.0, 30.0]}
    Filler(stored).roll("gpu_instance", at(10), rows)
    hold(
        stored, [Hold("slices", "", "n9", at(0), NEVER, ("GPU-9/2",)), Hold("all", "", "n9", at(0), NEVER, ("GPU-9",))]
    )
    assert ask(stored, "10s", "gpu_instance.util_pct", "site", place="GPU-9") == {"s": (20.0, 20)}
    assert ask(stored, "10s", "gpu_instance.util_pct", "board", job="slices") == {"GPU-9/2": (30.0, 10)}
    assert ask(stored, "10s", "gpu_instance.util_pct", "site", job="all") == {"s": (20.0, 20)}
