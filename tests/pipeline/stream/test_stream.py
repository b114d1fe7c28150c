"""The worker around the engines: places in the log, snapshots, agents, and what may be committed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiokafka.structs import ConsumerRecord

from pipeline.stream.app import StreamApp, make_app
from pipeline.stream.joiner import Joiner
from pipeline.stream.names import PART_TOPIC
from pipeline.stream.partition import Partition
from pipeline.stream.transport import MOST_RECORDS, Bundle, _bundled
from pipeline.stream.worker import Worker
from producers.sources.synthetic import faults
from producers.sources.synthetic.source import Synthetic
from schemas import derived
from schemas.codec import encode
from schemas.frame import Frame
from schemas.log_record import LogRecord

START = 1_750_000_000_000
Published = list[tuple[str, bytes, bytes]]


def messages(ticks: int, kind: str = "gpu", racks: int = 1) -> list[LogRecord]:
    plant = Synthetic(racks, "H100", seed=4, faults=[faults.parse("gpu-thermal:60")])
    frames = [
        e
        for k in range(ticks)
        for e in plant.frames(START + 1000 * k)
        if isinstance(e, Frame) and e.kind == kind and e.identity("model")[0] != "utility-meter"
    ]
    return [LogRecord("", 0, n, int(f.ts_ms()[0]), encode(f)) for n, f in enumerate(frames)]


def worker() -> tuple[Worker, Published]:
    out: Published = []

    async def publish(topic: str, key: bytes, value: bytes) -> None:
        out.append((topic, key, value))

    return Worker(publish), out


async def test_results_go_to_their_topics() -> None:
    made, out = worker()
    await made.take("telemetry.gpu", [(2, messages(120))])
    assert {t for t, _, _ in out} == {"rollups.gpu", "rollups.window", "rollups.part", "scores", "incidents"}
    assert {k for _, k, _ in out} == {b"2"}
    await made.take(
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
    await made.take("telemetry.gpu", [(0, good + bad)])
    counts = made.status()["counts"]
    assert counts["received"] == 6
    assert counts["received"] == counts["processed"] + sum(v for k, v in counts.items() if k.startswith("discarded:"))
    assert {k for k in counts if k.startswith("discarded:")} == {
        "discarded:not-arrow",
        "discarded:stale",
        "discarded:future",
    }


def test_messages_read_again_after_a_rebalance_change_nothing() -> None:
    log = messages(60)
    once, again = Partition("gpu"), Partition("gpu")
    first = [c for m in log for c in once.add([m])]
    second = again.add(log[:40]) + again.add(log[10:60])
    assert [(c.end_ms, sorted(c.batches)) for c in first] == [(c.end_ms, sorted(c.batches)) for c in second]
    assert again.counts["seen-before"] == 30


def test_what_is_committed_is_what_a_new_worker_needs() -> None:
    log = messages(900)
    running = Partition("gpu")
    running.add(log)
    offset = running.needed_from()
    assert offset is not None
    assert 0 < offset < 600
    fresh = Partition("gpu")
    caught_up = fresh.add(log[offset:])
    later = [c.end_ms for c in caught_up]
    assert later
    assert later[0] <= running.engine.closed_ms + 10_000, "no pane is missing between the two workers"


def test_a_partition_taken_over_in_the_middle_is_silent_until_it_is_sure() -> None:
    assert Partition("gpu").add(messages(200)[50:]) == []


async def test_a_snapshot_goes_on_bit_for_bit_even_on_a_fresh_log(tmp_path: Path) -> None:
    log = messages(150)
    straight, expected = worker()
    await straight.take("telemetry.gpu", [(0, log)])
    first, out = worker()
    await first.take("telemetry.gpu", [(0, log[:77])])
    first.save(tmp_path / "state", "log-1")
    second, more = worker()
    assert second.load(tmp_path / "state", "log-2")
    await second.take("telemetry.gpu", [(0, [LogRecord("", 0, m.offset - 77, m.kafka_ms, m.value) for m in log[77:]])])
    assert out + more == expected


def test_a_damaged_snapshot_is_a_warning_not_an_end(tmp_path: Path) -> None:
    (tmp_path / "state").write_bytes(b"nonsense")
    assert not worker()[0].load(tmp_path / "state", "log")
    assert not worker()[0].load(tmp_path / "none", "log")


async def test_a_stopped_worker_takes_nothing_more() -> None:
    made, out = worker()
    made.stop()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(made.take("telemetry.gpu", [(0, messages(30))]), 0.1)
    assert out == []
    assert made.status()["counts"] == {}


def test_after_a_rebalance_partitions_of_others_are_forgotten_and_own_ones_go_on() -> None:
    made, _ = worker()
    asyncio.run(made.take("telemetry.gpu", [(n, messages(5)) for n in (0, 1)]))
    made.assign([("telemetry.gpu", 1)])
    assert made.needed_from("telemetry.gpu", 0) is None
    assert made.needed_from("telemetry.gpu", 1) is not None
    asyncio.run(made.take("telemetry.gpu", [(1, messages(8))]))
    assert made.status()["counts"]["seen-before"] == 5, "what is read again is skipped"


def test_a_partition_with_a_gap_begins_anew_and_is_silent_until_it_is_sure() -> None:
    log = messages(60)
    held = Partition("gpu")
    before = [c for m in log[:30] for c in held.add([m])]
    assert before
    after = held.add(log[40:])
    assert held.counts["gaps"] == 1
    assert after == [], "windows that lack their beginning are not given out"
    assert held.position == log[-1].offset + 1


def test_a_joiner_leaves_windows_alone_whose_parts_it_may_have_missed() -> None:
    row = {n: 0 for n, _ in derived.PART.columns} | {
        "kind": "gpu",
        "site": "s",
        "rack": "R",
        "model": "m",
        "window_s": 10,
        "util_counts": [],
        "devices": 1,
    }
    log = [
        LogRecord(
            "", 0, 7 + k, START, derived.PART.encode(derived.PART.build_rows([{**row, "ts": START + 10_000 * k}]))
        )
        for k in range(8)
    ]
    late = Joiner().add(log)
    early = Joiner().add([LogRecord("", 0, m.offset - 7, m.kafka_ms, m.value) for m in log])
    assert len(early["rack"]) == 8
    assert len(late["rack"]) == 5


@pytest.fixture
async def app() -> StreamApp:
    """The faust app without a broker, as faust's test context wants it."""
    made = make_app("127.0.0.1:1")
    made.loop = asyncio.get_running_loop()
    made.finalize()
    made.flow_control.resume()
    return made


