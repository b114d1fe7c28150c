"""Data quality by rack and pane: late, out of order, doubled, counted backwards, silent, frozen, impossible."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa

from pipeline.compute.devices import Devices
from pipeline.compute.versioned import Versioned
from schemas.arrays import Bools, Ints
from schemas.derived import QUALITY
from schemas.frame import Frame

_MOST_PLACES = 65_536

#: Reason -> what it means and what is done, for docs and people.
REASONS = {
    "late": "came after its pane had closed: stored raw, left out of windows",
    "out-of-order": "older than what the same devices had sent before, its pane still open: taken",
    "doubled": "a second sample of a device in the same tick: the first counts",
    "behind": "more than a minute older than the moment at which Kafka got it: taken (a slow clock, or a source that "
    "catches up)",
    "time-zone": "behind by a whole number of quarter hours: taken (a clock in local time?)",
    "future": "more than a minute ahead of the moment at which Kafka got it: a dead letter",
    "seconds": "a time stamp in seconds where milliseconds are wanted: a dead letter",
    "stale": "older than --max-age when Kafka got it: a dead letter",
    "down": "an endpoint that gave no samples in a whole pane",
    "inventory-differs": "two inventories place a device, or name its model, differently",
    "silent": "a known device without a sample in a whole pane",
    "frozen": "an energy counter that does not move while power is drawn",
    "counter-reset": "a counter that went backwards: its value since the reset counts as its increase",
    "sentinel": "a vendor's value for 'not supported': missing",
    "range": "physically impossible: missing",
    "infinite": "no number: missing",
}


class Quality:
    """Counts until their pane closes; `rows_until` returns them as rows of the `quality` stream."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._counts: dict[int, Counter[tuple[str, str, str, str]]] = {}
        self._newest: dict[bytes, int] = {}  # identity block -> newest time stamp, ms
        self._racks: Versioned[tuple[Ints, list[tuple[str, str]]]] = Versioned()

    def in_order(self, frame: Frame) -> bool:
        """Whether the frame is no older than the last one of the same devices; always so for a frame without a known
        layout.
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

    def note_frame(self, end: int, reason: str, frame: Frame, where: Bools | None = None) -> None:
        """Counts the samples of a frame, or those in `where`; their devices need not be known."""
        racks = list(zip(frame.identity("site"), frame.identity("rack"), strict=True))
        chosen = racks if where is None else [racks[i] for i in np.flatnonzero(where)]
        self._counts.setdefault(end, Counter()).update((site, rack, "", reason) for site, rack in chosen)

    def note_devices(self, end: int, reason: str, devices: Devices, rows: Ints, metric: str = "") -> None:
        """Counts known devices by their rows."""
        if not len(rows):
            return
        codes, racks = self._racks.get(devices.version, lambda: _racks_of(devices))
        found = np.bincount(codes[rows])
        counts = self._counts.setdefault(end, Counter())
        for code in np.flatnonzero(found).tolist():
            counts[(*racks[code], metric, reason)] += int(found[code])

    def rows_until(self, end: int) -> pa.RecordBatch | None:
        """Returns the counts of panes up to `end`, and forgets them; None when there are none."""
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


def _racks_of(devices: Devices) -> tuple[Ints, list[tuple[str, str]]]:
    """Returns (int64[devices] rack number, (site, rack) by number)."""
    codes, _ = devices.group("site", "rack")
    names: dict[int, tuple[str, str]] = {}
    for code, site, rack in zip(codes.tolist(), devices.columns["site"], devices.columns["rack"], strict=True):
        names.setdefault(code, (site, rack))
    return codes, [names[i] for i in range(len(names))]
