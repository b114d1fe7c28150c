"""Inventory and jobs through the sink into the real engine: rows come out as they went into the log, the later one of a
key counts, and what a source repeats does not pile up.
"""

from __future__ import annotations

import datetime as dt
import itertools
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from clickhouse_connect.driver.client import Client

from pipeline.sink import dedup
from pipeline.sink.batcher import Batcher
from pipeline.sink.writer import Writer
from pipeline.store.client import open_folder
from pipeline.store.migrate import migrate
from pipeline.store.tables import TABLES
from schemas.derived_stream import Derived
from schemas.inventory import ASSET, EDGE, NAME, REACH
from schemas.jobs import ALLOCATION, JOB, JOB_WINDOW, NODE_STATE
from schemas.log_record import LogRecord

STREAMS = {s.name: s for s in (ALLOCATION, ASSET, EDGE, JOB, JOB_WINDOW, NAME, NODE_STATE, REACH)}
#: Noon of the 15th: a day on is the same month, 40 days on another.
START = int(dt.datetime.now(dt.UTC).replace(day=15, hour=12, minute=0, second=0, microsecond=0).timestamp()) * 1000
DAY = 86_400_000


_LOGS = (f"log-{n}" for n in itertools.count())


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder: Path = tmp_path_factory.mktemp("events")
    (folder / "clickhouse").mkdir()
    made = open_folder(folder)
    migrate(made)
    yield made
    made.close()


@pytest.fixture
def client(engine: Client) -> Client:
    """With empty tables."""
    for stream in STREAMS.values():
        engine.command(f"TRUNCATE TABLE gigawatch.{stream.table}")
    return engine


def sample(stream: Derived, **more: Any) -> dict[str, Any]:
    """A row with a value of its own in each column; the key is that of every other sample."""
    row: dict[str, Any] = {}
    for n, (name, dtype) in enumerate(stream.columns):
        if pa.types.is_timestamp(dtype):
            row[name] = START + n
        elif pa.types.is_list(dtype):
            row[name] = [f"{name}-0", f"{name}-1"]
        else:
            row[name] = name if pa.types.is_string(dtype) else n % 2 if pa.types.is_uint8(dtype) else n
    return row | more


class Log:
    """Messages on their way through a batcher and a writer."""

    def __init__(self, client: Client) -> None:
        self.client, self.id, self._offset = client, next(_LOGS), 0
        self._writer = Writer(client, self.id)

    def store(self, stream: Derived, *rows: Mapping[str, Any]) -> LogRecord:
        """One message of these rows."""
        value = stream.encode(stream.build_rows(rows))
        record = LogRecord(stream.topic, 0, self._offset, START + self._offset, value)
        self._offset += 1
        self.send(record)
        return record

    def send(self, record: LogRecord, days: set[dt.date] | None = None) -> int:
        """Returns how many inserts it took."""
        batcher = Batcher()
        batcher.add(record, 0.0, days)
        flush = batcher.close()
        assert not flush.dead
        assert self._writer.write(flush) == []
        return len(flush.messages)

    def count(self, stream: Derived, final: str = "") -> int:
        return int(self.client.query(f"SELECT count() FROM gigawatch.{stream.table} {final}").result_rows[0][0])


@pytest.mark.parametrize("name", STREAMS)
def test_every_column_comes_out_as_it_went_in(client: Client, name: str) -> None:
    stream, log = STREAMS[name], Log(client)
    row = sample(stream)
    log.store(stream, row)
    found = client.query(f"SELECT {', '.join(stream.names)} FROM gigawatch.{stream.table}").result_rows
    times = [n for n, (_, dtype) in enumerate(stream.columns) if pa.types.is_timestamp(dtype)]
    shown = [round(v.replace(tzinfo=dt.UTC).timestamp() * 1000) if n in times else v for n, v in enumerate(found[0])]
    assert shown == list(row.values())
    assert len(found) == 1