async def test_the_agent_hands_messages_to_the_worker_and_acknowledges_after(app: StreamApp) -> None:
    seen: list[tuple[str, list[bytes]]] = []
    done = asyncio.Event()

    async def take(topic: str, bundles: list[tuple[int, list[LogRecord]]]) -> None:
        seen.append((topic, [m.value for _, messages in bundles for m in messages]))
        done.set()

    app.worker.take = take  # type: ignore[method-assign,assignment]
    agent = app.agents["agent.telemetry.gpu"]
    async with agent.test_context() as tested:
        await tested.put(Bundle([LogRecord("", 0, 4, START, b"one"), LogRecord("", 0, 5, START, b"two")]), wait=False)
        await asyncio.wait_for(done.wait(), 5)
    assert seen == [("telemetry.gpu", [b"one", b"two"])]


async def test_records_of_a_partition_travel_in_bundles_of_bounded_size() -> None:
    records = [
        ConsumerRecord("t", 0, n, START + n, 0, None, b"%d" % n, None, 0, 1, ()) for n in range(2 * MOST_RECORDS + 5)
    ]
    bundles = _bundled(records)
    assert [len(b.value.records) for b in bundles] == [MOST_RECORDS, MOST_RECORDS, 5]
    assert [b.offset for b in bundles] == [b.value.records[-1].offset for b in bundles], (
        "a bundle stands at its last offset"
    )
    assert [r for b in bundles for r in b.value.records] == [
        ("t", 0, n, START + n, b"%d" % n, ()) for n in range(2 * MOST_RECORDS + 5)
    ]


def test_the_app_has_an_agent_per_topic_and_commits_what_the_worker_says(app: StreamApp) -> None:
    assert {name.removeprefix("agent.") for name in app.agents} == {
        "telemetry.gpu",
        "telemetry.node",
        "telemetry.power",
        "telemetry.cooling",
        "rollups.part",
    }
    assert app.transport.Consumer.__name__ == "HeldConsumer"
    assert app.needed_from("telemetry.gpu", 0) is None


class Rewindable:
    """A log that can be read again; `trimmed` messages are gone."""

    def __init__(self, messages: list[LogRecord], committed: int = 0, trimmed: int = 0) -> None:
        self.messages, self.committed, self.trimmed, self.asked = messages, committed, trimmed, list[int]()

    async def begin(self, topic: str, number: int) -> int:
        return max(self.committed, self.trimmed)

    async def rewind(self, topic: str, number: int, offset: int) -> None:
        self.asked.append(offset)

    async def open_incidents(self) -> list[dict[str, object]]:
        return []


async def test_messages_passed_over_are_read_again_and_change_nothing() -> None:
    found = messages(120)
    straight, expected = worker()
    await straight.take("telemetry.gpu", [(0, found)])
    out: Published = []

    async def publish(topic: str, key: bytes, value: bytes) -> None:
        out.append((topic, key, value))

    source = Rewindable(found)
    made = Worker(publish, log=source)
    await made.take(
        "telemetry.gpu", [(0, found[30:50])]
    )  # held from before the rebalance: not where a new owner begins
    assert source.asked == [0]
    await made.take("telemetry.gpu", [(0, found[50:60])])  # still on its way
    await made.take("telemetry.gpu", [(0, found[:40] + found[45:70])])
    assert source.asked == [0, 40]
    await made.take("telemetry.gpu", [(0, found[40:])])
    assert out == expected
    assert made.status()["rewinds"] == 2
    assert made.status()["counts"].get("gaps", 0) == 0


async def test_what_is_gone_from_the_log_is_given_up_after_some_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.stream import worker as module

    monkeypatch.setattr(module, "REWIND_PAUSE_S", 0.0)
    found = messages(120)
    source = Rewindable(found)
    made = Worker(worker()[0]._publish, log=source)
    await made.take("telemetry.gpu", [(0, found[:20])])
    for _ in range(5):
        await made.take("telemetry.gpu", [(0, found[60:70])])
    assert source.asked == [20, 20, 20]
    assert made.status()["counts"]["gaps"] == 1


async def test_a_log_that_was_trimmed_is_begun_where_it_begins() -> None:
    found = messages(120)
    made = Worker(worker()[0]._publish, log=Rewindable(found, committed=10, trimmed=50))
    await made.take("telemetry.gpu", [(0, found[50:])])
    assert made.status()["counts"]["processed"] == 70
    assert made.status()["rewinds"] == 0


async def test_messages_of_a_partition_that_was_taken_away_are_left_to_its_new_owner() -> None:
    found = messages(60)
    made, out = worker()
    made.assign([("telemetry.gpu", 1)])
    await made.take("telemetry.gpu", [(0, found)])
    assert out == []
    assert made.status()["counts"] == {}
    made.assign([("telemetry.gpu", 0), ("telemetry.gpu", 1)])
    await made.take("telemetry.gpu", [(0, found)])
    assert made.status()["counts"]["processed"] == 60
