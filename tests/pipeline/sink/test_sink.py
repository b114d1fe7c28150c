"""The store without a server: tables from the catalogue, batches, refusals, roll-up spans, freshness, questions asked
wrongly.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

import pyarrow as pa
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError

from pipeline.embedded.run_summary import pace
from pipeline.sink import dedup, insert
from pipeline.sink.batcher import Batcher, Flush
from pipeline.sink.freshness import Freshness
from pipeline.sink.insert import Refusal, classify
from pipeline.sink.stored_message import StoredMessage
from pipeline.sink.writer import Aborted, StoppedByConfig, Writer
from pipeline.store.tables import TABLES
from schemas.codec import encode
from schemas.deadletter import DeadLetter
from schemas.frame import build
from schemas.log_record import LogRecord
from tests.make_samples import START_MS, small_frame


def record(
    offset: int, value: bytes | None = None, topic: str = "telemetry.gpu", kafka_ms: int = START_MS
) -> LogRecord:
    return LogRecord(topic, 0, offset, kafka_ms, encode(small_frame()) if value is None else value)


def test_batches_close_by_rows_bytes_or_age() -> None:
    for batcher, close_at in (
        (Batcher(max_rows=4, max_wait_s=100), 2),
        (Batcher(max_bytes=2 * len(record(0).value), max_wait_s=100), 2),
    ):
        for n in range(close_at):
            assert not batcher.due(0.0)
            batcher.add(record(n), 0.0)
        assert batcher.due(0.0)
    old = Batcher(max_wait_s=1.0)
    old.add(record(0), 10.0)
    old.add(record(1), 10.9)
    assert not old.due(10.99)
    assert old.due(11.0), "age counts from the first record"


def test_a_dead_letter_with_headers_out_of_all_bounds_is_stored_all_the_same() -> None:
    """Found by fuzzing: a partition that fits no column would have ended the sink."""
    headers = [(name, b"9" * 18) for name in ("partition", "offset", "timestamp")] + [("reason", b"\xff\xfe")]
    row = DeadLetter.read(b"value", headers, 5).row().to_pylist()[0]
    assert (row["partition"], row["offset"], row["ts"].timestamp(), row["bytes"]) == (0, int("9" * 18), 0.005, 5)


def test_a_bad_record_is_a_dead_letter_and_its_offset_advances() -> None:
    batcher = Batcher()
    for n, value in enumerate([encode(small_frame()), b"garbage", encode(small_frame())]):
        batcher.add(record(n, value), 0.0)
    batch = batcher.close()
    assert batch.offsets == {("telemetry.gpu", 0): 3}
    assert [(d.offset, d.reason) for d in batch.dead] == [(1, "not-arrow")]
    assert [p.offset for pieces in batch.messages.values() for p in pieces] == [0, 2]
    assert not batcher.batch


@pytest.mark.parametrize(("kafka_ms", "reason"), [(START_MS - 120_000, "future"), (START_MS + 7 * 86_400_000, "stale")])
def test_impossible_times_are_dead_letters(kafka_ms: int, reason: str) -> None:
    batcher = Batcher()
    batcher.add(record(0, kafka_ms=kafka_ms), 0.0)
    assert [d.reason for d in batcher.close().dead] == [reason]


def test_a_derived_message_on_the_wrong_topic_is_a_dead_letter() -> None:
    batcher = Batcher()
    batcher.add(record(0, topic="scores"), 0.0)
    assert [d.reason for d in batcher.close().dead] == ["schema"]


def test_what_is_stored_is_not_taken_again() -> None:
    batcher = Batcher()
    day = dt.datetime.fromtimestamp(START_MS / 1000, dt.UTC).date()
    batcher.add(record(0), 0.0, {day})
    batch = batcher.close()
    assert batch.offsets == {("telemetry.gpu", 0): 1}
    assert not batch.messages
    assert batcher.discarded == {"stored-before": 1}


def midnight() -> pa.RecordBatch:
    noon = START_MS // 86_400_000 * 86_400_000
    return build(
        "gpu", noon + pa.array([-1000, 0, 500]).to_numpy(), {"device": ["a", "b", "c"]}, {"power_w": [1.0, 2.0, 3.0]}
    ).batch


def test_days_are_inserted_apart_and_recognised_apart() -> None:
    split = dedup.by_period(midnight(), TABLES["gpu"])
    assert [(rows.num_rows) for _, rows in split] == [1, 2]
    first = dt.date.fromisoformat(split[0][0])
    left = dedup.remaining(midnight(), TABLES["gpu"], {first})
    assert left.column("device").to_pylist() == ["b", "c"]


def test_tokens_name_exact_content() -> None:
    a, b = (StoredMessage(small_frame(), 0, n, START_MS) for n in (1, 2))
    table = TABLES["gpu"]
    assert insert.token(table, [a, b], "l", "d") == insert.token(table, [a, b], "l", "d")
    assert (
        len(
            {
                insert.token(table, pieces, log, day)
                for pieces, log, day in (
                    ([a], "l", "d"),
                    ([a, b], "l", "d"),
                    ([b], "l", "d"),
                    ([a], "m", "d"),
                    ([a], "l", "e"),
                )
            }
        )
        == 5
    )


class Refuses(DatabaseError):
    """ClickHouse's error with a code, as the driver raises it."""

    def __init__(self, code: int) -> None:
        super().__init__(f"Code: {code}. DB::Exception: refused by plan")
        self.code = code


