"""The engine of one kind on one partition: frames in log order in, closed panes out. A pure function of the frames.

Event time only. A pane closes when the partition's time stamps have passed its end by `lateness_ms`; a row for a closed
pane is late: counted, left out here (the store keeps it raw). A device counts once a tick: the first sample wins. So
the result depends neither on how frames were batched nor on the wall clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np

from pipeline.compute import derived_rows, scores
from pipeline.compute.context import Context
from pipeline.compute.derived_rows import ClosedPane
from pipeline.compute.detector import Detector
from pipeline.compute.devices import Devices
from pipeline.compute.expectation import Expectation
from pipeline.compute.holdings import Holdings
from pipeline.compute.incidents import Incidents
from pipeline.compute.intake import Intake
from pipeline.compute.job_windows import JobWindows, PaneHistory
from pipeline.compute.panes import Panes
from pipeline.compute.quality import Quality
from pipeline.compute.timing import HISTORY_PANES, PANE_MS
from schemas.arrays import Ints
from schemas.catalogue import KINDS
from schemas.frame import Frame


class KindEngine:
    """State of one (kind, partition): the watermark and the order in which panes close.

    Panes that begin before `emit_from_ms`, whose past was not read, are computed but not returned. `context`, which all
    engines of a worker share, is no part of a snapshot of the engine.
    """

    def __init__(self, kind: str, tick_ms: int = 1000, lateness_ms: int = 3000, context: Context | None = None) -> None:
        self.kind, self._lateness_ms = kind, lateness_ms
        self.context = context or Context()
        self.counts: Counter[str] = Counter()
        self.devices = Devices()
        self.expectation = Expectation(kind, self.devices)
        self.quality = Quality(kind)
        self.incidents = Incidents(kind, PANE_MS)
        self.intake = Intake(kind, tick_ms, lateness_ms, self.devices, self.quality, self.counts)
        self._panes = Panes(kind, self.intake, self.devices, self.quality)
        self._detector = Detector(kind, self.devices, self.quality)
        held = KINDS[kind].held
        self._holdings = Holdings(self.devices, held) if held else None
        self._jobs = (
            JobWindows(self.devices, self.intake, self._holdings) if self._holdings and held == "device" else None
        )
        self._racks_noted = -1
        self.watermark_ms = self.closed_ms = self.emit_from_ms = 0

    @property
    def open_end_ms(self) -> int:
        """The end of the oldest pane that is open."""
        return self.closed_ms + PANE_MS

    def add(self, frames: Iterable[Frame]) -> list[ClosedPane]:
        """Takes frames in log order; returns the panes that closed, oldest first."""
        out: list[ClosedPane] = []
        run: list[Frame] = []  # frames that close no pane are ingested together
        for frame in frames:
            oldest, newest = frame.span()
            due = (newest - self._lateness_ms) // PANE_MS * PANE_MS
            self.watermark_ms = max(self.watermark_ms, newest)
            if not self.closed_ms:
                self.closed_ms = oldest // PANE_MS * PANE_MS
            self.counts["rows"] += frame.rows
            if not self.quality.in_order(frame) and oldest >= self.closed_ms:
                self.counts["out-of-order"] += frame.rows
                self.quality.note_frame(self.open_end_ms, "out-of-order", frame)
            if due <= self.closed_ms:
                run.append(frame)
                continue
            self.intake.ingest(run, self.closed_ms)
            run = []
            # the frame's samples of the panes that it closes come first
            self.intake.ingest([frame], self.closed_ms, before_ms=due)
            self.intake.flush_pending()
            out += self._close_until(due)
            self.intake.ingest([frame], self.closed_ms, from_ms=due)
        self.intake.ingest(run, self.closed_ms)
        self.intake.flush_complete()
        return out

    def advance(self, now_ms: int) -> list[ClosedPane]:
        """Lets event time reach `now_ms` without a sample, as others saw it pass; returns the panes that closed."""
        self.intake.flush_pending()
        self.watermark_ms = max(self.watermark_ms, now_ms)
        due = (now_ms - self._lateness_ms) // PANE_MS * PANE_MS
        if not self.closed_ms:
            self.closed_ms = due
        return self._close_until(due) if due > self.closed_ms else []

    def flush(self) -> list[ClosedPane]:
        """Closes every pane that has begun, lateness or not: the end of a recording."""
        self.intake.flush_pending()
        if not len(self.devices) or self.watermark_ms < self.closed_ms:
            return []
        return self._close_until(self.watermark_ms // PANE_MS * PANE_MS + PANE_MS)

    def _close_until(self, due: int) -> list[ClosedPane]:
        out = []
        for end in self._ends_until(due):
            self.closed_ms = end
            closed = self._close(end)
            if closed.batches and self._emits(end):
                out.append(closed)
        self.closed_ms = due
        return out

    def _ends_until(self, due: int) -> range:
        """Returns the ends of the panes to close; in a long silence, only those that can have a window or a past."""
        span = HISTORY_PANES * PANE_MS
        last = due
        if due - self.closed_ms > 2 * span:
            newest = self.intake.filled.newest() * self.intake.tick_ms
            last = min(max(newest, self.closed_ms) + span + PANE_MS, due)
        return range(self.closed_ms + PANE_MS, last + 1, PANE_MS)

    def _emits(self, end: int) -> bool:
        return end - PANE_MS >= self.emit_from_ms

    def _close(self, end: int) -> ClosedPane:
        self.expectation.update(end, self.context.inventory)
        self.intake.grow()
        self._panes.grow_history()
        self._detector.grow_history()
        closed = ClosedPane(end)
        pane = self._panes.close(end)
        if pane.samples.any():
            rows = self.devices.present_rows(pane.samples > 0)
            closed.batches[f"rollup_{self.kind}"] = derived_rows.rollup_rows(self.kind, end, self.devices, rows, pane)
        closed.batches |= self._panes.windows(end, self.expectation.expected)
        held = self._held(end - PANE_MS)
        scored = self._detector.judge(end, pane, self.expectation.known(end, self.intake.first_seen_ms), held)
        published = np.flatnonzero(scored.score >= scores.PUBLISH_FROM)
        jobs = self._job_names(held, published)
        if len(published):
            closed.batches["score"] = derived_rows.score_rows(self.kind, end, self.devices, published, scored, jobs)
        if self._emits(end):
            self.incidents.adopt(self.devices.key_of)
            opened = self.incidents.update(end, derived_rows.judgements(self.devices, published, scored, jobs))
            if opened:
                closed.batches["incident"] = derived_rows.incident_rows(opened)
        noted = self.quality.rows_until(end)
        if noted is not None:
            closed.batches["quality"] = noted
        self._close_jobs(end, closed)
        self._detector.update_baseline(end)
        return closed

    def _held(self, at_ms: int) -> Ints | None:
        """Returns int64[devices], the job that holds each; None when no job holds any."""
        if self._racks_noted != self.devices.version:
            self._racks_noted = self.devices.version
            self.context.note_racks(self.devices)
        if self._holdings is None or not len(self.context.allocations):
            return None
        affected_ms = self._holdings.update(self.context)
        if self._jobs is not None and affected_ms is not None:
            self._jobs.affect(affected_ms)
        return self._holdings.current(self.context.allocations, at_ms)

    def _job_names(self, held: Ints | None, rows: Ints) -> list[str]:
        if held is None:
            return [""] * len(rows)
        return [self.context.allocations.jobs[code] if code >= 0 else "" for code in held[rows].tolist()]

    def _close_jobs(self, end: int, closed: ClosedPane) -> None:
        if self._jobs is None or not len(self.context.allocations):
            return
        ends, means = self._detector.history()
        history = PaneHistory(ends, means, self._panes.increases("energy_j"))
        rows = self._jobs.close(end, history, self.context.allocations)
        if rows is not None:
            closed.batches["job_window"] = rows

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"context": Context()}
