"""A partition's engine with its place in the log: skips what it has seen, knows what it still needs. No faust here."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable

from pipeline.compute.context import Context
from pipeline.compute.derived_rows import ClosedPane
from pipeline.compute.engine import KindEngine
from pipeline.compute.frame_jobs import FrameJobs
from pipeline.compute.timing import HORIZON_MS, PANE_MS
from pipeline.stream.offsets import Offsets
from schemas.codec import Decoder, InvalidFrame
from schemas.frame import Frame
from schemas.log_record import LogRecord
from schemas.validation import MAX_AGE_MS, classify_delay, validate_timestamps

log = logging.getLogger("gigawatch.stream")

#: Event time that a new reader reads beyond the horizon: the panes that are open, and samples that arrive late, ms.
MARGIN_MS = 20_000
#: Kafka's time without a message of a kind, after which the others' event time counts for it, ms.
DARK_MS = 60_000


class Partition:
    """One (kind, partition).

    A partition taken over in the middle of the log warms up: it emits nothing until it has read HORIZON_MS of event
    time, since its windows would lack their beginning. One taken over at the very beginning emits at once.
    """

    def __init__(self, kind: str, tick_ms: int = 1000, lateness_ms: int = 3000, context: Context | None = None) -> None:
        self._settings = kind, tick_ms, lateness_ms
        self.engine = KindEngine(*self._settings, context)
        self.offsets = Offsets()
        #: Kafka's time of the newest message, ms
        self.arrived_ms = 0
        #: holds that frames of wire version 2 carry, as rows of ALLOCATION
        self.jobs = FrameJobs()
        self._decoder = Decoder()
        self._newest_ms = 0
        self.counts: Counter[str] = Counter()

    def add(self, messages: Iterable[LogRecord]) -> list[ClosedPane]:
        """Processes messages in offset order; returns the panes that closed."""
        frames: list[Frame] = []
        out: list[ClosedPane] = []
        received = processed = 0
        decode, kind, offsets = self._decoder.decode, self.engine.kind, self.offsets
        for _, _, offset, kafka_ms, value, _ in messages:
            received += 1
            self.arrived_ms = max(self.arrived_ms, kafka_ms)
            position = offsets.position
            if offset != position and position is not None:
                if offset < position:
                    self.counts["seen-before"] += 1
                    continue
                log.warning("%s: offsets %d to %d are missing: windows start over", kind, position, offset - 1)
                out += self.engine.add(frames)
                frames = []
                self._start_over()
            offsets.advance(offset)
            frame = None
            try:
                frame = decode(value, kind)
                oldest, newest = frame.span()
                validate_timestamps(oldest, newest, kafka_ms, MAX_AGE_MS)
            except InvalidFrame as err:
                self.counts[f"discarded:{err.reason}"] += 1
                if frame is not None:
                    self.engine.quality.note_frame(self._open_end_ms(kafka_ms), err.reason, frame)
                continue
            behind = classify_delay(newest, kafka_ms)
            if behind:
                self.counts[behind] += frame.rows
                self.engine.quality.note_frame(self._open_end_ms(kafka_ms), behind, frame)
            if offsets.starts_cold():
                log.info(
                    "%s: starts at offset %d: publishes nothing until %d s of event time are read",
                    kind,
                    offset,
                    HORIZON_MS // 1000,
                )
                self.engine.emit_from_ms = newest + HORIZON_MS
            self._newest_ms = max(self._newest_ms, newest)
            offsets.mark(newest, offset)
            processed += 1
            if frame.jobs is not None:
                self.jobs.note(frame)
            frames.append(frame)
        self.counts["received"] += received
        self.counts["processed"] += processed
        return out + self.engine.add(frames)

    def pass_time(self, to_ms: int, arrived_ms: int) -> list[ClosedPane]:
        """Closes panes up to an event time that other kinds have reached, when nothing has arrived here for DARK_MS of
        Kafka's time: what is dark is silent then, though nothing of it drives the time.
        """
        self.arrived_ms = self.arrived_ms or arrived_ms
        return self.engine.advance(to_ms) if arrived_ms - self.arrived_ms >= DARK_MS else []

    def needed_from(self) -> int | None:
        """Returns the offset from which a new worker must read to continue with what is open here; None before the
        first message.
        """
        return self.offsets.needed_from(self.engine.closed_ms - HORIZON_MS - MARGIN_MS)

    def _open_end_ms(self, kafka_ms: int) -> int:
        """Returns the end of the pane of the newest event time: known from the order of the log alone, however messages
        are batched.
        """
        return (self._newest_ms or kafka_ms) // PANE_MS * PANE_MS + PANE_MS

    def _start_over(self) -> None:
        """Starts windows over, as after a take-over: messages are missing, because another worker had the partition for
        long, or the log was trimmed.
        """
        self.counts["gaps"] += 1
        before = self.engine
        self.engine = KindEngine(*self._settings, before.context)
        self.engine.incidents, self.engine.expectation.is_mine = before.incidents, before.expectation.is_mine
        self.offsets.gap()
        self.offsets.forget()

    def __getstate__(self) -> dict[str, object]:
        self.engine.intake.flush_pending()
        return {k: v for k, v in self.__dict__.items() if k != "_decoder"}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._decoder = Decoder()
