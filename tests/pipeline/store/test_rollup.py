"""Minutes and hours are made by the set of devices: a change of job makes no second row, a change of board does."""

from __future__ import annotations

import time

import numpy as np
import pyarrow as pa
import pytest
from clickhouse_connect.driver.client import Client

from pipeline.sink.batcher import Batcher
from pipeline.sink.writer import Writer
from pipeline.store.migrate import migrate
from pipeline.store.rollup import Roller
from schemas.codec import encode_batch
from schemas.derived import ROLLUPS
from schemas.log_record import LogRecord

START = int(time.time()) // 3600 * 3_600_000 - 3_600_000
TOPIC = ROLLUPS["gpu"].topic


@pytest.fixture
def client(empty: Client) -> Client:
    migrate(empty)
    return empty


def pane(n: int, power: float, **who: str) -> pa.RecordBatch:
    """The n-th 10 s of one GPU."""
    identity = {"site": "s", "rack": "R1", "node": "n", "device": "a", "model": "H100", "board": ""} | who
    columns = {name: [value] for name, value in identity.items()}
    return ROLLUPS["gpu"].build(
        {
            "ts": np.full(1, START + 10_000 * n),
            **columns,
            "samples": [10],
            "power_w_mean": [power],
            "power_w_max": [power],
        }
    )


def version_2(batch: pa.RecordBatch, job: str) -> bytes:
    """The same as a worker of wire version 2 sent it: with a job, without a board."""
    names = ["job" if name == "board" else name for name in batch.schema.names]
    arrays = [pa.array([job]) if name == "job" else batch.column(n) for n, name in enumerate(names)]
    fields = [pa.field(name, a.type, nullable=False) for name, a in zip(names, arrays, strict=True)]
    return encode_batch(pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields, {b"gigawatch": b"2/rollup_gpu"})))


def store(client: Client, values: list[bytes]) -> None:
    batcher = Batcher()
    for n, value in enumerate(values):
        batcher.add(LogRecord(TOPIC, 0, n, START, value), 0.0)
    flush = batcher.close()
    assert not flush.dead
    assert Writer(client, "log-1").write(flush) == []


def rolled(client: Client, tier: str) -> list[tuple[object, ...]]:
    asked = f"SELECT device, board, samples, power_w_mean FROM gigawatch.gpu_{tier} ORDER BY board"
    return [tuple(row) for row in client.query(asked).result_rows]


def test_a_job_change_makes_no_second_row_of_a_device(client: Client) -> None:
    store(client, [version_2(pane(n, 100.0 * n), f"job-{n}") for n in range(1, 7)])
    assert Roller(client).roll(everything=True) > 0
    assert rolled(client, "1m") == rolled(client, "1h") == [("a", "", 60, 350.0)]
    assert client.query("SELECT uniqExact(who) FROM gigawatch.gpu_10s_frames").result_rows == [(1,)]
    assert client.query("SELECT count() FROM gigawatch.identities FINAL").result_rows == [(1,)]


def test_two_boards_at_one_place_are_never_averaged(client: Client) -> None:
    boards = ["GPU-x"] * 3 + ["GPU-y"] * 3
    store(client, [ROLLUPS["gpu"].encode(pane(n, 100.0 * n, board=boards[n - 1])) for n in range(1, 7)])
    assert Roller(client).roll(everything=True) > 0
    for tier in ("1m", "1h"):
        assert rolled(client, tier) == [("a", "GPU-x", 30, 200.0), ("a", "GPU-y", 30, 500.0)]
