"""Freshness: seconds from a sample's time stamp to the moment it can be queried, as a histogram weighted by rows."""

from __future__ import annotations

import math
from collections import deque
from typing import Any

_STEP = 1.05  # buckets grow by 5 %: a quantile is right to within that
_LEAST_S = 0.001
STALE_S = 5.0


class Freshness:
    """All samples in a histogram; and the latest one by one, to see whether storage keeps pace."""

    def __init__(self) -> None:
        self._buckets: dict[int, int] = {}
        self._recent: deque[tuple[int, float, int]] = deque(maxlen=4096)

    def add(self, fresh_s: float, rows: int, ts_ms: int) -> None:
        bucket = max(0, math.ceil(math.log(max(fresh_s, _LEAST_S) / _LEAST_S, _STEP)))
        self._buckets[bucket] = self._buckets.get(bucket, 0) + rows
        self._recent.append((ts_ms, fresh_s, rows))

    def quantile(self, q: float) -> float:
        """Seconds; NaN before the first sample."""
        total = sum(self._buckets.values())
        if not total:
            return math.nan
        seen = 0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            if seen >= q * total:
                return float(_LEAST_S * _STEP**bucket)
        raise AssertionError("unreachable: the buckets add up to the total")

    def summary(self) -> dict[str, Any]:
        p50, p99 = self.quantile(0.5), self.quantile(0.99)
        if math.isnan(p50):
            return {"p50_s": None, "p99_s": None, "slope": 0.0}
        return {"p50_s": round(p50, 3), "p99_s": round(p99, 3), "slope": round(self.slope(), 5)}

    def slope(self) -> float:
        """By how many seconds samples grow staler in one second of event time: 0 when storage keeps pace, 1 at half the
        pace.

        From the oldest quarter of the samples to the newest, medians of each. A backlog (over STALE_S at the end)
        counts from the freshest of the oldest quarter, so that what was stale from the start does not pass for pace.
        """
        if len(self._recent) < 8:
            return 0.0
        ordered = sorted(self._recent)
        quarter = len(ordered) // 4
        (first, early), (last, late) = (
            (_median([float(t) for t, _, _ in part]), _median([f for _, f, _ in part]))
            for part in (ordered[:quarter], ordered[-quarter:])
        )
        if late > STALE_S:
            early = min(f for _, f, _ in ordered[:quarter])
        return (late - early) * 1000 / (last - first) if last > first else 0.0


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]
