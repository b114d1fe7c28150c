"""The worker: results to their topics, snapshots, rebalances, and messages that were skipped."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from pipeline.stream.worker import Worker
from schemas.log_record import LogRecord
from schemas.topics import PART_TOPIC
from tests.pipeline.stream.logs import START, Published, Rewindable, messages, worker


async def test_results_go_to_their_topics() -> None:
    made, out = worker()
    await made.process("telemetry.gpu", [(2, messages(120))])
    assert {t for t, _, _ in out} == {"rollups.gpu", "rollups.window", "rollups.part", "scores", "incidents"}
    assert {k for _, k, _ in out} == {b"2"}
    await made.process(
        PART_TOPIC,
        [(0, [LogRecord("", 0, n, START, v) for n, v in enumerate([v for t, _, v in out if t == "rollups.part"])])],
    )
    assert {t for t, _, _ in out} >= {"rollups.rack", "rollups.site"}
    status = made.status()
    assert status["counts"]["processed"] == status["counts"]["received"] == 120
    assert status["counts"]["rows:rows"] == 120 * 32
    assert status["devices"] == {"gpu": 32}


async def test_every_message_in_is_processed_or_discarded_by_reason() -> None:
    made, _ = worker()
    good = messages(3)
    bad = [
        LogRecord("", 0, 3, START, b"junk"),
        LogRecord("", 0, 4, START + 9 * 86_400_000, good[0].value),
        LogRecord("", 0, 5, START - 120_000, good[0].value),
    ]
    await made.process("telemetry.gpu", [(0, good + bad)])
    counts = made.status()["counts"]
    assert counts["received"] == 6
    assert counts["received"] == counts["processed"] + sum(v for k, v in counts.items() if k.startswith("discarded:"))
    assert {k for k in counts if k.startswith("discarded:")} == {
        "discarded:not-arrow",
        "discarded:stale",
        "discarded:future",
    }


async def test_a_snapshot_goes_on_bit_for_bit_even_on_a_fresh_log(tmp_path: Path) -> None:
    log = messages(150)
    straight, expected = worker()
    await straight.process("telemetry.gpu", [(0, log)])
    first, out = worker()
    await first.process("telemetry.gpu", [(0, log[:77])])
    first.save(tmp_path / "state", "log-1")
    second, more = worker()
    assert second.load(tmp_path / "state", "log-2")
    await second.process(
        "telemetry.gpu", [(0, [LogRecord("", 0, m.offset - 77, m.kafka_ms, m.value) for m in log[77:]])]
    )
    assert out + more == expected


def test_a_damaged_snapshot_is_a_warning_not_an_end(tmp_path: Path) -> None:
    (tmp_path / "state").write_bytes(b"nonsense")
    assert not worker()[0].load(tmp_path / "state", "log")
    assert not worker()[0].load(tmp_path / "none", "log")


async def test_a_stopped_worker_takes_nothing_more() -> None:
    made, out = worker()
    made.stop()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(made.process("telemetry.gpu", [(0, messages(30))]), 0.1)
    assert out == []
    assert made.status()["counts"] == {}


def test_after_a_rebalance_partitions_of_others_are_forgotten_and_own_ones_go_on() -> None:
    made, _ = worker()
    asyncio.run(made.process("telemetry.gpu", [(n, messages(5)) for n in (0, 1)]))
    made.assign([("telemetry.gpu", 1)])
    assert made.needed_from("telemetry.gpu", 0) is None
    assert made.needed_from("telemetry.gpu", 1) is not None
    asyncio.run(made.process("telemetry.gpu", [(1, messages(8))]))
    assert made.status()["counts"]["seen-before"] == 5, "what is read again is skipped"


async def test_messages_passed_over_are_read_again_and_change_nothing() -> None:
    found = messages(120)
    straight, expected = worker()
    await straight.process("telemetry.gpu", [(0, found)])
    out: Published = []

    async def publish(topic: str, key: bytes, value: bytes) -> None:
        out.append((topic, key, value))

    source = Rewindable(found)
    made = Worker(publish, log=source)
    await made.process(
        "telemetry.gpu", [(0, found[30:50])]
    )  # held from before the rebalance: not where a new owner begins
    assert source.asked == [0]
    await made.process("telemetry.gpu", [(0, found[50:60])])  # still on its way
    await made.process("telemetry.gpu", [(0, found[:40] + found[45:70])])
    assert source.asked == [0, 40]
    await made.process("telemetry.gpu", [(0, found[40:])])
    assert out == expected
    assert made.status()["rewinds"] == 2
    assert made.status()["counts"].get("gaps", 0) == 0


async def test_what_is_gone_from_the_log_is_given_up_after_some_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.stream import worker as module

    monkeypatch.setattr(module, "REWIND_PAUSE_S", 0.0)
    found = messages(120)
    source = Rewindable(found)
    made = Worker(worker()[0]._publish, log=source)
    await made.process("telemetry.gpu", [(0, found[:20])])
    for _ in range(5):
        await made.process("telemetry.gpu", [(0, found[60:70])])
    assert source.asked == [20, 20, 20]
    assert made.status()["counts"]["gaps"] == 1


async def test_a_log_that_was_trimmed_is_begun_where_it_begins() -> None:
    found = messages(120)
    made = Worker(worker()[0]._publish, log=Rewindable(found, committed=10, trimmed=50))
    await made.process("telemetry.gpu", [(0, found[50:])])
    assert made.status()["counts"]["processed"] == 70
    assert made.status()["rewinds"] == 0


async def test_messages_of_a_partition_that_was_taken_away_are_left_to_its_new_owner() -> None:
    found = messages(60)
    made, out = worker()
    made.assign([("telemetry.gpu", 1)])
    await made.process("telemetry.gpu", [(0, found)])
    assert out == []
    assert made.status()["counts"] == {}
    made.assign([("telemetry.gpu", 0), ("telemetry.gpu", 1)])
    await made.process("telemetry.gpu", [(0, found)])
    assert made.status()["counts"]["processed"] == 60
