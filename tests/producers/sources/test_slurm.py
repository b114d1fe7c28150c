"""What happened between two dumps of Slurm: holds that open and close, jobs and nodes that change."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.emission import Event
from producers.sources.slurm.dump import JobRecord, NodeHold, NodeRecord, SlurmDump
from producers.sources.slurm.places import parse_places
from producers.sources.slurm.scheduler import SlurmScheduler
from producers.sources.source import SourceError
from schemas.jobs import ALLOCATION, JOB, NODE_STATE, STALE_S
from tests.producers.sources.test_slurm_parse import sample

T = 1_790_000_000_000


def rows(events: Sequence[Event], stream: str) -> list[dict[str, Any]]:
    return [row for event in events if event.derived.name == stream for row in event.batch.to_pylist()]


def ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def holds(events: Sequence[Event]) -> list[tuple[str, str, list[str], int, int]]:
    """(job, node, devices, started and ended after `T`, s; ended 0 while it holds)."""
    return [
        (
            r["job"],
            r["node"],
            r["devices"],
            (ms(r["started"]) - T) // 1000,
            ms(r["ended"]) and (ms(r["ended"]) - T) // 1000,
        )
        for r in rows(events, "allocation")
    ]


def job(name: str = "1", state: str = "RUNNING", since_s: int = 0, *held: NodeHold, **fields: Any) -> JobRecord:
    return JobRecord(name, state, submitted=T - 1000, since=T + since_s * 1000, holds=held, **fields)


def dump(*jobs: JobRecord, nodes: Sequence[NodeRecord] = ()) -> SlurmDump:
    return SlurmDump({j.job: j for j in jobs}, {n.node: n for n in nodes})


def at(seconds: int) -> int:
    return T + seconds * 1000


ON_N1 = NodeHold("n1", (0, 1), 2)


def test_the_first_dump_gives_all_holds_jobs_and_nodes() -> None:
    scheduler = SlurmScheduler("iad-1", parse_places("slurm,rack,node\nn[1-6],R1,N[01-06]\n", "places"))
    events = scheduler.update(sample("24.05"), at(100))
    assert {event.derived.name for event in events} == {"allocation", "job", "node_state"}
    assert all(event.batch.schema.equals(event.derived.schema, check_metadata=True) for event in events)
    found = {(r["job"], r["node"]): r for r in rows(events, "allocation")}
    second = found["101", "N02"]
    assert second["devices"] == [f"N02-GPU{i}" for i in range(8)]
    assert (second["first_rank"], second["share"], second["rack"], second["site"]) == (4, 1.0, "R1", "iad-1")
    assert found["101", "N01"]["devices"] == ["N01-GPU0", "N01-GPU1", "N01-GPU2", "N01-GPU5"]
    assert (ms(second["seen"]), ms(second["started"]), ms(second["ended"])) == (at(100), at(60), 0)
    states = {r["node"]: (r["state"], r["reason"], ms(r["since"])) for r in rows(events, "node_state")}
    assert states["N04"] == ("idle+drain", "bad fan", at(6))
    assert states["N01"] == ("allocated", "", at(100))
    cancelled = next(r for r in rows(events, "job") if r["job"] == "106")
    assert (cancelled["state"], ms(cancelled["ended"]), cancelled["scheduler"]) == ("CANCELLED", at(50), "slurm")


def test_nothing_new_gives_nothing_until_it_is_repeated_each_minute() -> None:
    scheduler = SlurmScheduler("s", every_s=10)
    known = dump(job("1", "RUNNING", 0, ON_N1), nodes=[NodeRecord("n1", "mixed")])
    given = {s: scheduler.update(known, at(s)) for s in range(0, 121, 10)}
    assert [s for s, events in given.items() if events] == [0, 60, 120]
    assert holds(given[60]) == holds(given[0]) == [("1", "n1", ["n1-GPU0", "n1-GPU1"], 0, 0)]
    assert len(rows(given[60], "job")) == len(rows(given[60], "node_state")) == 1
    assert ms(rows(given[60], "allocation")[0]["seen"]) == at(60)


def test_a_slow_poll_repeats_each_time() -> None:
    scheduler = SlurmScheduler("s", every_s=45)
    known = dump(job("1", "RUNNING", 0, ON_N1))
    assert [bool(scheduler.update(known, at(s))) for s in (0, 45, 90)] == [True, True, True]


def test_a_hold_ends_once_at_the_end_that_slurm_has() -> None:
    scheduler = SlurmScheduler("s")
    scheduler.update(dump(job("1", "RUNNING", 0, ON_N1, gpus=2)), at(0))
    done = dump(JobRecord("1", "COMPLETED", submitted=T - 1000, ended=at(17), until=at(17), gpus=1))
    events = scheduler.update(done, at(20))
    assert holds(events) == [("1", "n1", ["n1-GPU0", "n1-GPU1"], 0, 17)]
    assert [(r["state"], r["gpus"], ms(r["ended"])) for r in rows(events, "job")] == [("COMPLETED", 2, at(17))]
    assert scheduler.update(done, at(30)) == []
    assert scheduler.update(dump(), at(40)) == []


def test_a_job_that_vanishes_ends_at_the_poll_and_its_end_is_not_known() -> None:
    scheduler = SlurmScheduler("s")
    scheduler.update(dump(job("1", "RUNNING", 0, ON_N1)), at(0))
    events = scheduler.update(dump(), at(10))
    assert holds(events) == [("1", "n1", ["n1-GPU0", "n1-GPU1"], 0, 10)]
    assert [(r["state"], ms(r["ended"])) for r in rows(events, "job")] == [("UNKNOWN", at(10))]


def test_a_suspended_job_holds_nothing_and_a_resumed_one_holds_again() -> None:
    scheduler = SlurmScheduler("s")
    scheduler.update(dump(job("1", "RUNNING", 0, ON_N1)), at(0))
    paused = scheduler.update(dump(JobRecord("1", "SUSPENDED", submitted=T - 1000, until=at(12))), at(20))
    assert [h[3:] for h in holds(paused)] == [(0, 12)]
    resumed = scheduler.update(dump(job("1", "RUNNING", 25, ON_N1)), at(30))
    assert [h[3:] for h in holds(resumed)] == [(25, 0)]


def test_a_job_that_was_queued_and_started_again_between_two_polls_has_two_holds() -> None:
    scheduler = SlurmScheduler("s")
    scheduler.update(dump(job("1", "RUNNING", 0, ON_N1)), at(0))
    again = JobRecord("1", "RUNNING", submitted=at(3), since=at(7), holds=(NodeHold("n1", (2,), 1),))
    assert holds(scheduler.update(dump(again), at(10))) == [
        ("1", "n1", ["n1-GPU0", "n1-GPU1"], 0, 3),
        ("1", "n1", ["n1-GPU2"], 7, 0),
    ]


def test_a_job_that_gives_up_one_node_keeps_the_others() -> None:
    scheduler = SlurmScheduler("s")
    scheduler.update(dump(job("1", "RUNNING", 0, ON_N1, NodeHold("n2", (5,), 1))), at(0))
    assert holds(scheduler.update(dump(job("1", "RUNNING", 4, ON_N1)), at(10))) == [
        ("1", "n1", ["n1-GPU0", "n1-GPU1"], 0, 4),
        ("1", "n2", ["n2-GPU5"], 0, 4),
        ("1", "n1", ["n1-GPU0", "n1-GPU1"], 4, 0),
    ]


def test_devices_that_change_without_a_word_are_another_hold_from_the_poll_on() -> None:
    scheduler = SlurmScheduler("s")
    scheduler.update(dump(job("1", "RUNNING", 0, ON_N1)), at(0))
    other = dump(job("1", "RUNNING", 0, NodeHold("n1", (3,), 1)))
    assert [h[2:] for h in holds(scheduler.update(other, at(10)))] == [
        (["n1-GPU0", "n1-GPU1"], 0, 10),
        (["n1-GPU3"], 10, 0),
    ]
    assert scheduler.update(other, at(20)) == []


def test_a_dump_with_unread_records_ends_no_hold_and_no_job() -> None:
    scheduler = SlurmScheduler("s")
    scheduler.update(dump(job("1", "RUNNING", 0, ON_N1)), at(0))
    torn = dump()
    torn.refused["job-hostlist"] += 1
    assert scheduler.update(torn, at(10)) == []
    assert list(scheduler.open_holds) == [("1", "n1")]
    assert [h[4] for h in holds(scheduler.update(dump(), at(20)))] == [20]


def test_without_answers_what_was_known_is_repeated_for_five_minutes_and_nothing_ends() -> None:
    scheduler = SlurmScheduler("s", every_s=10)
    scheduler.update(dump(job("1", "RUNNING", 0, ON_N1)), at(0))
    repeated = [s for s in range(10, 600, 10) if holds(scheduler.unanswered(at(s)))]
    assert repeated == [60, 120, 180, 240]
    assert repeated[-1] < STALE_S
    assert [h[4] for h in holds(scheduler.update(dump(job("1", "RUNNING", 0, ON_N1)), at(600)))] == [0]


def test_a_slurm_that_never_answered_is_known_for_nothing() -> None:
    assert SlurmScheduler("s").unanswered(at(0)) == []


def test_a_node_that_is_drained_and_comes_back() -> None:
    scheduler = SlurmScheduler("s")
    drained = NodeRecord("n1", "idle+drain", "bad fan", at(7), 8)

    def states(node: NodeRecord, seconds: int) -> list[tuple[str, str, int]]:
        found = rows(scheduler.update(dump(nodes=[node]), at(seconds)), "node_state")
        return [(r["state"], r["reason"], (ms(r["since"]) - T) // 1000) for r in found]

    assert states(NodeRecord("n1", "idle", gpus=8), 0) == [("idle", "", 0)]
    assert states(drained, 10) == [("idle+drain", "bad fan", 7)]
    assert states(NodeRecord("n1", "down+drain", "bad fan", at(7), 8), 20) == [("down+drain", "bad fan", 20)]
    assert states(NodeRecord("n1", "mixed", "", 0, 8, 2), 30) == [("mixed", "", 30)]
    assert states(NodeRecord("n1", "mixed", "", 0, 8, 4), 40) == [("mixed", "", 30)]  # other GPUs, the same state


def test_large_dumps_are_cut_into_messages() -> None:
    many = dump(*(job(str(n), "RUNNING", 0, NodeHold(f"n{n}", (0,), 1)) for n in range(12_000)))
    events = SlurmScheduler("s").update(many, at(0))
    assert [e.batch.num_rows for e in events if e.derived is ALLOCATION] == [5000, 5000, 2000]
    assert sum(e.batch.num_rows for e in events if e.derived is JOB) == 12_000
    assert not any(e.derived is NODE_STATE for e in events)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "first line"),
        ("slurm,rack,node\nn1,R1\n", "line 2: 2 cells"),
        ("slurm,rack,node\nn[1-2],R1,N1\n", "2 of Slurm's nodes, but 1"),
        ("slurm,rack,node\nn1,R1,\nn1,R2,\n", "line 3: n1 is listed twice"),
        ("slurm,rack,node\nn[1,R1,\n", "line 2"),
    ],
)
def test_places_that_are_wrong_name_their_line(text: str, wrong: str) -> None:
    with pytest.raises(SourceError, match=wrong):
        parse_places(text, "places.csv")


GPU_SETS = st.sets(st.integers(0, 3), min_size=1).map(lambda s: tuple(sorted(s)))
JOBS = st.dictionaries(
    st.sampled_from("abcd"),
    st.dictionaries(st.sampled_from(("n1", "n2", "n3")), GPU_SETS, max_size=3),
    max_size=4,
)
#: Jobs with their GPUs; how long before the poll those began that are new; whether all begin again; what Slurm answers.
STEPS = st.lists(st.tuples(JOBS, st.integers(-9, 0), st.booleans(), st.sampled_from(("dump", "silence"))), max_size=12)


@given(STEPS)
def test_at_each_time_the_open_holds_are_those_of_the_last_dump(
    steps: list[tuple[dict[str, Any], int, bool, str]],
) -> None:
    """Over the rows alone, as a reader sees them: a hold opens once, closes once, after it began, and no two holds of
    a job on one node overlap.
    """
    scheduler, now = SlurmScheduler("s"), at(1000)
    open_rows: dict[tuple[str, str, int], tuple[str, ...]] = {}
    closed: dict[tuple[str, str], int] = {}
    wanted: dict[tuple[str, str], tuple[str, ...]] = {}
    began: dict[str, int] = {}
    for jobs, age_s, again, kind in steps:
        now += 10_000
        if kind == "silence":
            events = scheduler.unanswered(now)
        else:
            new = (now - T) // 1000 + age_s
            began = {name: new if again else began.get(name, new) for name in jobs}
            records = [
                job(name, "RUNNING", began[name], *(NodeHold(n, g, len(g)) for n, g in on.items()))
                for name, on in jobs.items()
            ]
            events = scheduler.update(dump(*records), now)
            wanted = {
                (name, node): tuple(f"{node}-GPU{g}" for g in gpus)
                for name, on in jobs.items()
                for node, gpus in on.items()
            }
        for row in rows(events, "allocation"):
            place = (row["job"], row["node"])
            key = (*place, ms(row["started"]))
            if end := ms(row["ended"]):
                assert key[2] < end <= now
                assert open_rows.pop(key) == tuple(row["devices"])
                closed[place] = end
            else:
                assert open_rows.setdefault(key, tuple(row["devices"])) == tuple(row["devices"])
                assert key[2] >= closed.get(place, 0)
        assert {key[:2]: devices for key, devices in open_rows.items()} == wanted
        assert len(open_rows) == len(wanted)
