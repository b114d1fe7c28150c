"""The Slurm source against a real Slurm: who held which GPUs from when to when, jobs, and states of nodes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from producers.emission import Event, SourceFailure
from producers.sources.options import BuildContext
from producers.sources.slurm import SlurmSettings
from producers.sources.slurm.source import Slurm
from tests.slurm_cluster import SlurmCluster, slurm

__all__ = ["slurm"]

pytestmark = [pytest.mark.service(60), pytest.mark.xdist_group("slurm")]


@pytest.fixture
def cluster(slurm: SlurmCluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlurmCluster]:
    """The cluster without jobs, both nodes in service; squeue and sinfo find it."""
    for name, value in slurm.environment.items():
        monkeypatch.setenv(name, value)
    yield slurm
    slurm.cancel("--user=root")
    slurm.until(lambda: not slurm.run("squeue", "--all", "--noheader").strip(), "all jobs ended")


async def polled(source: Slurm) -> dict[str, list[dict[str, Any]]]:
    """The rows of one poll, by stream; it must succeed."""
    found: dict[str, list[dict[str, Any]]] = {"allocation": [], "job": [], "node_state": []}
    async with aclosing(source.emissions()) as run:
        async for emission in run:
            assert isinstance(emission, Event), source.errors
            found[emission.derived.name] += emission.batch.to_pylist()
    return found


def source_of_one_poll(url: str = "") -> Slurm:
    """A source that ends after each poll and keeps what it knows."""
    made = SlurmSettings(slurm_url=url, slurm_every_s=1, site="lab", ticks=1).build(BuildContext(time.time()))
    assert isinstance(made, Slurm)
    return made


def held(rows: dict[str, list[dict[str, Any]]]) -> dict[tuple[str, str], tuple[list[str], bool]]:
    """(job, node) -> devices, and whether they are held still."""
    return {(r["job"], r["node"]): (r["devices"], r["ended"].timestamp() == 0) for r in rows["allocation"]}


def states(rows: dict[str, list[dict[str, Any]]]) -> dict[str, str]:
    return {r["job"]: r["state"] for r in rows["job"]}


async def test_a_job_is_followed_from_its_start_to_its_end(cluster: SlurmCluster) -> None:
    source, before = source_of_one_poll(), time.time()
    train = cluster.submit("--gres=gpu:2", "--job-name=train", "--nodelist=n1")
    cluster.until(lambda: cluster.states()[train] == "RUNNING", "the job runs")
    first = await polled(source)
    assert held(first) == {(train, "n1"): (["n1-GPU0", "n1-GPU1"], True)}
    row = first["allocation"][0]
    assert (row["site"], row["scheduler"], row["share"], row["first_rank"]) == ("lab", "slurm", 1.0, 0)
    assert before - 2 <= row["started"].timestamp() <= row["seen"].timestamp() <= time.time()
    job = next(r for r in first["job"] if r["job"] == train)
    assert (job["name"], job["cluster"], job["user"], job["partition"]) == ("train", "gw", "root", "main")
    assert (job["state"], job["nodes"], job["gpus"]) == ("RUNNING", 1, 2)
    assert {(r["node"], r["gpus"]) for r in first["node_state"]} == {("n1", 4), ("n2", 4)}

    cluster.cancel(train)
    cluster.until(lambda: cluster.states()[train] == "CANCELLED", "the job is cancelled")
    last = await polled(source)
    assert held(last) == {(train, "n1"): (["n1-GPU0", "n1-GPU1"], False)}
    end = last["allocation"][0]
    assert end["started"] == row["started"]
    assert row["started"] < end["ended"] <= end["seen"]
    assert states(last)[train] == "CANCELLED"
    assert held(await polled(source)) == {}


async def test_jobs_on_two_nodes_arrays_and_heterogeneous_jobs(cluster: SlurmCluster) -> None:
    source = source_of_one_poll()
    pair = cluster.submit("--nodes=2", "--gres=gpu:1", "--distribution=block")
    array = cluster.submit("--array=5,7", "--gres=gpu:1", "--nodelist=n2")
    mixed = cluster.submit("--gres=gpu:1", "--nodelist=n1", ":", "--gres=gpu:1", "--nodelist=n2")
    wide = cluster.submit("--array=0-1", "--gres=gpu:4", "--nodelist=n1")
    cluster.until(lambda: list(cluster.states().values()).count("RUNNING") == 5, "five jobs run")
    rows = await polled(source)
    on_nodes = held(rows)
    assert set(on_nodes) == {
        (pair, "n1"),
        (pair, "n2"),
        (f"{array}_5", "n2"),
        (f"{array}_7", "n2"),
        (f"{mixed}+0", "n1"),
        (f"{mixed}+1", "n2"),
    }
    devices = [device for names, _ in on_nodes.values() for device in names]
    assert sorted(devices) == ["n1-GPU0", "n1-GPU1", "n2-GPU0", "n2-GPU1", "n2-GPU2", "n2-GPU3"]
    ranks = {(r["job"], r["node"]): r["first_rank"] for r in rows["allocation"]}
    assert (ranks[pair, "n1"], ranks[pair, "n2"]) == (0, 1)
    waiting = {r["job"]: (r["state"], r["gpus"]) for r in rows["job"] if r["state"] == "PENDING"}
    assert waiting == {f"{wide}_0": ("PENDING", 4), f"{wide}_1": ("PENDING", 4)}


async def test_a_suspended_and_a_requeued_job_hold_twice(cluster: SlurmCluster) -> None:
    source = source_of_one_poll()
    job = cluster.submit("--gres=gpu:1", "--nodelist=n1")
    cluster.until(lambda: cluster.states()[job] == "RUNNING", "the job runs")
    first = (await polled(source))["allocation"][0]
    clock_passes(first["started"].timestamp())
    cluster.control("suspend", job)
    cluster.until(lambda: cluster.states()[job] == "SUSPENDED", "the job is suspended")
    assert held(await polled(source)) == {(job, "n1"): (["n1-GPU0"], False)}
    cluster.control("resume", job)
    cluster.until(lambda: cluster.states()[job] == "RUNNING", "the job is resumed")
    again = (await polled(source))["allocation"]
    assert [(r["devices"], r["ended"].timestamp()) for r in again] == [(["n1-GPU0"], 0)]
    assert again[0]["started"] > first["started"]
    cluster.control("requeue", job)
    cluster.until(lambda: cluster.states()[job] == "PENDING", "the job waits again")
    assert held(await polled(source)) == {(job, "n1"): (["n1-GPU0"], False)}


async def test_a_drained_node_with_its_reason(cluster: SlurmCluster) -> None:
    source = source_of_one_poll()
    await polled(source)
    before = time.time()
    cluster.drain("n2", "bad fan")
    try:
        drained = (await polled(source))["node_state"]
        assert [(r["node"], r["state"], r["reason"]) for r in drained] == [("n2", "idle+drain", "bad fan")]
        assert before - 2 <= drained[0]["since"].timestamp() <= time.time()
    finally:
        cluster.control("update", "nodename=n2", "state=undrain")
    cluster.until(lambda: cluster.nodes()["n2"] == "idle", "the node answers again")
    back = (await polled(source))["node_state"]
    assert [(r["node"], r["state"], r["reason"]) for r in back] == [("n2", "idle", "")]


async def test_a_controller_that_is_away_ends_nothing(
    cluster: SlurmCluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    source = source_of_one_poll()
    job = cluster.submit("--gres=gpu:1", "--nodelist=n1")
    cluster.until(lambda: cluster.states()[job] == "RUNNING", "the job runs")
    assert held(await polled(source)) == {(job, "n1"): (["n1-GPU0"], True)}
    away = tmp_path / "slurm.conf"
    away.write_text(Path(cluster.environment["SLURM_CONF"]).read_text().replace("SlurmctldPort=", "SlurmctldPort=1\n#"))
    with monkeypatch.context() as patch:
        patch.setenv("SLURM_CONF", str(away))
        async with aclosing(source.emissions()) as run:
            emitted = [emission async for emission in run]
        assert [(e.endpoint, e.site) for e in emitted if isinstance(e, SourceFailure)] == [("slurm", "lab")]
        assert len(emitted) == 1
        assert source.errors
    assert held(await polled(source)) == {}
    assert not source.errors


@pytest.mark.parametrize("local", [False, True])
async def test_slurmrestd_gives_what_the_commands_give(
    cluster: SlurmCluster, monkeypatch: pytest.MonkeyPatch, local: bool
) -> None:
    job = cluster.submit("--nodes=2", "--gres=gpu:3")
    cluster.until(lambda: cluster.states()[job] == "RUNNING", "the job runs")
    if not local:
        monkeypatch.setenv("GIGAWATCH_SLURM_TOKEN", cluster.token())
    with cluster.rest(local=local) as url:
        rows = await polled(source_of_one_poll(url))
    expected = await polled(source_of_one_poll())
    for each in (row for found in (rows, expected) for stream in found.values() for row in stream):
        for name in {"seen", "since"} & each.keys():
            del each[name]
    assert held(rows) == {(job, f"n{n}"): ([f"n{n}-GPU{gpu}" for gpu in range(3)], True) for n in (1, 2)}
    assert rows == expected


async def test_slurmrestd_refuses_a_token_that_is_not_valid(
    cluster: SlurmCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIGAWATCH_SLURM_TOKEN", cluster.token()[:-8] + "AAAAAAAA")
    with cluster.rest() as url:
        source = source_of_one_poll(url)
        async with aclosing(source.emissions()) as run:
            emitted = [emission async for emission in run]
    assert [e.endpoint for e in emitted if isinstance(e, SourceFailure)] == ["slurm"]
    assert len(emitted) == 1
    assert "slurmrestd" in source.errors["slurm"]


def clock_passes(second: float) -> None:
    """Until the next whole second: Slurm's times have no parts of one."""
    while time.time() < second + 1:
        time.sleep(0.05)
