"""The status of each kind of process, as its JSON file holds it; the field names are the keys of that file.

A reader and a writer of two versions understand each other: a missing key, or a value of another type, is the default;
an unknown key is ignored.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, is_dataclass
from typing import Any, Self, TypeVar, Union, get_args, get_origin, get_type_hints

_UNFIT = object()


class _FromJson:
    __slots__ = ()

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """The status with every key of `found` that is known and of the right type; defaults for the others."""
        hints = get_type_hints(cls)
        values = {name: _fitting(hints[name], value) for name, value in found.items() if name in hints}
        return cls(**{name: value for name, value in values.items() if value is not _UNFIT})

    def to_json(self) -> dict[str, Any]:
        return asdict(self)  # type: ignore[call-overload, no-any-return]


@dataclass(frozen=True, slots=True)
class DiskBufferStatus(_FromJson):
    """The producer's buffer on disk (`--spool`); bytes, and what was dropped since it is full."""

    bytes: int = 0
    limit: int = 0
    messages: int = 0
    dropped_rows: int = 0
    dropped_messages: int = 0


@dataclass(frozen=True, slots=True)
class FreshnessStatus(_FromJson):
    """Seconds from a sample's time stamp to the moment it can be queried; `slope`: seconds more a second."""

    p50_s: float | None = None
    p99_s: float | None = None
    slope: float = 0.0


@dataclass(frozen=True, slots=True)
class BusyStatus(_FromJson):
    """From the first message to the last result: Unix times, and the CPU seconds between them."""

    began: float = 0.0
    ended: float = 0.0
    cpu_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ProcessStatus(_FromJson):
    """What every process reports. `at`: Unix time of the report, 0 before the first one."""

    pid: int = 0
    at: float = 0.0
    cpu_s: float = 0.0
    peak_rss_mb: int = 0
    metrics_at: str = ""


@dataclass(frozen=True, slots=True)
class ProducerStatus(ProcessStatus):
    """Messages (`frames`), `rows` and `bytes` are those that Kafka has acknowledged, by topic.

    `missing`: values that were no measurement, by metric/reason; `silent`: failed reads, by "place: reason";
    `refused_rows`: rows of messages larger than Kafka takes, `refused_messages` by topic. `source_errors`: the sentence
    of each endpoint (or source) that fails now; `source_state`: running, restarting or ended.
    """

    source: str = ""
    frames: dict[str, int] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    bytes: int = 0
    first_ts_ms: int = 0
    last_ts_ms: int = 0
    missing: dict[str, int] = field(default_factory=dict)
    silent: dict[str, int] = field(default_factory=dict)
    devices: dict[str, int] = field(default_factory=dict)
    metrics: dict[str, int] = field(default_factory=dict)
    held: bool = False
    pending_bytes: int = 0
    retries: int = 0
    refused_rows: int = 0
    refused_messages: dict[str, int] = field(default_factory=dict)
    waiting_s: float = 0.0
    spool: DiskBufferStatus | None = None
    source_errors: dict[str, str] = field(default_factory=dict)
    source_restarts: int = 0
    source_state: str = "running"


@dataclass(frozen=True, slots=True)
class StreamStatus(ProcessStatus):
    """`positions`: next offset to process, by topic/partition; `last_progress`: Unix time of the last result."""

    assigned: int = 0
    rewinds: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    devices: dict[str, int] = field(default_factory=dict)
    published: dict[str, int] = field(default_factory=dict)
    positions: dict[str, int | None] = field(default_factory=dict)
    open_incidents: int = 0
    last_progress: float | None = None
    busy: BusyStatus | None = None


@dataclass(frozen=True, slots=True)
class SinkStatus(ProcessStatus):
    """`rows` are those that ClickHouse has acknowledged, by table; `positions`: next offset to store, by
    topic/partition; `trouble`: why it does not store now; `last_commit`: Unix time.
    """

    assigned: int = 0
    rows: dict[str, int] = field(default_factory=dict)
    received: dict[str, int] = field(default_factory=dict)
    discarded: dict[str, int] = field(default_factory=dict)
    missing: dict[str, int] = field(default_factory=dict)
    dead_letters: int = 0
    dead: dict[str, int] = field(default_factory=dict)
    retries: int = 0
    commits_refused: int = 0
    trouble: str = ""
    positions: dict[str, int | None] = field(default_factory=dict)
    last_commit: float | None = None
    newest_age_s: float | None = None
    busy: BusyStatus | None = None
    freshness: FreshnessStatus = FreshnessStatus()
    buffered_bytes: int = 0
    buckets: int = 0


@dataclass(frozen=True, slots=True)
class WatchStatus(ProcessStatus):
    """The watch page: its address, and the queries that it ran."""

    url: str = ""
    asked: int = 0
    failed: int = 0


S = TypeVar("S", bound=ProcessStatus)
#: Kind of process -> its status.
KINDS: dict[str, type[ProcessStatus]] = {
    "producer": ProducerStatus,
    "stream": StreamStatus,
    "sink": SinkStatus,
    "watch": WatchStatus,
}


def kind_of(name: str) -> str:
    """`stream-0` is a stream."""
    return name.split("-", maxsplit=1)[0]


def parse(name: str, found: Mapping[str, Any]) -> ProcessStatus:
    """The status of the process `name` (producer, sink, stream-0, ...) from its JSON."""
    return KINDS.get(kind_of(name), ProcessStatus).from_json(found)


def status_of(statuses: Mapping[str, ProcessStatus], name: str, form: type[S]) -> S:
    """The status of the process `name`; an empty one when it has not reported."""
    found = statuses.get(name)
    return found if isinstance(found, form) else form()


def _fitting(hint: Any, found: Any) -> Any:
    """`found` as the type `hint`, _UNFIT when it is of another type."""
    if get_origin(hint) in (Union, types.UnionType):
        found = None if found == {} else found  # an absent part of the status
        return next((value for h in get_args(hint) if (value := _fitting(h, found)) is not _UNFIT), _UNFIT)
    if get_origin(hint) is dict:
        values = {k: _fitting(get_args(hint)[1], v) for k, v in found.items()} if isinstance(found, dict) else _UNFIT
        return {k: v for k, v in values.items() if v is not _UNFIT} if isinstance(values, dict) else _UNFIT
    if is_dataclass(hint) and isinstance(hint, type) and issubclass(hint, _FromJson):
        return hint.from_json(found) if isinstance(found, dict) else _UNFIT
    if hint is float and isinstance(found, int) and not isinstance(found, bool):
        return float(found)
    return found if isinstance(found, hint) and (hint is bool or not isinstance(found, bool)) else _UNFIT