@pytest.mark.parametrize(
    ("err", "verdict"),
    [
        (Refuses(252), Refusal.TRANSIENT),
        (Refuses(241), Refusal.TRANSIENT),
        (Refuses(53), Refusal.POISON),
        (Refuses(60), Refusal.CONFIG),
        (Refuses(516), Refusal.CONFIG),
        (OperationalError("gone"), Refusal.TRANSIENT),
        (ConnectionError("reset"), Refusal.TRANSIENT),
        (pa.ArrowInvalid("bad"), Refusal.POISON),
        (Refuses(99999), Refusal.TRANSIENT),
    ],
)
def test_refusals_are_told_apart(err: Exception, verdict: Refusal) -> None:
    assert classify(err) is verdict


class FakeClient:
    """Takes inserts like ClickHouse: by token once; `plan` raises errors in turn; a block with a failing offset is
    poison.
    """

    def __init__(self, plan: list[Exception] | None = None, failing: frozenset[int] = frozenset()) -> None:
        self.plan, self.failing = list(plan or []), failing
        self.tokens: dict[str, bytes] = {}
        self.offsets: list[int] = []
        self.identities: list[list[str]] = []

    def raw_insert(
        self, table: str, columns: Any, insert_block: memoryview, fmt: str, settings: dict[str, Any]
    ) -> None:
        if self.plan:
            raise self.plan.pop(0)
        data = bytes(insert_block)
        body = pa.ipc.open_stream(data).read_all()
        if table == "gigawatch.identities":
            self.identities += body["device"].to_pylist()
            return
        offsets = body["kafka_offset"].to_pylist()
        if set(offsets) & self.failing:
            raise Refuses(53)
        name = settings["insert_deduplication_token"]
        if name in self.tokens:
            assert self.tokens[name] == data, "the same token for other bytes would lose rows"
            return
        self.tokens[name] = data
        self.offsets += offsets


def batch_of(count: int) -> Flush:
    batcher = Batcher()
    for n in range(count):
        batcher.add(record(n), 0.0)
    return batcher.close()


def test_transient_errors_are_retried_with_the_same_bytes() -> None:
    client = FakeClient([Refuses(252), OperationalError("time-out"), Refuses(241)])
    writer = Writer(client, "log", wait_s=0.01)  # type: ignore[arg-type]
    assert writer.write(batch_of(3)) == []
    assert writer.retries == 3
    assert sorted(set(client.offsets)) == [0, 1, 2]
    assert writer.rows == {"gpu": 6}
    assert len(client.identities) == 1, "who is who is stored once"


def test_poison_is_isolated_and_the_rest_is_stored() -> None:
    client = FakeClient(failing=frozenset({5, 11}))
    writer = Writer(client, "log")  # type: ignore[arg-type]
    poison = writer.write(batch_of(16))
    assert [(t, p.offset) for t, p, _ in poison] == [("gpu", 5), ("gpu", 11)]
    assert sorted(set(client.offsets)) == [n for n in range(16) if n not in (5, 11)]


def test_a_missing_table_stops_and_dead_letters_nothing() -> None:
    with pytest.raises(StoppedByConfig, match="refused rows for identities"):
        Writer(FakeClient([Refuses(60)]), "log").write(batch_of(2))  # type: ignore[arg-type]


def test_an_abort_while_clickhouse_is_away_commits_nothing() -> None:
    client = FakeClient([OperationalError("away")] * 100)
    with pytest.raises(Aborted):
        Writer(client, "log", lambda: True).write(batch_of(1))  # type: ignore[arg-type]


def test_freshness_quantiles_and_slope() -> None:
    fresh = Freshness()
    for n in range(1000):
        fresh.add(1.0 + n / 1000, 72, START_MS + n)
    assert fresh.quantile(0.5) == pytest.approx(1.5, rel=0.06)
    assert fresh.quantile(0.99) == pytest.approx(1.99, rel=0.06)
    assert fresh.slope() == pytest.approx(1.0, rel=0.02), "a second staler every second: half the pace"
    assert Freshness().summary()["p99_s"] is None
    assert [pace(slope) for slope in (0.0, 1.0, -0.5, -1.0, -3.0)] == [1.0, 0.5, 2.0, 2.0, 2.0]
    stale = Freshness()
    for n in range(100):
        stale.add(4.0 + 16 * (n % 25 > 3), 72, START_MS + 1000 * n)
    assert stale.slope() > 0.15, "a backlog that was there from the start counts"
