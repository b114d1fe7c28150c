"""The one hook of the benchmark in the worker."""

from __future__ import annotations

import time


class BusySpan:
    """Wall and CPU time from the first message to the last result.

    `gigawatch bench` reads it from the status file: start-up and joining the group are not to count, and only the
    process itself knows its CPU time at these two moments.
    """

    def __init__(self) -> None:
        self._began: tuple[float, float] | None = None
        self._ended = (0.0, 0.0)

    def begin(self) -> None:
        """Starts the span, at the first call only."""
        if self._began is None:
            self._began = self._ended = time.time(), time.process_time()

    def extend(self) -> None:
        """Moves the end of the span to now."""
        self._ended = time.time(), time.process_time()

    def status(self) -> dict[str, float] | None:
        """Returns begin and end, s since 1970, and the CPU seconds in between; None before the first message."""
        if self._began is None:
            return None
        return {"began": self._began[0], "ended": self._ended[0], "cpu_s": self._ended[1] - self._began[1]}
