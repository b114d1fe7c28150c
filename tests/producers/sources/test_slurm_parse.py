"""Slurm's answers of four versions, with one right answer: who holds what, which jobs, which states."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.sources.slurm import gres
from producers.sources.slurm.document import InvalidDump, records
from producers.sources.slurm.dump import NodeHold, NodeRecord, SlurmDump
from producers.sources.slurm.gres import HeldGpus
from producers.sources.slurm.hostlist import InvalidHostlist, expand, numbers
from producers.sources.slurm.parse import parse
from producers.sources.slurm.scheduler import SlurmScheduler
from tests.conftest import DATA

VERSIONS = ("22.05", "23.02", "24.05", "25.05")
T = 1_790_000_000_000


def sample(version: str) -> SlurmDump:
    folder = DATA / "slurm"
    return parse((folder / f"jobs-{version}.json").read_text(), (folder / f"nodes-{version}.json").read_text())


def dump(*jobs: dict[str, Any], nodes: list[dict[str, Any]] | None = None) -> SlurmDump:
    return parse(json.dumps({"jobs": jobs}), json.dumps({"nodes": nodes or []}))


def running(**fields: Any) -> dict[str, Any]:
    return {"job_id": 1, "job_state": ["RUNNING"], "nodes": "n1", "start_time": 5, "submit_time": 4, **fields}


@pytest.mark.parametrize("version", VERSIONS)
def test_who_holds_which_gpus_since_when(version: str) -> None:
    held = {(j.job, h.node): (h.indices, j.since - T) for j in sample(version).jobs.values() for h in j.holds}
    assert held == {
        ("101", "n1"): ((0, 1, 2, 5), 60_000),
        ("101", "n2"): ((0, 1, 2, 3, 4, 5, 6, 7), 60_000),
        ("102_7", "n1"): ((3, 4), 90_000),
        ("104+0", "n1"): ((6,), 95_000),
        ("104+1", "n1"): ((7,), 95_000),
    }


@pytest.mark.parametrize("version", VERSIONS)
def test_jobs_have_the_ids_that_users_know_and_no_forecast_is_taken_for_a_time(version: str) -> None:
    jobs = sample(version).jobs
    assert {(j.job, j.state, j.gpus, j.started and j.started - T, j.ended and j.ended - T) for j in jobs.values()} == {
        ("101", "RUNNING", 12, 60_000, 0),
        ("102_7", "RUNNING", 2, 90_000, 0),
        ("102_8", "PENDING", 2, 0, 0),
        ("102_9", "PENDING", 2, 0, 0),
        ("104+0", "RUNNING", 1, 95_000, 0),
        ("104+1", "RUNNING", 1, 95_000, 0),
        ("106", "CANCELLED", 3, 10_000, 50_000),
        ("107", "PENDING", 32, 0, 0),
        ("108", "SUSPENDED", 2, 20_000, 0),
    }
    assert (jobs["101"].cluster, jobs["101"].user, jobs["101"].account, jobs["101"].name) == (
        "iad",
        "ada",
        "ml",
        "train-llm",
    )
    assert (jobs["107"].reason, jobs["107"].nodes, jobs["101"].reason, jobs["101"].nodes) == ("Priority", 4, "", 2)


@pytest.mark.parametrize("version", VERSIONS)
def test_nodes_have_their_state_and_why(version: str) -> None:
    assert sample(version).nodes == {
        "n1": NodeRecord("n1", "allocated", gpus=8, gpus_used=8),
        "n2": NodeRecord("n2", "allocated", gpus=8, gpus_used=8),
        "n3": NodeRecord("n3", "down+not_responding", "xid 79", T + 5000, 8),
        "n4": NodeRecord("n4", "idle+drain", "bad fan", T + 6000, 8),
        "n5": NodeRecord("n5", "idle+maint", gpus=8),
        "n6": NodeRecord("n6", "mixed", gpus=8, gpus_used=2),
    }


def test_the_answers_recorded_from_a_real_slurm(recorded: Path) -> None:
    folder = recorded / "slurm-22.05"
    nodes = (folder / "sinfo.json").read_text()
    before, after = (parse((folder / f"{name}.json").read_text(), nodes) for name in ("squeue", "squeue_after_cancel"))
    assert {j.job: j.holds for j in before.jobs.values() if j.holds} == {
        "1": (NodeHold("n1", (0, 1), 2),),
        "2": (NodeHold("n1", (2,), 1),),
    }
    assert [j for j in before.jobs if before.jobs[j].state == "PENDING"] == ["3", "4_0", "4_1", "4_2"]
    assert (after.jobs["2"].state, after.jobs["2"].until, after.jobs["2"].holds) == ("CANCELLED", 1795562566000, ())
    assert before.nodes == {"n1": NodeRecord("n1", "allocated", gpus=4, gpus_used=3)}


@pytest.mark.parametrize(
    ("detail", "held"),
    [
        ("gpu:h100:2(IDX:0-1)", HeldGpus(2, (0, 1))),
        ("gpu:3(IDX:0-1,3)", HeldGpus(3, (0, 1, 3))),
        ("gpu:h100:1(IDX:0),gpu:a100:1(IDX:4),nic:2(IDX:0-1)", HeldGpus(2, (0, 4))),
        ("gpu:h100(CNT:2)", HeldGpus(2, None)),
        ("gpu:h100:2", HeldGpus(2, None)),
        ("gpu:1g.10gb:2(IDX:3-4)", HeldGpus(2, None)),  # instances, not boards
        ("gpu:h100:2(IDX:0)", HeldGpus(2, None)),  # the two do not agree
        ("gpu:0(IDX:N/A)", None),
        ("shard:h100:4(2/8,0/8,2/8)", HeldGpus(2, (0, 2), 0.25)),
        ("mps:50(0/100,50/100)", HeldGpus(1, (1,), 0.5)),
        ("nic:2(IDX:0-1)", None),
        ("", None),
    ],
)
def test_what_an_entry_of_gres_detail_holds(detail: str, held: HeldGpus | None) -> None:
    assert gres.held(detail) == held


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("gpu:h100:8(S:0-1)", 8),
        ("gpu:a100:4(S:0),gpu:h100:2(S:1),nic:2", 6),
        ("gpu:4", 4),
        ("gpu", 1),
        ("(null)", 0),
        ("gpu:h100:3(IDX:0-1,5)", 3),
        ("gpu:h100:no_consume:4", 4),
    ],
)
def test_gpus_of_a_node(text: str, count: int) -> None:
    assert gres.gpus(text) == count


def test_gpus_in_counted_resources() -> None:
    assert gres.allocated("cpu=8,mem=2G,gres/gpu=4,gres/gpu:h100=4") == 4
    assert gres.allocated("cpu=8,gres/gpu:h100=4,gres/gpu:a100=2") == 6
    assert gres.allocated("cpu=8,billing=4") == 0
    assert gres.requested("gres:gpu:h100:2") == gres.requested("gres/gpu:2") == 2


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("n1", ("n1",)),
        ("n[1-3],m", ("n1", "n2", "n3", "m")),
        (
            "gpu[001-002,020]-ib[0-1]",
            ("gpu001-ib0", "gpu001-ib1", "gpu002-ib0", "gpu002-ib1", "gpu020-ib0", "gpu020-ib1"),
        ),
        ("n[08-11]", ("n08", "n09", "n10", "n11")),
        ("", ()),
    ],
)
def test_names_of_a_hostlist(text: str, names: tuple[str, ...]) -> None:
    assert expand(text) == names


@pytest.mark.parametrize("text", ["n[1-", "n[a-b]", "n[3-1]", "n[0-9999999]", "n[0-999][0-999]", "n]1["])
def test_a_hostlist_that_is_none(text: str) -> None:
    with pytest.raises(InvalidHostlist):
        expand(text)


@given(st.lists(st.integers(0, 9999), max_size=40, unique=True))
def test_numbers_of_ranges_are_those_that_were_written(wanted: list[int]) -> None:
    assert numbers(",".join(map(str, wanted))) == tuple(wanted)
    assert numbers("0-1,3") == (0, 1, 3)
    assert numbers("0-8:4") == (0, 4, 8)


def test_a_count_without_indices_spreads_over_the_node_and_is_marked() -> None:
    nodes = [{"name": "n1", "state": ["MIXED"], "gres": "gpu:8", "gres_used": "gpu:2"}]
    found = dump(running(gres_detail=["gpu(CNT:2)"]), nodes=nodes)
    assert found.jobs["1"].holds == (NodeHold("n1", (), 2, 0.25, exact=False),)
    assert found.inexact == ["n1"]


def test_all_gpus_of_a_node_without_indices_are_exact() -> None:
    nodes = [{"name": "n1", "state": ["ALLOCATED"], "gres": "gpu:8"}]
    found = dump(running(gres_detail=["gpu(CNT:8)"]), nodes=nodes)
    assert (found.jobs["1"].holds, found.inexact) == ((NodeHold("n1", (), 8),), [])


def test_an_exclusive_job_that_asked_for_no_gpu_holds_those_that_slurm_counts() -> None:
    nodes = [{"name": name, "state": ["ALLOCATED"], "gres": "gpu:4"} for name in ("n1", "n2")]
    found = dump(running(nodes="n[1-2]", gres_detail=[], tres_alloc_str="cpu=8,gres/gpu=8"), nodes=nodes)
    assert found.jobs["1"].holds == (NodeHold("n1", (), 4), NodeHold("n2", (), 4))


def test_a_node_of_the_job_without_gpus_takes_no_rank_and_no_hold() -> None:
    found = dump(running(nodes="n[1-3]", gres_detail=["gpu:1(IDX:0)", None, "gpu:1(IDX:3)"]))
    assert [(h.node, h.indices) for h in found.jobs["1"].holds] == [("n1", (0,)), ("n3", (3,))]


def test_a_resumed_job_holds_since_it_was_resumed() -> None:
    found = dump(running(suspend_time={"set": True, "number": 9}, gres_detail=["gpu:1(IDX:0)"]))
    assert found.jobs["1"].since == 9000


def test_a_long_array_is_one_job() -> None:
    waiting = {"job_id": 7, "array_job_id": 7, "job_state": ["PENDING"], "submit_time": 4}
    assert list(dump({**waiting, "array_task_string": "0-99999"}).jobs) == ["7"]
    assert list(dump({**waiting, "array_task_string": "1,3,5,..."}).jobs) == ["7"]
    assert list(dump({**waiting, "array_task_string": "1,3"}).jobs) == ["7_1", "7_3"]


def test_a_record_that_cannot_be_read_is_counted_and_the_dump_is_not_whole() -> None:
    found = dump(running(gres_detail=["gpu:1(IDX:0)"]), running(job_id=2, nodes="n[1-"), {"job_state": "RUNNING"})
    assert list(found.jobs) == ["1"]
    assert (found.refused, found.whole) == ({"job-hostlist": 1, "job-without-id": 1}, False)


def test_texts_and_counts_that_no_column_holds_are_made_to_fit() -> None:
    odd = running(name="\ud800", tres_alloc_str="gres/gpu=999999999T", gres_detail=["gpu:999999999T"])
    found = dump(odd, nodes=[{"name": "n1", "state": ["\ud800"], "gres": "gpu:9T"}])
    assert (found.jobs["1"].name, found.jobs["1"].gpus, found.nodes["n1"].gpus) == ("?", gres.MOST, gres.MOST)
    events = SlurmScheduler("s").update(found, T)
    assert [event.batch.num_rows for event in events] == [1, 1, 1]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no-json"),
        ("slurm_load_jobs error: Unable to contact slurm controller", "no-json"),
        ('{"jobs": [{"job_id": 1}', "no-json"),
        ('{"jobs": [' + "[" * 100_000, "no-json"),
        ('{"meta": {}}', "no-list"),
        ('{"jobs": [], "errors": [{"description": "Zero Bytes were transmitted"}]}', "slurm-error"),
    ],
)
def test_an_answer_without_jobs_is_an_error_with_its_reason(text: str, reason: str) -> None:
    with pytest.raises(InvalidDump) as caught:
        parse(text, '{"nodes": []}')
    assert caught.value.reason == reason


@given(st.dictionaries(st.text(max_size=5), st.lists(st.integers() | st.text(max_size=5), max_size=4), max_size=4))
def test_records_are_those_of_the_json_library(document: dict[str, list[Any]]) -> None:
    text = json.dumps({**document, "jobs": [{"a": [1]}, 2]}, indent=2)
    assert list(records(text, "jobs")) == [("jobs", {"a": [1]}), ("jobs", 2)]
