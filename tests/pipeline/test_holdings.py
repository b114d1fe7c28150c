"""What a job holds now: rows of frames by name, by board and by node, at their time."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.holdings import Holdings
from schemas.frame import Frame, build
from schemas.jobs import ALLOCATION

START = 1_800_000_000_000


def allocation(job: str, node: str, *devices: str, rack: str = "", ended: int = 0, started: int = START) -> Any:
    row = {"seen": started, "site": "s", "scheduler": "slurm", "job": job, "rack": rack, "node": node, "share": 1.0}
    return row | {"devices": list(devices), "first_rank": 0, "started": started, "ended": ended}


def holdings(*rows: dict[str, Any], job: str = "j") -> Holdings:
    made = Holdings(job)
    made.learn(ALLOCATION.build_rows(rows))
    return made


def gpus(ts_ms: int = START, rack: str = "R1", kind: str = "gpu", site: str = "s") -> Frame:
    """Two GPUs of n1, one of n2; the boards are A, B/1 (an instance) and none."""
    who = {
        "site": [site] * 3,
        "rack": [rack] * 3,
        "node": ["n1", "n1", "n2"],
        "device": ["n1-GPU0", "n1-GPU1", "n2-GPU0"],
        "board": ["A", "B/1", ""],
    }
    return build(kind, ts_ms, who, {"util_pct": [1.0, 2.0, 3.0]})


def util(found: Frame | None) -> list[float]:
    return [] if found is None else found.values("util_pct").tolist()


@pytest.mark.parametrize(
    ("hold", "rows"),
    [
        (allocation("j", "n1", "n1-GPU0"), [1.0]),
        (allocation("j", "n9", "A"), [1.0]),
        (allocation("j", "n9", "B"), [2.0]),
        (allocation("j", "n9", "B/1"), [2.0]),
        (allocation("j", "n9", "B/2"), []),
        (allocation("j", "n1"), [1.0, 2.0]),
        (allocation("j", "n1", "n1-GPU0", rack="R1"), [1.0]),
        (allocation("j", "n1", "n1-GPU0", rack="R2"), []),  # a node of that name in another rack
        (allocation("j", "n1", "A", rack="R2"), [1.0]),  # a board is itself wherever it is
        (allocation("other", "n1"), []),
    ],
)
def test_rows_of_what_is_held(hold: dict[str, Any], rows: list[float]) -> None:
    assert util(holdings(hold).rows_of(gpus())) == rows


def test_other_kinds_come_with_the_node() -> None:
    found = holdings(allocation("j", "n2", "n2-GPU0")).rows_of(gpus(kind="node"))
    assert util(found) == [3.0]
    assert found is not None
    assert found.kind == "node"


def test_a_hold_lasts_from_its_start_to_its_end() -> None:
    job = holdings(allocation("j", "n1", "A"))
    assert util(job.rows_of(gpus(START - 1))) == []
    assert util(job.rows_of(gpus(START + 10**9))) == [1.0]
    job.learn(ALLOCATION.build_rows([allocation("j", "n1", "A", ended=START + 5000)]))
    assert util(job.rows_of(gpus(START + 4999))) == [1.0]
    assert util(job.rows_of(gpus(START + 5000))) == []
    job.learn(ALLOCATION.build_rows([allocation("j", "n1", "n1-GPU1", started=START + 9000)]))
    assert util(job.rows_of(gpus(START + 9000))) == [2.0]


def test_sites_are_apart_and_a_frame_that_is_all_of_it_stays_whole() -> None:
    job = holdings(allocation("j", "n1"), allocation("j", "n2"))
    assert job.rows_of(gpus(site="elsewhere")) is None
    frame = gpus()
    assert job.rows_of(frame) is frame
    assert Holdings("j").rows_of(frame) is None
