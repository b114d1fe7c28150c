"""A circuit breaker for dead letters: when much of what arrives cannot be read, the sink stops reading for a while.

Pure: no clock.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Mapping

log = logging.getLogger("gigawatch.sink")


class CircuitBreaker:
    """Is open for `pause_s` once at least `most` messages of the last `window_s`, and more than `share` of them, were
    refused.

    `most` 0: never. Nothing is dropped meanwhile: Kafka keeps what is not read.
    """

    def __init__(self, most: int = 1000, share: float = 0.1, window_s: float = 60.0, pause_s: float = 60.0) -> None:
        self._most, self._share, self._window_s, self._pause_s = most, share, window_s, pause_s
        self._seen: deque[tuple[float, int, Counter[str]]] = deque()
        self._known: Counter[str] = Counter()
        self._until = 0.0
        self.trouble = ""

    def add(self, now: float, received: int, refused: Mapping[str, int]) -> None:
        """`received` messages came; `refused` are all so far, by reason."""
        fresh = Counter(refused) - self._known
        self._known = Counter(refused)
        self._seen.append((now, received, fresh))
        while self._seen[0][0] < now - self._window_s:
            self._seen.popleft()
        reasons = sum((c for _, _, c in self._seen), Counter[str]())
        total, bad = sum(n for _, n, _ in self._seen), reasons.total()
        if self._most and bad >= self._most and bad > self._share * total:
            self._until = now + self._pause_s
            self._seen.clear()
            worst = reasons.most_common(1)[0][0]
            self.trouble = (
                f"circuit breaker open: {bad} of the last {total} messages were refused, most of them as "
                f"`{worst}`. Nothing is read for "
                f"{self._pause_s:.0f} s, and nothing is lost: Kafka keeps it. See `gigawatch dlq list` and fix "
                "the producer"
            )
            log.error("%s", self.trouble)

    def is_open(self, now: float) -> bool:
        if now < self._until:
            return True
        self.trouble = ""
        return False
