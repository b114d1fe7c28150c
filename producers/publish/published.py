"""What a producer has published, and what it could not read or had to mask: the counters of its status."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from producers.emission import SourceFailure
from producers.publish.outgoing import OutgoingMessage
from schemas.derived import QUALITY
from schemas.validation import Counts


@dataclass(slots=True)
class Published:
    """Messages and rows by topic and their bytes before compression, counted when Kafka acknowledges them.

    `missing` is by (metric, reason), `silent` by (endpoint, reason) of reads that failed.
    """

    frames: Counter[str] = field(default_factory=Counter)
    rows: Counter[str] = field(default_factory=Counter)
    sent_bytes: int = 0
    first_ts_ms: int = 0
    last_ts_ms: int = 0
    missing: Counts = field(default_factory=Counter)
    silent: Counter[tuple[str, str]] = field(default_factory=Counter)
    metrics: dict[str, int] = field(default_factory=dict)
    _places: dict[tuple[str, bytes, str], int] = field(default_factory=dict)
    _unreported: dict[str, Counts] = field(default_factory=dict)

    def acknowledged(self, message: OutgoingMessage) -> None:
        self.sent_bytes += message.size
        self.frames[message.topic] += message.count
        if message.kind:
            self.rows[message.topic] += message.rows
            self.metrics[message.kind] = max(self.metrics.get(message.kind, 0), message.metrics)
            self.first_ts_ms = min(self.first_ts_ms or message.ts_ms, message.ts_ms)
            self.last_ts_ms = max(self.last_ts_ms, message.ts_ms)

    def note_place(self, kind: str, key: bytes, first_node: str, rows: int) -> None:
        """Notes how many devices a message of this place covers."""
        self._places[kind, key, first_node] = max(rows, self._places.get((kind, key, first_node), 0))

    def devices(self) -> Counter[str]:
        """Returns how many devices of each kind have been sent: the largest message of each place, added up."""
        total: Counter[str] = Counter()
        for (kind, _, _), rows in self._places.items():
            total[kind] += rows
        return total

    def masked(self, kind: str) -> Counts:
        """Returns the counts of invalid values of `kind` since the last report, to be added to."""
        return self._unreported.setdefault(kind, Counter())

    def quality_of_masked(self, now_ms: int) -> pa.RecordBatch | None:
        """Returns quality rows of the values that were masked since the last call; None when there are none."""
        rows = [
            _quality(now_ms, kind, metric=metric, reason=reason, count=count)
            for kind, counts in self._unreported.items()
            for (metric, reason), count in counts.items()
        ]
        for counts in self._unreported.values():
            self.missing += counts
            counts.clear()
        return QUALITY.build_rows(rows) if rows else None

    def quality_of_failure(self, failure: SourceFailure) -> pa.RecordBatch:
        """Counts a read that failed and returns its quality row. The endpoint stays in `silent`: the row's rack is a
        rack or empty.
        """
        self.silent[failure.endpoint, failure.reason] += 1
        row = _quality(failure.ts_ms, "source", failure.site, failure.rack, reason=failure.reason)
        return QUALITY.build_rows([row])

    def status(self) -> dict[str, object]:
        return {
            "frames": dict(self.frames),
            "rows": dict(self.rows),
            "bytes": self.sent_bytes,
            "first_ts_ms": self.first_ts_ms,
            "last_ts_ms": self.last_ts_ms,
            "missing": {f"{metric}/{reason}": n for (metric, reason), n in self.missing.items()},
            "silent": {f"{endpoint}: {reason}": n for (endpoint, reason), n in self.silent.items()},
            "devices": dict(self.devices()),
            "metrics": self.metrics,
        }


def _quality(
    ts_ms: int, kind: str, site: str = "", rack: str = "", *, metric: str = "", reason: str, count: int = 1
) -> dict[str, Any]:
    return {
        "ts": ts_ms,
        "kind": kind,
        "site": site,
        "rack": rack,
        "metric": metric,
        "reason": reason,
        "count": count,
    }
