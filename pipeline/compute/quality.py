"""What was not taken at face value, counted by rack and pane: late, out of order, doubled, counted backwards, silent,
frozen, impossible.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa

from pipeline.compute.devices import Devices
from schemas.arrays import Bools, Ints
from schemas.derived import QUALITY
from schemas.frame import Frame

_MOST_PLACES = 65_536

#: reason -> the rule, for docs and people.
RULES = {
    "late": "came after its pane had closed: stored raw, left out of windows",
    "out-of-order": "older than what the same devices had sent before, its pane still open: taken",
    "doubled": "a second sample of a device in the same tick: the first counts",
    "behind": "more than a minute older than the moment at which Kafka got it: taken (a slow clock, or a source that "
    "catches up)",
    "time-zone": "behind by a whole number of quarter hours: taken (a clock that tells local time?)",
    "future": "more than a minute ahead of the moment at which Kafka got it: a dead letter",
    "seconds": "a time stamp in seconds where milliseconds are wanted: a dead letter",
    "stale": "older than --max-age when Kafka got it: a dead letter",
    "silent": "a device that was heard before and said nothing for a whole pane",
    "frozen": "an energy counter that stands still while power is drawn",
    "counter-reset": "a counter that went backwards: what it shows since counts as its growth",
    "sentinel": "a vendor's word for 'not supported': missing",
    "range": "physically impossible: missing",
    "infinite": "no number: missing",
}


class Quality:
    """Counts wait for their pane to close; `take` gives them as rows of the `quality` stream."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._counts: dict[int, Counter[tuple[str, str, str, str]]] = {}
        self._newest: dict[bytes, int] = {}  # identity block -> newest time stamp, ms
        self._codes: tuple[int, Ints, list[tuple[str, str]]] = (-1, np.zeros(0, np.int64), [])

    def in_order(self, frame: Frame) -> bool:
        """Whether the frame is no older than the last one of the same devices; those without a known layout always
        are.
        """
        if not frame.block:
            return True
        newest = frame.span()[1]
        if newest < self._newest.get(frame.block, 0):
            return False
        if len(self._newest) >= _MOST_PLACES:
            self._newest.clear()
        self._newest[frame.block] = newest
        return True

    def frame(self, end: int, reason: str, frame: Frame, where: Bools | None = None) -> None:
        """Notes samples of a frame (those chosen by `where`) whose devices need not be registered."""
        racks = list(zip(frame.identity("site"), frame.identity("rack"), strict=True))
        chosen = racks if where is None else [racks[i] for i in np.flatnonzero(where)]
        self._counts.setdefault(end, Counter()).update((site, rack, "", reason) for site, rack in chosen)

    def devices(self, end: int, reason: str, registry: Devices, rows: Ints, metric: str = "") -> None:
        """Notes registered devices by their rows."""
        if not len(rows):
            return
        if self._codes[0] != registry.version:
            codes, _ = registry.group("site", "rack")
            names: dict[int, tuple[str, str]] = {}
            for code, site, rack in zip(
                codes.tolist(), registry.columns["site"], registry.columns["rack"], strict=True
            ):
                names.setdefault(code, (site, rack))
            self._codes = registry.version, codes, [names[i] for i in range(len(names))]
        found = np.bincount(self._codes[1][rows])
        counts = self._counts.setdefault(end, Counter())
        for code in np.flatnonzero(found).tolist():
            counts[(*self._codes[2][code], metric, reason)] += int(found[code])

    def take(self, end: int) -> pa.RecordBatch | None:
        """What was noted of panes up to `end`; None when there was nothing."""
        rows = [
            {
                "ts": at,
                "kind": self._kind,
                "site": site,
                "rack": rack,
                "metric": metric,
                "reason": reason,
                "count": count,
            }
            for at in sorted(t for t in self._counts if t <= end)
            for (site, rack, metric, reason), count in sorted(self._counts.pop(at).items())
        ]
        return QUALITY.build_rows(rows) if rows else None
