"""Statuses between versions: what is missing, unknown or of another type never stops a reader."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.monitoring import status
from pipeline.monitoring.status import Status
from pipeline.monitoring.statuses import (
    KINDS,
    BusyStatus,
    DiskBufferStatus,
    FreshnessStatus,
    ProcessStatus,
    ProducerStatus,
    SinkStatus,
    StreamStatus,
    WatchStatus,
    parse,
    status_of,
)
from tests.pipeline.monitoring.test_health import SINK

FULL = (
    ProducerStatus(
        pid=7,
        at=1.5,
        frames={"telemetry.gpu": 3},
        held=True,
        refused_rows=72,
        refused_messages={"telemetry.gpu": 1},
        spool=DiskBufferStatus(1, 2, 3, 4, 5),
        source_errors={"node-1:9400": "connection refused"},
        source_state="restarting",
    ),
    StreamStatus(assigned=2, positions={"telemetry.gpu/0": None, "telemetry.gpu/1": 4}, busy=BusyStatus(1.0, 2.0, 0.5)),
    SinkStatus(rows={"gpu": 4}, freshness=FreshnessStatus(0.5, 1.5, 0.1), last_commit=3.0, buckets=9),
    WatchStatus(url="http://127.0.0.1:18080", asked=3),
)


@pytest.mark.parametrize("full", FULL, ids=lambda s: type(s).__name__)
def test_a_status_goes_through_its_file_unchanged(full: ProcessStatus) -> None:
    assert type(full).from_json(json.loads(json.dumps(full.to_json()))) == full


@pytest.mark.parametrize("form", KINDS.values(), ids=lambda f: f.__name__)
def test_an_older_process_without_a_key_reads_as_the_default(form: type[ProcessStatus]) -> None:
    assert form.from_json({"at": 3}) == form(at=3.0)


def test_unknown_keys_and_values_of_another_type_are_ignored() -> None:
    found = SinkStatus.from_json(
        {
            **SINK,
            "of_the_next_version": 1,
            "assigned": "four",
            "retries": True,
            "rows": {"gpu": 5, "node": "many"},
            "freshness": {"p50_s": None, "p99_s": "soon", "slope": 1},
            "last_commit": None,
            "dead": [1],
        }
    )
    assert (found.assigned, found.retries, found.rows, found.dead) == (0, 0, {"gpu": 5}, {})
    assert found.freshness == FreshnessStatus(None, None, 1.0)
    assert found.last_commit is None
    assert found.at == SINK["at"]


def test_a_producer_without_a_disk_buffer_has_none() -> None:
    assert ProducerStatus.from_json({"spool": {}}).spool is None
    assert ProducerStatus.from_json({"spool": {"bytes": 5}}).spool == DiskBufferStatus(bytes=5)


def test_a_process_is_read_by_its_name_and_a_missing_one_is_empty() -> None:
    statuses = {"stream-1": parse("stream-1", {"assigned": 3}), "other": parse("other", {"pid": 4})}
    assert statuses == {"stream-1": StreamStatus(assigned=3), "other": ProcessStatus(pid=4)}
    assert status_of(statuses, "stream-1", StreamStatus).assigned == 3
    assert status_of(statuses, "sink", SinkStatus) == SinkStatus()


async def test_a_written_status_holds_the_process_and_what_it_counts(tmp_path: Path) -> None:
    Status("sink", tmp_path / "sink.json", SinkStatus(assigned=4, rows={"gpu": 1}).to_json).write()
    (tmp_path / "factory.json").write_text("{}")
    (tmp_path / "stream-0.json").write_text("no JSON")
    found = status.read_all(tmp_path)
    assert set(found) == {"sink", "stream-0"}
    sink = status_of(found, "sink", SinkStatus)
    assert (sink.assigned, sink.rows) == (4, {"gpu": 1})
    assert sink.pid > 0 < sink.at
    assert found["stream-0"] == StreamStatus()
