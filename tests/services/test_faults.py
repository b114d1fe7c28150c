"""Real Apache Kafka, and everything broken on it: rows once, and every result what an undisturbed worker computes from
the same log.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from pipeline import kafka
from pipeline.bench.fault_injection import FAULTS, FaultCase
from pipeline.embedded.broker import Apache
from pipeline.embedded.ports import free_port
from schemas import topics
from tests.factories import Start, run, whole

pytestmark = [pytest.mark.service, pytest.mark.apache(70)]


#: Two factories beside each other have half of the faults each: they wait more than they compute.
HALVES = (
    (FAULTS[0::2], {"sink", "stream-0", "broker", "clickhouse"}),
    (FAULTS[1::2], {"stream-0", "stream-1", "broker"}),
)


def test_the_halves_have_every_fault_once() -> None:
    assert sorted(f.name for half, _ in HALVES for f in half) == sorted({fault.name for fault in FAULTS})
    assert set.union(*(restarts for _, restarts in HALVES)) >= {"sink", "stream-0", "broker", "clickhouse"}


@pytest.mark.apache(290)
@pytest.mark.parametrize(("faults", "restarted"), HALVES, ids=["one half", "the other half"])
def test_a_factory_on_apache_kafka_survives_everything_that_is_done_to_it(
    tmp_path: Path, faults: Sequence[FaultCase], restarted: set[str]
) -> None:
    """Time is not judged: only what is lost, doubled, or not the same to the last bit."""
    out = tmp_path / "faults.json"
    only = [word for fault in faults for word in ("--only", fault.name)]
    where = ("--json", str(out), "--folder", str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "bench", "faults", "--quick", *only, *where],
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    result = json.loads(out.read_text())
    assert set(result["faults"]) == {fault.name for fault in faults}
    assert all(fault["rows"] > 0 == fault["lost"] == fault["twice"] for fault in result["faults"].values())
    assert result["rows_produced"] == result["rows_stored"] > 30_000
    assert restarted <= set(result["restarts"])
    compared = result["compared"]
    assert all(c["wrong"] == 0 for c in compared.values())
    assert compared["rollup_gpu"]["rows"] > 3000
    assert compared["score"]["rows"] > 0
    assert compared["incident"]["rows"] > 0
    assert "all the same to the last bit" in done.stdout


def test_a_log_on_disk_is_taken_up_again(tmp_path: Path) -> None:
    for name in ("first", "second"):
        summary = tmp_path / f"{name}.json"
        run(
            "up",
            "--data-dir",
            str(tmp_path / "f"),
            "--broker",
            "apache",
            "--racks",
            "1",
            "--seconds",
            "12",
            "--summary",
            str(summary),
            timeout=240,
        )
        whole(json.loads(summary.read_text()))


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Apache, Apache]]:
    """Two brokers of one cluster; the first is its controller too."""
    both = {"offsets.topic.replication.factor": "2", "default.replication.factor": "2", "min.insync.replicas": "1"}
    first = Apache(tmp_path / "one", free_port(), heap="384m", properties=both)
    first.start()
    voters = next(
        line
        for line in (tmp_path / "one" / "kafka" / "server.properties").read_text().splitlines()
        if line.startswith("controller.quorum.voters=")
    )
    port = free_port()
    second = Apache(
        tmp_path / "two",
        port,
        heap="384m",
        cluster_id=first.cluster_id,
        properties={
            **both,
            "node.id": "2",
            "process.roles": "broker",
            "controller.quorum.voters": voters.partition("=")[2],
            "listeners": f"PLAINTEXT://127.0.0.1:{port}",
        },
    )
    second.start()
    yield first, second
    second.stop()
    first.stop()


async def _leaders(bootstrap: str) -> Counter[int]:
    async with kafka.admin(bootstrap) as client:
        described = await client.describe_topics(list(topics.TOPICS))
    return Counter(p["leader"] for t in described for p in t["partitions"])


def test_partitions_whose_leader_moves_lose_nothing(pair: tuple[Apache, Apache], factory: Start) -> None:
    first, second = pair
    bootstrap = f"{first.bootstrap},{second.bootstrap}"
    asyncio.run(kafka.ensure_topics(bootstrap, replication=2))
    assert asyncio.run(_leaders(bootstrap))[2] > 5, "both brokers lead partitions"
    up = factory("--racks", "2", "--broker", bootstrap)
    up.until_stored(10 * 144)
    second.process.kill()
    before = up.stored()
    up.until_stored(before + 15 * 144, timeout=120)
    assert set(asyncio.run(_leaders(first.bootstrap))) == {1}
    panes = up.stored("gpu_10s")
    up.until_stored(panes + 144, "gpu_10s", 60)
    summary = up.finish(150)
    whole(summary)
    folder = ("--data-dir", str(up.folder))
    ends = run(
        "query",
        "SELECT ts, count() AS n, min(samples) AS least FROM gpu_10s GROUP BY ts ORDER BY ts",
        "--format",
        "TSV",
        *folder,
    ).stdout.splitlines()
    assert {tuple(line.split("\t")[1:]) for line in ends[1:-1]} == {("144", "10")}, "every window has every sample"
