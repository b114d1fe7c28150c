"""The status of processes as Prometheus metrics: each metric's name, meaning, and the value in the status."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pipeline.monitoring.health import judge
from pipeline.monitoring.statuses import ProcessStatus, ProducerStatus, SinkStatus, StreamStatus, kind_of

S = TypeVar("S", bound=ProcessStatus)
SOURCE_STATES = ("running", "restarting", "ended")


@dataclass(frozen=True, slots=True)
class MetricSpec(Generic[S]):
    """`read` returns the number in a status, None for no number; with `label`, numbers by the label's value.

    `since`: the number is a Unix time, and the metric is its age in seconds.
    """

    name: str
    help: str
    read: Callable[[S], float | Mapping[str, float | None] | None]
    label: str = ""
    counter: bool = False
    since: bool = False

    def numbers(self, status: S, now: float) -> Iterator[tuple[list[str], float]]:
        """(labels besides the process, number)."""
        found = self.read(status)
        for label, number in found.items() if isinstance(found, Mapping) else [("", found)]:
            if number is not None:
                yield [label] if self.label else [], max(0.0, now - number) if self.since else float(number)


def _spool(status: ProducerStatus) -> dict[str, int]:
    return status.spool.to_json() if status.spool is not None else {}


def _freshness(status: SinkStatus) -> dict[str, float | None]:
    return {"0.5": status.freshness.p50_s, "0.99": status.freshness.p99_s}


PROCESS: tuple[MetricSpec[ProcessStatus], ...] = (
    MetricSpec("cpu_seconds", "CPU seconds used.", lambda s: s.cpu_s, counter=True),
    MetricSpec("peak_memory_megabytes", "Largest resident memory so far.", lambda s: s.peak_rss_mb),
)
PRODUCER: tuple[MetricSpec[ProducerStatus], ...] = (
    MetricSpec("messages", "Messages that Kafka has acknowledged.", lambda s: s.frames, "topic", counter=True),
    MetricSpec("rows", "Samples of devices that Kafka has acknowledged.", lambda s: s.rows, "topic", counter=True),
    MetricSpec("bytes", "Bytes of messages that Kafka has acknowledged.", lambda s: s.bytes, counter=True),
    MetricSpec("retries", "Messages sent again.", lambda s: s.retries, counter=True),
    MetricSpec(
        "refused_rows",
        "Samples dropped in messages larger than Kafka takes.",
        lambda s: s.refused_rows,
        counter=True,
    ),
    MetricSpec(
        "refused_messages",
        "Messages dropped since they are larger than Kafka takes.",
        lambda s: s.refused_messages,
        "topic",
        counter=True,
    ),
    MetricSpec(
        "missing_values",
        "Values that were no measurement, by metric/reason.",
        lambda s: s.missing,
        "value",
        counter=True,
    ),
    MetricSpec("silent_sources", "Failed reads, by place and reason.", lambda s: s.silent, "source", counter=True),
    MetricSpec(
        "source_error",
        "1 for each endpoint that fails now; the health has the sentence.",
        lambda s: dict.fromkeys(s.source_errors, 1),
        "source",
    ),
    MetricSpec("source_restarts", "Restarts of the source after it failed.", lambda s: s.source_restarts, counter=True),
    MetricSpec(
        "source_state",
        "1 for the state of the source: running, restarting after a failure, or ended.",
        lambda s: {state: state == s.source_state for state in SOURCE_STATES},
        "state",
    ),
    MetricSpec(
        "waiting_seconds", "Since Kafka last acknowledged anything, while messages wait.", lambda s: s.waiting_s
    ),
    MetricSpec("pending_bytes", "Sent and not acknowledged.", lambda s: s.pending_bytes),
    MetricSpec("spool", "The buffer on disk: bytes, limit, messages, rows dropped.", _spool, "what"),
)
STREAM: tuple[MetricSpec[StreamStatus], ...] = (
    MetricSpec("partitions", "Partitions assigned.", lambda s: s.assigned),
    MetricSpec("messages", "Messages and rows by outcome.", lambda s: s.counts, "what", counter=True),
    MetricSpec("rewinds", "Times that skipped messages were read again.", lambda s: s.rewinds, counter=True),
    MetricSpec("published_rows", "Rows published by stream.", lambda s: s.published, "stream", counter=True),
    MetricSpec("devices", "Devices known, by kind.", lambda s: s.devices, "kind"),
    MetricSpec("open_incidents", "Incidents open.", lambda s: s.open_incidents),
    MetricSpec("progress_age_seconds", "Since the last message was processed.", lambda s: s.last_progress, since=True),
    MetricSpec("position", "Next offset to process.", lambda s: s.positions, "partition"),
)
SINK: tuple[MetricSpec[SinkStatus], ...] = (
    MetricSpec("partitions", "Partitions assigned.", lambda s: s.assigned),
    MetricSpec("rows", "Rows that ClickHouse has acknowledged.", lambda s: s.rows, "table", counter=True),
    MetricSpec("messages", "Messages read.", lambda s: s.received, "topic", counter=True),
    MetricSpec("discarded", "Messages not stored, by reason.", lambda s: s.discarded, "reason", counter=True),
    MetricSpec("dead_letters", "Messages sent to the dead-letter topic.", lambda s: s.dead, "reason", counter=True),
    MetricSpec("insert_retries", "Inserts that were tried again.", lambda s: s.retries, counter=True),
    MetricSpec("commits_refused", "Commits refused after a rebalance.", lambda s: s.commits_refused, counter=True),
    MetricSpec("buffered_bytes", "Read and not yet stored.", lambda s: s.buffered_bytes),
    MetricSpec("commit_age_seconds", "Since the last commit.", lambda s: s.last_commit, since=True),
    MetricSpec("freshness_seconds", "From a sample's time stamp to when it can be queried.", _freshness, "quantile"),
    MetricSpec("position", "Next offset to store.", lambda s: s.positions, "partition"),
)
#: Kind of process -> its own metrics; PROCESS holds those of every kind.
METRICS: dict[str, tuple[MetricSpec[Any], ...]] = {"producer": PRODUCER, "stream": STREAM, "sink": SINK}


class _StatusCollector(Collector):
    def __init__(self, statuses: Mapping[str, ProcessStatus], now: float) -> None:
        self._statuses, self._now = statuses, now

    def collect(self) -> Iterator[Metric]:
        healths = {name: judge(status, self._now) for name, status in self._statuses.items()}
        ready = GaugeMetricFamily("gigawatch_ready", "1 while the process does its work.", labels=["process"])
        degraded = GaugeMetricFamily(
            "gigawatch_degraded", "1 while a part of the process's work fails.", labels=["process"]
        )
        for name, health in healths.items():
            ready.add_metric([name], float(health.ready))
            degraded.add_metric([name], float(bool(health.degraded)))
        yield from (ready, degraded)
        for kind, own in METRICS.items():
            of_kind = {name: status for name, status in self._statuses.items() if kind_of(name) == kind}
            for spec in (*PROCESS, *own) if of_kind else ():
                family = (CounterMetricFamily if spec.counter else GaugeMetricFamily)(
                    f"gigawatch_{kind}_{spec.name}",
                    spec.help,
                    labels=["process", *([spec.label] if spec.label else [])],
                )
                for name, status in of_kind.items():
                    for labels, number in spec.numbers(status, self._now):
                        family.add_metric([name, *labels], number)
                yield family


def exposition(statuses: Mapping[str, ProcessStatus], now: float) -> bytes:
    """Prometheus text of processes by name (producer, sink, stream-0, ...) that have reported a status."""
    registry = CollectorRegistry()
    registry.register(_StatusCollector({n: s for n, s in statuses.items() if s.at and kind_of(n) in METRICS}, now))
    return generate_latest(registry)
