"""A partition's engine with its place in the log: skips what it has seen, says what it still needs. No faust here."""

from __future__ import annotations

import bisect
import logging
from collections import Counter
from collections.abc import Iterable

from pipeline.compute.derived_rows import ClosedPane
from pipeline.compute.engine import KindEngine
from pipeline.compute.timing import HORIZON_MS, PANE_MS
from schemas.codec import Decoder, InvalidFrame
from schemas.frame import Frame
from schemas.log_record import LogRecord
from schemas.validation import MAX_AGE_MS, classify_delay, validate_timestamps

log = logging.getLogger("gigawatch.stream")


class Partition:
    """One (kind, partition). `position` is the next offset it has not processed.

    A partition taken over in the middle of the log is cold: it gives nothing out until it has read HORIZON_MS of event
    time, since its windows would lack their beginning. One taken over at the very beginning is warm at once.
    """

    def __init__(self, kind: str, tick_ms: int = 1000, lateness_ms: int = 3000) -> None:
        self.engine = KindEngine(kind, tick_ms, lateness_ms)
        self._settings = kind, tick_ms, lateness_ms
        self.position: int | None = None
        self._decoder = Decoder()
        self._newest_ms = 0
        self._begun = False
        self._marks: list[tuple[int, int]] = []  # (event time ms, first offset at or after it), one a second
        self.counts: Counter[str] = Counter()

    def start_at(self, offset: int) -> None:
        """Nothing before this offset is wanted, and nothing after it may be missing."""
        self.position = offset

    def add(self, messages: Iterable[LogRecord]) -> list[ClosedPane]:
        """Processes messages in offset order; returns the panes that closed."""
        frames: list[Frame] = []
        out: list[ClosedPane] = []
        received = processed = 0
        decode, kind = self._decoder.decode, self.engine.kind
        for _, _, offset, kafka_ms, value, _ in messages:
            received += 1
            first = not self._begun
            if offset != self.position and self.position is not None:
                if offset < self.position:
                    self.counts["seen-before"] += 1
                    continue
                log.warning("%s: offsets %d to %d are missing: windows begin anew", kind, self.position, offset - 1)
                out += self.engine.add(frames)
                frames = []
                self._start_over()
                first = True
            self.position, self._begun = offset + 1, True
            frame = None
            try:
                frame = decode(value, kind)
                oldest, newest = frame.span()
                validate_timestamps(oldest, newest, kafka_ms, MAX_AGE_MS)
            except InvalidFrame as err:
                self.counts[f"discarded:{err.reason}"] += 1
                if frame is not None:
                    self.engine.quality.note_frame(self._pane(kafka_ms), err.reason, frame)
                continue
            behind = classify_delay(newest, kafka_ms)
            if behind:
                self.counts[behind] += frame.rows
                self.engine.quality.note_frame(self._pane(kafka_ms), behind, frame)
            if first and offset > 0:
                log.info(
                    "%s: taken over at offset %d: silent until %d s of event time are read",
                    kind,
                    offset,
                    HORIZON_MS // 1000,
                )
                self.engine.emit_from_ms = newest + HORIZON_MS
            self._newest_ms = max(self._newest_ms, newest)
            if not self._marks or newest >= self._marks[-1][0] + 1000:
                self._marks.append((newest, offset))
            processed += 1
            frames.append(frame)
        self.counts["received"] += received
        self.counts["processed"] += processed
        return out + self.engine.add(frames)

    def _pane(self, kafka_ms: int) -> int:
        """The end of the pane in which event time is: known from the log's order alone, however messages are
        batched.
        """
        return (self._newest_ms or kafka_ms) // PANE_MS * PANE_MS + PANE_MS

    def _start_over(self) -> None:
        """Messages are missing (someone else had the partition for long, or the log was trimmed): windows begin anew,
        cold.
        """
        self.counts["gaps"] += 1
        incidents = self.engine.incidents
        self.engine = KindEngine(*self._settings)
        self.engine.incidents = incidents
        self.position = None
        self._marks.clear()

    def needed_from(self) -> int | None:
        """The offset from which a new worker must read to go on with what is not closed here; None before the first
        frame.
        """
        if self.position is None:
            return None
        keep = self.engine.closed_ms - HORIZON_MS - 20_000
        index = bisect.bisect_right(self._marks, (keep, 1 << 62)) - 1
        if index < 0:
            return self._marks[0][1] if self._marks else self.position
        offset = self._marks[index][1]
        del self._marks[:index]
        return offset

    def __getstate__(self) -> dict[str, object]:
        self.engine.intake.flush_pending()
        return {k: v for k, v in self.__dict__.items() if k != "_decoder"}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._decoder = Decoder()

    def rebase(self) -> None:
        """Goes on with its state at the beginning of another log."""
        self.position = 0
        self._marks.clear()
