"""Jobs that labels name, over time."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from producers.emission import Event
from producers.sources.label_jobs import LabelHold, LabelJobs
from schemas.jobs import ALLOCATION, JOB, REPEAT_S

A0 = LabelHold("7", "R1", "n1", ("n1-GPU0",))
A01 = LabelHold("7", "R1", "n1", ("n1-GPU0", "n1-GPU1"))
B0 = LabelHold("7", "R1", "n2", ("n2-GPU0",))


def rows_of(events: list[Event], name: str) -> list[dict[str, Any]]:
    """Rows of one stream, times as ms."""
    return [
        {k: round(v.timestamp() * 1000) if isinstance(v, datetime) else v for k, v in row.items()}
        for event in events
        if event.derived.name == name
        for row in event.batch.to_pylist()
    ]


def held(events: list[Event]) -> list[tuple[str, str, list[str], float, int, int]]:
    return [
        (r["job"], r["node"], r["devices"], r["share"], r["started"], r["ended"])
        for r in rows_of(events, ALLOCATION.name)
    ]


def states(events: list[Event]) -> list[tuple[str, str, int, int, int, int]]:
    return [(r["job"], r["state"], r["started"], r["ended"], r["nodes"], r["gpus"]) for r in rows_of(events, JOB.name)]


def test_a_job_starts_when_it_is_seen_and_ends_when_it_is_no_longer_shown() -> None:
    jobs = LabelJobs("s")
    assert jobs.update("e1", [], 1000) == []
    started = jobs.update("e1", [A0], 2000)
    assert held(started) == [("7", "n1", ["n1-GPU0"], 1.0, 2000, 0)]
    assert states(started) == [("7", "RUNNING", 2000, 0, 1, 1)]
    row = rows_of(started, ALLOCATION.name)[0]
    assert (row["site"], row["scheduler"], row["rack"], row["seen"]) == ("s", "labels", "R1", 2000)
    assert jobs.update("e1", [A0], 3000) == [], "nothing is new"
    ended = jobs.update("e1", [], 9000)
    assert held(ended) == [("7", "n1", ["n1-GPU0"], 1.0, 2000, 9000)]
    assert states(ended) == [("7", "ENDED", 2000, 9000, 0, 0)]
    again = jobs.update("e1", [A0], 11000)
    assert states(again) == [("7", "RUNNING", 11000, 0, 1, 1)]


def test_a_change_of_devices_or_share_ends_a_hold_and_starts_another_of_the_same_job() -> None:
    jobs = LabelJobs("s")
    jobs.update("e1", [A0], 1000)
    more = jobs.update("e1", [A01], 2000)
    assert held(more) == [
        ("7", "n1", ["n1-GPU0"], 1.0, 1000, 2000),
        ("7", "n1", ["n1-GPU0", "n1-GPU1"], 1.0, 2000, 0),
    ]
    assert states(more) == [("7", "RUNNING", 1000, 0, 1, 2)], "the job goes on"
    half = LabelHold("7", "R1", "n1", A01.devices, 0.5)
    assert [h[3:] for h in held(jobs.update("e1", [half], 3000))] == [(1.0, 2000, 3000), (0.5, 3000, 0)]


def test_a_job_of_two_nodes_is_one_job_until_both_have_left_it() -> None:
    jobs = LabelJobs("s")
    jobs.update("e1", [A01], 1000)
    assert states(jobs.update("e2", [B0], 1500)) == [("7", "RUNNING", 1000, 0, 2, 3)]
    left = jobs.update("e1", [], 2000)
    assert held(left) == [("7", "n1", ["n1-GPU0", "n1-GPU1"], 1.0, 1000, 2000)]
    assert states(left) == [("7", "RUNNING", 1000, 0, 1, 1)]
    assert states(jobs.update("e2", [], 3000)) == [("7", "ENDED", 1000, 3000, 0, 0)]


def test_all_holds_are_repeated_every_minute_also_those_of_an_endpoint_that_has_failed_since() -> None:
    jobs = LabelJobs("s")
    assert jobs.repeat(0) == []
    jobs.update("e1", [A0], 1000)
    jobs.update("e2", [B0], 2000)
    assert jobs.repeat(REPEAT_S * 1000 - 1) == []
    repeated = jobs.repeat(REPEAT_S * 1000)
    assert held(repeated) == [("7", "n1", ["n1-GPU0"], 1.0, 1000, 0), ("7", "n2", ["n2-GPU0"], 1.0, 2000, 0)]
    assert {r["seen"] for r in rows_of(repeated, ALLOCATION.name)} == {REPEAT_S * 1000}
    assert jobs.repeat(REPEAT_S * 1000 + 1) == []
    jobs.update("e1", [], 90_000)
    jobs.update("e2", [], 90_000)
    assert jobs.repeat(3 * REPEAT_S * 1000) == []
