"""What a process says of itself, as Prometheus metrics: which figure, what it means, where in the status it stands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pipeline.monitoring.health import ProcessStatus, judge


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """`key` in the status; with `label`, what is there is a mapping from the label's value to the number.

    `since`: a time, whose age counts.
    """

    name: str
    help: str
    key: str
    label: str = ""
    counter: bool = False
    since: bool = False


_COMMON = (
    MetricSpec("cpu_seconds", "CPU seconds used.", "cpu_s", counter=True),
    MetricSpec("peak_memory_megabytes", "Largest resident memory so far.", "peak_rss_mb"),
)
FIGURES: dict[str, tuple[MetricSpec, ...]] = {
    "producer": (
        MetricSpec("messages", "Messages that Kafka has acknowledged.", "frames", "topic", counter=True),
        MetricSpec("rows", "Samples of devices that Kafka has acknowledged.", "rows", "topic", counter=True),
        MetricSpec("bytes", "Bytes of messages that Kafka has acknowledged.", "bytes", counter=True),
        MetricSpec("retries", "Messages sent again.", "retries", counter=True),
        MetricSpec(
            "missing_values", "Values that were no measurement, by metric/reason.", "missing", "value", counter=True
        ),
        MetricSpec("silent_sources", "Reads that failed, by place and reason.", "silent", "source", counter=True),
        MetricSpec(
            "waiting_seconds", "Since when Kafka has acknowledged nothing though something is sent.", "waiting_s"
        ),
        MetricSpec("pending_bytes", "Sent and not acknowledged.", "pending_bytes"),
        MetricSpec("spool", "The buffer on disk: bytes, limit, messages, rows dropped.", "spool", "what"),
    ),
    "stream": (
        MetricSpec("partitions", "Partitions assigned.", "assigned"),
        MetricSpec("messages", "Messages and rows by what became of them.", "counts", "what", counter=True),
        MetricSpec("rewinds", "Times that messages passed over were read again.", "rewinds", counter=True),
        MetricSpec("published_rows", "Rows published by stream.", "published", "stream", counter=True),
        MetricSpec("devices", "Devices known, by kind.", "devices", "kind"),
        MetricSpec("open_incidents", "Incidents open.", "open_incidents"),
        MetricSpec("progress_age_seconds", "Since the last message was processed.", "last_progress", since=True),
        MetricSpec("position", "Next offset to process.", "positions", "partition"),
    ),
    "sink": (
        MetricSpec("partitions", "Partitions assigned.", "assigned"),
        MetricSpec("rows", "Rows that ClickHouse has acknowledged.", "rows", "table", counter=True),
        MetricSpec("messages", "Messages read.", "received", "topic", counter=True),
        MetricSpec("discarded", "Messages not stored, by reason.", "discarded", "reason", counter=True),
        MetricSpec("dead_letters", "Messages set aside, by reason.", "dead", "reason", counter=True),
        MetricSpec("insert_retries", "Inserts that were tried again.", "retries", counter=True),
        MetricSpec("commits_refused", "Commits refused after a rebalance.", "commits_refused", counter=True),
        MetricSpec("buffered_bytes", "Read and not yet stored.", "buffered_bytes"),
        MetricSpec("commit_age_seconds", "Since the last commit.", "last_commit", since=True),
        MetricSpec(
            "freshness_seconds", "From a sample's time stamp to when it can be queried.", "freshness", "quantile"
        ),
        MetricSpec("position", "Next offset to store.", "positions", "partition"),
    ),
}


class _Says(Collector):
    def __init__(self, statuses: Mapping[str, ProcessStatus], now: float) -> None:
        self._statuses, self._now = statuses, now

    def collect(self) -> Iterator[Metric]:
        ready = GaugeMetricFamily("gigawatch_ready", "1 while the process does its work.", labels=["process"])
        for name, said in self._statuses.items():
            ready.add_metric([name], float(judge(kind_of(name), said, self._now).ready))
        yield ready
        for kind, figures in FIGURES.items():
            mine = {name: said for name, said in self._statuses.items() if kind_of(name) == kind}
            for figure in (*_COMMON, *figures) if mine else ():
                labels = ["process", *([figure.label] if figure.label else [])]
                family = (CounterMetricFamily if figure.counter else GaugeMetricFamily)(
                    f"gigawatch_{kind}_{figure.name}", figure.help, labels=labels
                )
                for name, said in mine.items():
                    for value, number in _numbers(figure, said.get(figure.key), self._now):
                        family.add_metric([name, *value], number)
                yield family


def kind_of(name: str) -> str:
    """`stream-0` is a stream."""
    return name.split("-", maxsplit=1)[0]


def exposition(statuses: Mapping[str, ProcessStatus], now: float) -> bytes:
    """Prometheus text of what processes (by name: producer, sink, stream-0, ...) say of themselves."""
    registry = CollectorRegistry()
    registry.register(_Says({n: s for n, s in statuses.items() if s and kind_of(n) in FIGURES}, now))
    return generate_latest(registry)


def _numbers(figure: MetricSpec, found: Any, now: float) -> Iterator[tuple[Sequence[str], float]]:
    if figure.label:
        for value, number in (found or {}).items():
            if isinstance(number, (int, float)) and value != "slope":
                shown = {"p50_s": "0.5", "p99_s": "0.99"}.get(value, value)
                yield [str(shown)], float(number)
    elif isinstance(found, (int, float)):
        yield [], max(0.0, now - found) if figure.since else float(found)