@pytest.mark.parametrize("name", STREAMS)
def test_missing_is_null_and_not_yet_is_1970_and_both_stay(client: Client, name: str) -> None:
    """Also where the date of the row itself is not known: a job whose submission nobody has seen."""
    stream, log = STREAMS[name], Log(client)
    floats = {n: float("nan") for n, dtype in stream.columns if pa.types.is_floating(dtype)}
    never = {n: 0 for n, dtype in stream.columns if pa.types.is_timestamp(dtype) and n not in ("seen", "ts")}
    log.store(stream, sample(stream, **floats, **never))
    client.command(f"OPTIMIZE TABLE gigawatch.{stream.table} FINAL")  # what is too old goes with a merge
    for names, value in ((floats, None), (never, dt.datetime(1970, 1, 1))):
        for column in names:
            assert client.query(f"SELECT {column} FROM gigawatch.{stream.table}").result_rows == [(value,)]
    assert log.count(stream) == 1


@pytest.mark.parametrize("name", STREAMS)
def test_of_rows_with_one_key_the_later_message_counts(client: Client, name: str) -> None:
    stream, log = STREAMS[name], Log(client)
    free = next(n for n, dtype in stream.columns if n not in stream.key and not pa.types.is_timestamp(dtype))
    dtype = dict(stream.columns)[free]
    values: list[Any] = (
        ["a", "b"] if pa.types.is_string(dtype) else [["a"], ["b"]] if pa.types.is_list(dtype) else [0, 1]
    )
    for value in values:
        log.store(stream, sample(stream, **{free: value}))
    assert client.query(f"SELECT {free} FROM gigawatch.{stream.table} FINAL").result_rows == [(values[1],)]


def test_what_a_source_repeats_each_minute_does_not_pile_up(client: Client) -> None:
    """Nobody asks for a merge here; 60 repeats of 50 rows are far from 3,000 a moment later."""
    log = Log(client)
    for minute in range(60):
        rows = [sample(ALLOCATION, job=f"j{n}", seen=START + 60_000 * minute) for n in range(50)]
        log.store(ALLOCATION, *rows)
    deadline = time.monotonic() + 30
    while (rows_left := log.count(ALLOCATION)) > 1000:
        assert time.monotonic() < deadline, rows_left
        time.sleep(0.2)
    assert log.count(ALLOCATION, "FINAL") == 50
    newest = client.query("SELECT DISTINCT toUnixTimestamp64Milli(seen) FROM gigawatch.allocations FINAL").result_rows
    assert newest == [(START + 60_000 * 59,)]


def test_a_message_of_many_months_is_inserted_by_month_and_recognised_by_month(client: Client) -> None:
    log, table = Log(client), TABLES["allocations"]
    starts = (START, START + DAY, START + 40 * DAY)
    record = log.store(ALLOCATION, *(sample(ALLOCATION, started=ms) for ms in starts))
    months = {dt.datetime.fromtimestamp(ms / 1000, dt.UTC).date().replace(day=1) for ms in starts}
    parts = "SELECT uniqExact(partition) FROM system.parts WHERE active AND table = 'allocations'"
    assert client.query(parts).result_rows == [(2,)]
    found = dedup.stored_offsets(client, table, log.id, 0, 0, 10)
    assert found == {(record.offset, record.kafka_ms): months}
    assert log.send(record, next(iter(found.values()))) == 0, "all of it is stored"
    assert log.send(record) == 2, "the same again, as after an answer that was lost"
    assert log.count(ALLOCATION) == 3, "the token is known"
    assert log.send(record, {min(months)}) == 1, "killed between the months: the rest follows"


def test_an_inventory_of_many_years_is_one_insert(client: Client) -> None:
    log = Log(client)
    record = log.store(ASSET, *(sample(ASSET, valid_from=START - n * 100 * DAY) for n in range(50)))
    found = dedup.stored_offsets(client, TABLES["assets"], log.id, 0, 0, 10)
    assert list(found) == [(record.offset, record.kafka_ms)]
    assert log.send(record, next(iter(found.values()))) == 0
    assert log.send(record) == 1
    assert log.count(ASSET) == 50
    assert client.query("SELECT count() FROM system.parts WHERE active AND table = 'assets'").result_rows == [(1,)]
