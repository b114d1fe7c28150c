"""The health of a process, judged from its status: live, ready, degraded, and why. Pure: the time is given."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.monitoring.statuses import ProcessStatus, ProducerStatus, SinkStatus, StreamStatus

#: A process without a new status for this long does not run its loop: the watchdog restarts it.
STALL_S = 30.0
COMMIT_AGE_S = 60.0
SILENT_KAFKA_S = 15.0
SPOOL_RED = 0.8
_MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class Health:
    """`live`: its loop runs. `ready`: it does its work; `why` not, a sentence each.

    `degraded`: what fails while the rest of the work goes on, a sentence each; it is ready all the same.
    """

    live: bool
    ready: bool
    why: tuple[str, ...] = ()
    degraded: tuple[str, ...] = ()

    def __str__(self) -> str:
        if not self.ready:
            return "; ".join((*self.why, *self.degraded))
        return "ready, degraded: " + "; ".join(self.degraded) if self.degraded else "ready"


def judge(status: ProcessStatus, now: float) -> Health:
    """`now`: Unix time."""
    if not status.at:
        return Health(False, False, ("no status from it yet",))
    age = now - status.at
    if age > STALL_S:
        return Health(False, False, (f"no status from it for {age:.0f} s",))
    why, degraded = list[str](), list[str]()
    if isinstance(status, ProducerStatus):
        why, degraded = _producer(status)
    elif isinstance(status, StreamStatus):
        why = _stream(status)
    elif isinstance(status, SinkStatus):
        why = _sink(status, now)
    return Health(True, not why, tuple(why), tuple(degraded))


def _producer(status: ProducerStatus) -> tuple[list[str], list[str]]:
    """(why it is not ready, what of its source fails)."""
    why = []
    if status.waiting_s > SILENT_KAFKA_S:
        why.append(f"Kafka has acknowledged nothing for {status.waiting_s:.0f} s")
    spool = status.spool
    if spool is not None and spool.limit and spool.bytes > SPOOL_RED * spool.limit:
        why.append(
            f"the disk buffer holds {spool.bytes >> 20} of {spool.limit >> 20} MB: when it is full the oldest samples "
            "are dropped"
        )
    if spool is not None and spool.dropped_rows:
        why.append(f"{spool.dropped_rows} rows were dropped from a full disk buffer")
    if status.refused_rows or status.refused_messages:
        topics = ", ".join(f"{n} on {topic}" for topic, n in sorted(status.refused_messages.items()))
        why.append(
            f"{status.refused_rows} rows were dropped in messages larger than Kafka takes"
            + (f" ({topics})" if topics else "")
            + ": let the source send smaller frames (fewer devices a message), or raise max.message.bytes of the topic "
            "and message.max.bytes of the broker"
        )
    failing = [f"{name}: {sentence}" for name, sentence in sorted(status.source_errors.items())]
    if status.source_state == "restarting":
        why.append(
            f"its source failed and is being restarted ({status.source_restarts} restarts so far)"
            + (f": {_named(failing)}" if failing else "")
        )
        failing = []
    return why, [f"the source cannot read {_named(failing)}"] if failing else []


def _named(sentences: list[str]) -> str:
    more = len(sentences) - _MOST_NAMED
    return "; ".join(sentences[:_MOST_NAMED]) + (f"; and {more} more" if more > 0 else "")


def _stream(status: StreamStatus) -> list[str]:
    if status.assigned:
        return []
    return ["it has no partitions (yet): it is joining its group, or there are more workers than partitions"]


def _sink(status: SinkStatus, now: float) -> list[str]:
    why = []
    if not status.assigned:
        why.append("it has no partitions (yet): it is joining its group, or there are more sinks than partitions")
    if status.trouble:
        why.append(status.trouble)
    age = now - (status.last_commit or now)
    if status.buffered_bytes and age > COMMIT_AGE_S:
        why.append(f"nothing was committed for {age:.0f} s, with {status.buffered_bytes >> 20} MB buffered")
    return why
