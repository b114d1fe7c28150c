"""The summary of a run says what was dropped, also when nothing else was wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from clickhouse_connect.driver.client import Client

from pipeline.embedded.run_summary import summary
from pipeline.monitoring.statuses import FreshnessStatus, ProcessStatus, ProducerStatus, SinkStatus


@dataclass(frozen=True, slots=True)
class Answer:
    result_rows: list[tuple[int, ...]]


class EmptyStore:
    """A store without a row: every count and size is 0."""

    def query(self, _: str, **__: Any) -> Answer:
        return Answer([(0,)])


def made(statuses: dict[str, ProcessStatus]) -> dict[str, Any]:
    return summary(
        cast("Client", EmptyStore()),
        statuses,
        {"sink": 1.5},
        tick_s=1.0,
        wall_s=12.0,
        drained=True,
        recycles=0,
        source="synthetic",
    )


def test_rows_that_kafka_refused_for_their_size_are_in_the_summary() -> None:
    found = made({"producer": ProducerStatus(at=1.0, refused_rows=72, refused_messages={"telemetry.gpu": 1})})
    assert (found["refused_rows"], found["refused_messages"]) == (72, {"telemetry.gpu": 1})
    assert found["rows_missing"] == 0, "rows that Kafka never acknowledged are not missing from the store"


def test_a_run_of_which_nothing_was_reported_has_a_summary_of_zeros() -> None:
    found = made({})
    assert (found["source"], found["rows_produced"], found["refused_rows"], found["dead_letters"]) == (
        "synthetic",
        0,
        0,
        0,
    )
    assert found["peak_rss_mb"] == {}
    assert "restarts" not in found, "the command that ran the factory adds them"


def test_the_sinks_counts_and_freshness_are_in_the_summary() -> None:
    found = made(
        {"sink": SinkStatus(at=1.0, dead={"stale": 2}, dead_letters=2, freshness=FreshnessStatus(0.5, 1.5, 0.0))}
    )
    assert (found["dead_letters"], found["dead"]) == (2, {"stale": 2})
    assert (found["freshness_p50_s"], found["freshness_p99_s"]) == (0.5, 1.5)
