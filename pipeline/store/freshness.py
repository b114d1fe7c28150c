"""Freshness: seconds from a sample's time stamp to the moment it can be queried, as a histogram weighted by rows."""

from __future__ import annotations

import math
from collections import deque
from typing import Any

_STEP = 1.05  # buckets grow by 5 %: a quantile is right to within that
_LEAST_S = 0.001


class Freshness:
    """All samples in a histogram; and per five seconds of event time the mean, to see whether storage keeps pace."""

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
            return {"p50_s": None, "p99_s": None, "drift_s": 0.0}
        return {"p50_s": round(p50, 3), "p99_s": round(p99, 3), "drift_s": round(self.drift(), 3)}

    def drift(self) -> float:
        """How much staler the newest quarter of the samples is than the oldest quarter, s: what the pipeline fell behind."""
        if len(self._recent) < 8:
            return 0.0
        ordered = sorted(self._recent)
        quarter = len(ordered) // 4
        return _median([f for _, f, _ in ordered[-quarter:]]) - _median([f for _, f, _ in ordered[:quarter]])


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]
