"""Intake of samples: frames in log order into rings of ticks, the first sample of a device in each tick."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.compute.devices import Devices
from pipeline.compute.groups import as_slice
from pipeline.compute.quality import Quality
from pipeline.compute.ring import Filled, Ring, Rows, widen
from pipeline.compute.timing import END_OF_TIME, MOST_PENDING, PANE_MS
from schemas.arrays import Bools, Floats, Ints
from schemas.catalogue import KINDS
from schemas.derived import WINDOWS
from schemas.frame import Frame
from schemas.layout import Layout
from schemas.stack import Stack, stacks
from schemas.validation import invalid_masks


@dataclass(frozen=True, slots=True)
class TickSamples:
    """Frames of one tick and layout: the row of every sample, and the place of each frame in the log.

    `keep` chooses samples; None is all of them. Samples of other ticks in the same frames, and late ones, are left out.
    """

    stack: Stack
    rows: Ints
    order: Ints
    keep: Bools | None = None


class Intake:
    """The samples of open panes and windows, of one kind.

    Ticks are held back until all their messages are likely to be here, so that a tick is one numpy pass per metric.
    """

    def __init__(
        self,
        kind: str,
        tick_ms: int,
        lateness_ms: int,
        devices: Devices,
        quality: Quality,
        counts: Counter[str],
    ) -> None:
        self.kind, self.tick_ms = kind, tick_ms
        self._devices, self._quality, self._counts = devices, quality, counts
        metrics = KINDS[kind].metrics
        windowed = [i for i, m in enumerate(metrics) if m.windowed and m.kind in ("gauge", "derived")]
        counters = [i for i, m in enumerate(metrics) if m.kind == "counter"]
        others = [i for i in range(len(metrics)) if i not in windowed and i not in counters]
        #: indices in the catalogue of each ring's metrics
        self.windowed, self.others, self.counters = (np.array(x, np.int64) for x in (windowed, others, counters))
        longest, open_ms = max(w for w, _ in WINDOWS) * 1000, PANE_MS + lateness_ms
        slots, short = (longest + open_ms) // tick_ms + 2, open_ms // tick_ms + 2
        #: raw samples: windowed gauges for as long as the longest window, the rest for as long as a pane is open
        self.windowed_ring = Ring(slots, len(windowed))
        self.other_ring = Ring(short, len(others))
        self.counter_ring = Ring(short, len(counters), "float64")
        self.filled = Filled(slots)
        #: float64[devices]: the tick of each device's first sample, ms
        self.first_seen_ms = np.zeros(0)
        self.missing: Counter[tuple[str, str]] = Counter()
        self._place = {
            metrics[i].name: (ring, k)
            for ring, which in enumerate((windowed, others, counters))
            for k, i in enumerate(which)
        }
        self._formulas = {m.name: m.formula for m in metrics if m.formula is not None}
        self._order = 0
        self._pending: dict[int, list[TickSamples]] = {}

    @property
    def _rings(self) -> tuple[Ring, Ring, Ring]:
        return self.windowed_ring, self.other_ring, self.counter_ring

    def ingest(self, frames: Sequence[Frame], closed_ms: int, from_ms: int = 0, before_ms: int = END_OF_TIME) -> None:
        """Holds samples of [from_ms, before_ms) by tick; those before `closed_ms` are late: counted, left out."""
        by_tick: dict[int, list[tuple[int, Frame]]] = {}
        first = max(from_ms, closed_ms)
        for frame in frames:
            self._order = order = self._order + 1
            oldest, newest = frame.span()
            tick = oldest // self.tick_ms
            if tick == newest // self.tick_ms and first <= oldest and newest < before_ms:
                by_tick.setdefault(tick, []).append((order, frame))
            else:
                self._ingest_mixed(order, frame, closed_ms, from_ms, before_ms)
        for tick, found in by_tick.items():
            for which, stack in stacks([frame for _, frame in found]):
                rows = [self._devices.rows_of(f) for f in stack.frames]
                self._pending.setdefault(tick, []).append(
                    TickSamples(
                        stack,
                        np.concatenate(rows) if len(rows) > 1 else rows[0],
                        np.array([found[i][0] for i in which]),
                    )
                )

    def _ingest_mixed(self, order: int, frame: Frame, closed_ms: int, from_ms: int, before_ms: int) -> None:
        """Holds a frame with several ticks, or with samples that are late or outside the span."""
        stamps = frame.ts_ms()
        wanted = (stamps >= from_ms) & (stamps < before_ms)
        late = wanted & (stamps < closed_ms)
        if late.any():
            self._counts["late"] += int(late.sum())
            self._quality.note_frame(closed_ms + PANE_MS, "late", frame, late)
        wanted &= ~late
        if not wanted.any():
            return
        stack, rows, ticks = Stack([frame]), self._devices.rows_of(frame), stamps // self.tick_ms
        for tick in np.unique(ticks[wanted]):
            self._pending.setdefault(int(tick), []).append(
                TickSamples(stack, rows, np.array([order]), wanted & (ticks == tick))
            )

    def flush_complete(self) -> None:
        """Adds all ticks but the newest, which may go on in the next messages, to the rings; that one too when many
        are held back.
        """
        self.flush_pending(max(self._pending, default=0) if len(self._pending) <= MOST_PENDING else END_OF_TIME)

    def flush_pending(self, before_tick: int = END_OF_TIME) -> None:
        """Adds the samples of earlier ticks to the rings: all frames of a tick and layout in one numpy pass."""
        due = [tick for tick in self._pending if tick < before_tick]
        if not due:
            return
        self.grow()
        rings = self._rings
        for tick in due:
            joined = _joined(self._pending.pop(tick))
            slots = [ring.open(tick) for ring in rings]
            for samples, rows, keep in self._first_samples(tick, joined):
                self.first_seen_ms[rows] = np.minimum(self.first_seen_ms[rows], tick * self.tick_ms)
                for name, values in self._columns(samples, self._pane_end(tick)).items():
                    ring, k = self._place[name]
                    rings[ring].put(slots[ring], k, rows, values if keep is None else values[keep])

    def samples(self, name: str, first_tick: int, ticks: int, rows: Ints) -> Floats:
        """Returns float[ticks, rows] of one metric as far as its samples are still held; NaN where not."""
        if name not in self._place:
            return np.full((ticks, len(rows)), np.nan)
        ring, k = self._place[name]
        return self._rings[ring].window(first_tick, ticks, [k], rows)[:, 0]

    def grow(self) -> None:
        """Makes room for the samples of new devices."""
        devices = len(self._devices)
        for ring in self._rings:
            ring.grow(devices)
        self.filled.grow(devices)
        self.first_seen_ms = widen(self.first_seen_ms, devices, np.inf)

    def _first_samples(
        self, tick: int, parts: Sequence[TickSamples]
    ) -> Iterator[tuple[TickSamples, Rows, Bools | None]]:
        """Yields (samples, rows, which of the samples), in log order; only the first sample of each device in the tick
        is chosen.
        """
        if len(parts) > 1 and any(p.keep is None for p in parts):
            listed = np.concatenate([p.rows if p.keep is None else p.rows[p.keep] for p in parts])
            if np.bincount(listed - listed.min()).max() > 1:  # the same device twice: frame by frame, in log order
                parts = sorted((single for p in parts for single in _singles(p)), key=lambda p: int(p.order[0]))
        for part in parts:
            rows = as_slice(part.rows) if part.keep is None else part.rows[part.keep]
            first = self.filled.first_samples(tick, rows)
            keep = part.keep
            if first is not None:
                self._counts["duplicate"] += int((~first).sum())
                listed = part.rows if keep is None else part.rows[keep]
                self._quality.note_devices(self._pane_end(tick), "doubled", self._devices, listed[~first])
                rows = listed[first]
                keep = first if keep is None else _narrowed(keep, first)
            if not isinstance(rows, slice) and not len(rows):
                continue
            yield part, rows, keep

    def _pane_end(self, tick: int) -> int:
        return tick * self.tick_ms // PANE_MS * PANE_MS + PANE_MS

    def _columns(self, samples: TickSamples, end: int) -> dict[str, Floats]:
        """Returns the metrics that the frames carry, impossible values missing, and the derived metrics of these."""
        columns = {name: self._clean(name, samples, end) for name in samples.stack.names}
        for name, formula in self._formulas.items():
            if columns.keys() >= set(formula.inputs):
                columns[name] = formula.compute(*(columns[n].astype(np.float64) for n in formula.inputs))
        return columns

    def _clean(self, name: str, samples: TickSamples, end: int) -> Floats:
        values = samples.stack.column(name)
        found = invalid_masks(KINDS[self.kind][name], values)
        if not found:
            return values
        cleaned = values.copy()
        for reason, mask in found.items():
            cleaned[mask] = np.nan
            # samples of other ticks in the frame are counted with those ticks
            rows = samples.rows[mask if samples.keep is None else mask & samples.keep]
            self.missing[name, reason] += len(rows)
            self._quality.note_devices(end, reason, self._devices, rows, name)
        return cleaned


def _joined(parts: list[TickSamples]) -> list[TickSamples]:
    """Returns the samples of one tick with those of one layout joined, in log order."""
    plain: dict[Layout, list[TickSamples]] = {}
    out = []
    for part in parts:
        if part.keep is None and part.stack.layout is not None:
            plain.setdefault(part.stack.layout, []).append(part)
        else:
            out.append(part)
    return out + [
        TickSamples(
            Stack([f for p in alike for f in p.stack.frames]),
            np.concatenate([p.rows for p in alike]),
            np.concatenate([p.order for p in alike]),
        )
        for alike in plain.values()
    ]


def _singles(samples: TickSamples) -> Iterator[TickSamples]:
    """Yields the samples frame by frame."""
    if len(samples.stack.frames) == 1:
        yield samples
        return
    each = len(samples.rows) // len(samples.stack.frames)
    for k, frame in enumerate(samples.stack.frames):
        yield TickSamples(Stack([frame]), samples.rows[k * each : (k + 1) * each], samples.order[k : k + 1])


def _narrowed(keep: Bools, first: Bools) -> Bools:
    """Returns `keep` with only those of its chosen samples that `first` chooses."""
    out = np.zeros(len(keep), bool)
    out[np.flatnonzero(keep)[first]] = True
    return out
