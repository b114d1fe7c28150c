"""What the per-sample peers share: reading their arguments, a rolling minute per device, and printing their figures.

Run by the peers' own Python, so nothing of Gigawatch is imported here.
"""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict, deque

WINDOW_MS, HOP_MS = 60_000, 10_000


class Rolling:
    """Mean and maximum of utilization over the last minute, every ten seconds, per device, one sample at a time."""

    def __init__(self) -> None:
        self._samples: defaultdict[str, deque[tuple[int, float]]] = defaultdict(deque)
        self._due: dict[str, int] = {}

    def add(self, device: str, ts: int, value: float) -> list[tuple[int, float, float]]:
        """Returns (window end, mean, maximum) of the windows that this sample closes."""
        closed = []
        held = self._samples[device]
        due = self._due.setdefault(device, ts // HOP_MS * HOP_MS + HOP_MS)
        while ts >= due:
            while held and held[0][0] < due - WINDOW_MS:
                held.popleft()
            if held:
                values = [v for _, v in held]
                closed.append((due, sum(values) / len(values), max(values)))
            due += HOP_MS
            self._due[device] = due
        held.append((ts, value))
        return closed


class Report:
    """Counts messages, notes the windows of one device, and prints everything as one JSON line at the end."""

    def __init__(self) -> None:
        self.bootstrap, self.topic, total, self.device = sys.argv[1:5]
        self.total = int(total)
        self.seen = 0
        self.windows: dict[int, tuple[float, float]] = {}
        self._began: tuple[float, float] | None = None

    def count(self) -> bool:
        """Counts one message; returns True for the last one."""
        if self._began is None:
            self._began = time.process_time(), time.monotonic()
        self.seen += 1
        return self.seen >= self.total

    def window(self, device: str, end: int, mean: float, high: float) -> None:
        if device == self.device:
            self.windows[end] = mean, high

    def print(self) -> None:
        cpu, wall = self._began or (0.0, 0.0)
        figures = {
            "messages": self.seen,
            "cpu_s": time.process_time() - cpu,
            "wall_s": time.monotonic() - wall,
            "windows": self.windows,
        }
        print(json.dumps(figures), file=sys.__stdout__, flush=True)  # faust takes sys.stdout for its log
