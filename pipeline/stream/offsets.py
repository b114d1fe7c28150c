"""A reader's place in one partition of the log: what it has processed, and from where a new reader must read."""

from __future__ import annotations

import bisect

from pipeline.compute.timing import END_OF_TIME

#: Event time between two marks, ms.
MARK_MS = 1000


class Offsets:
    """`position` is the next offset to process; None before the first message.

    Marks (event time ms, first offset at or after it), one a second, lead from event time back to an offset.
    """

    def __init__(self) -> None:
        self.position: int | None = None
        self._started = self._cold = False
        self._marks: list[tuple[int, int]] = []

    @property
    def newest_ms(self) -> int:
        """The newest marked event time, ms; 0 without a mark."""
        return self._marks[-1][0] if self._marks else 0

    def start_at(self, offset: int) -> None:
        """Skips what is before this offset; nothing after it may be missing."""
        self.position = offset

    def advance(self, offset: int) -> None:
        """Moves past a message."""
        if not self._started:
            self._started, self._cold = True, offset > 0
        self.position = offset + 1

    def starts_cold(self) -> bool:
        """Whether messages before the first, or before the first after a gap, were not read. True once for each start:
        ask when a message is valid, whose event time then counts.
        """
        cold, self._cold = self._cold, False
        return cold

    def mark(self, event_ms: int, offset: int) -> None:
        """Remembers where an event time is in the log."""
        if not self._marks or event_ms >= self._marks[-1][0] + MARK_MS:
            self._marks.append((event_ms, offset))

    def gap(self) -> None:
        """Messages are missing: the next one starts cold."""
        self._started = self._cold = False

    def forget(self) -> None:
        """Forgets the marks: what was read before is not needed any more."""
        self._marks.clear()

    def reset(self) -> None:
        """Goes on at the beginning of another log, with the state of this one."""
        self.position = 0
        self._marks.clear()

    def needed_from(self, event_ms: int) -> int | None:
        """Returns the offset from which a new reader sees everything from `event_ms` on; None before the first message.

        Forgets the marks before it, so ask with a time that does not go back.
        """
        if not self._marks:
            return self.position
        index = max(0, bisect.bisect_right(self._marks, (event_ms, END_OF_TIME)) - 1)
        del self._marks[:index]
        return self._marks[0][1]
