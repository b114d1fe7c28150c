"""The engine of one kind on one partition: frames in log order in, closed panes out. A pure function of the frames.

Event time only. A pane closes when the partition's time stamps have passed its end by `lateness_ms`; a row for a closed
pane is late: counted, left out here (the store keeps it raw). A device counts once a tick: the first sample wins. So the
result depends neither on how frames were batched nor on the wall clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from pipeline.compute import outputs, physics, scores, stats
from pipeline.compute.incidents import Incidents
from pipeline.compute.pane import Pane, increase
from pipeline.compute.registry import Registry
from pipeline.compute.ring import Ring
from schemas.arrays import Floats, Ints
from schemas.catalogue import KINDS
from schemas.derived import PANE_S, WINDOWS
from schemas.frame import IDENTITY, Frame
from schemas.quality import clean_matrix

HISTORY_PANES = 30
BASELINE_MS = 30_000
#: How far back in event time a new worker must read so that all it publishes is what it would have published anyway:
#: the longest window, a baseline made of a full history at the last half minute, and the lateness.
HORIZON_MS = 1000 * (max(w for w, _ in WINDOWS) + PANE_S) + BASELINE_MS


@dataclass(slots=True)
class Closed:
    """What one closed pane gives: batches by derived stream name, and the panes' end, ms."""

    end_ms: int
    batches: dict[str, pa.RecordBatch] = field(default_factory=dict)


class KindEngine:
    """State of one (kind, partition). `cold` panes, whose past was not read, are computed but not given out."""

    def __init__(self, kind: str, tick_ms: int = 1000, lateness_ms: int = 3000) -> None:
        self.kind, self._tick_ms, self._lateness_ms = kind, tick_ms, lateness_ms
        catalogue = KINDS[kind]
        self._metrics = catalogue.metrics
        self._names = [m.name for m in self._metrics]
        self._windowed = np.array([i for i, m in enumerate(self._metrics) if m.windowed and m.kind in ("gauge", "derived")], np.int64)
        self._counters = np.array([i for i, m in enumerate(self._metrics) if m.kind == "counter"], np.int64)
        self._scored = [(i, m) for i, m in enumerate(self._metrics) if m.score is not None]
        self._pane_ms = PANE_S * 1000
        longest = max(w for w, _ in WINDOWS) * 1000
        self._ring = Ring((longest + self._pane_ms + lateness_ms) // tick_ms + 2, len(self._windowed))
        self.registry = Registry()
        self._panes: dict[int, Pane] = {}
        self._before = np.zeros((len(self._counters), 0))
        self._energy = np.zeros((HISTORY_PANES, 0))
        self._history = np.zeros((HISTORY_PANES, len(self._scored), 0))
        self._past_ends = np.full(HISTORY_PANES, -1, np.int64)
        self._baseline: tuple[Floats, Floats] = (np.zeros((len(self._scored), 0)), np.zeros((len(self._scored), 0)))
        self._xid = np.zeros(0)
        self._since_ms = np.zeros(0)
        self._peers: tuple[int, Ints, int] = (-1, np.zeros(0, np.int64), 0)
        self._pending: dict[int, list[tuple[Ints, Floats]]] = {}
        self.incidents = Incidents(kind, self._pane_ms)
        self.watermark_ms = 0
        self.closed_ms = 0
        self.warm_from_ms = 0
        self.counts: Counter[str] = Counter()
        self.missing: Counter[tuple[str, str]] = Counter()

    def add(self, frames: Iterable[Frame]) -> list[Closed]:
        """Takes frames in log order; gives the panes that closed, oldest first."""
        out: list[Closed] = []
        for frame in frames:
            stamps = frame.ts_ms()
            newest = int(stamps.max())
            due = (newest - self._lateness_ms) // self._pane_ms * self._pane_ms
            self.watermark_ms = max(self.watermark_ms, newest)
            if not self.closed_ms:
                self.closed_ms = int(stamps.min()) // self._pane_ms * self._pane_ms
            rows, values = self._read(frame)
            if due > self.closed_ms:  # what the frame still has for the panes that it closes comes first
                old = stamps < due
                self._take(stamps[old], rows[old], values[:, old])
                self._settle()
                out += self._close_until(due)
                stamps, rows, values = stamps[~old], rows[~old], values[:, ~old]
            self._take(stamps, rows, values)
        self._settle()
        return out

    def flush(self) -> list[Closed]:
        """Closes every pane whose end has been passed, lateness or not: the end of a recording."""
        self._settle()
        return self._close_until(self.watermark_ms // self._pane_ms * self._pane_ms + self._pane_ms) if self._panes else []

    # -- taking frames in ------------------------------------------------------------------------------------------

    def _read(self, frame: Frame) -> tuple[Ints, Floats]:
        """(row of every device, float64[metrics, rows]) of a frame."""
        self.counts["rows"] += frame.rows
        return self.registry.rows_of(frame), self._matrix(frame)

    def _take(self, stamps: Ints, rows: Ints, values: Floats) -> None:
        late = stamps < self.closed_ms
        if late.any():
            self.counts["late"] += int(late.sum())
            stamps, rows, values = stamps[~late], rows[~late], values[:, ~late]
        if not len(rows):
            return
        ticks = stamps // self._tick_ms
        if ticks[0] == ticks[-1] and (ticks == ticks[0]).all():
            self._pending.setdefault(int(ticks[0]), []).append((rows, values))
        else:
            for tick in np.unique(ticks):
                where = ticks == tick
                self._pending.setdefault(int(tick), []).append((rows[where], values[:, where]))

    def _matrix(self, frame: Frame) -> Floats:
        """float64[metrics, rows] in catalogue order, impossible values missing, derived metrics computed."""
        batch = frame.batch
        values = np.full((len(self._metrics), frame.rows), np.nan)
        where = {name: i for i, name in enumerate(self._names)}
        for index in range(1 + len(IDENTITY), batch.num_columns):
            values[where[batch.schema.field(index).name]] = np.asarray(batch.column(index))
        values = clean_matrix(self.kind, values, self.missing)
        if self.kind == "cooling":
            flow, supply, back = (values[where[n]] for n in ("flow_lpm", "supply_temp_c", "return_temp_c"))
            values[where["heat_w"]] = physics.coolant_heat_w(flow, supply, back)
        return values

    def _settle(self) -> None:
        """Adds what is pending to ring and panes: all frames of one tick in one numpy pass."""
        if not self._pending:
            return
        self._grow()
        for tick, parts in self._pending.items():
            rows = np.concatenate([r for r, _ in parts]) if len(parts) > 1 else parts[0][0]
            values = np.concatenate([v for _, v in parts], axis=1) if len(parts) > 1 else parts[0][1]
            fresh = self._ring.fresh(tick, rows)
            if fresh is not None:
                self.counts["duplicate"] += int((~fresh).sum())
                rows, values = rows[fresh], values[:, fresh]
                if not len(rows):
                    continue
            where = _as_slice(rows)
            self._since_ms[where] = np.minimum(self._since_ms[where], tick * self._tick_ms)
            self._ring.put(tick, where, values[self._windowed].astype(np.float32))
            end = (tick * self._tick_ms // self._pane_ms + 1) * self._pane_ms
            if end not in self._panes:
                self._panes[end] = Pane(len(self._metrics), self._counters, len(self.registry))
            self._panes[end].add(tick, where, values)
        self._pending.clear()

    def _grow(self) -> None:
        devices = len(self.registry)
        self._ring.grow(devices)
        for pane in self._panes.values():
            pane.grow(devices)

        def wider(array: Floats, fill: float) -> Floats:
            more = devices - array.shape[-1]
            return np.concatenate([array, np.full((*array.shape[:-1], more), fill)], -1) if more > 0 else array

        self._before, self._energy = wider(self._before, np.nan), wider(self._energy, np.nan)
        self._since_ms = wider(self._since_ms, np.inf)
        self._history, self._xid = wider(self._history, np.nan), wider(self._xid, 0.0)
        self._baseline = (wider(self._baseline[0], np.nan), wider(self._baseline[1], np.nan))

    # -- closing panes ---------------------------------------------------------------------------------------------

    def _close_until(self, due: int) -> list[Closed]:
        out = []
        span = HISTORY_PANES * self._pane_ms
        if due - self.closed_ms > 2 * span:  # a long silence: nothing in between can have a window
            last = max(self._panes, default=self.closed_ms)
            ends = [*range(self.closed_ms + self._pane_ms, min(last + span, due) + 1, self._pane_ms)]
        else:
            ends = [*range(self.closed_ms + self._pane_ms, due + 1, self._pane_ms)]
        for end in ends:
            self.closed_ms = end
            closed = self._close(end)
            if closed is not None and end - self._pane_ms >= self.warm_from_ms:
                out.append(closed)
        self.closed_ms = due
        return out

    def _close(self, end: int) -> Closed | None:
        self._grow()
        pane = self._panes.pop(end, None) or Pane(len(self._metrics), self._counters, len(self.registry))
        pane.grow(len(self.registry))
        means = pane.mean()
        grown = increase(pane.last, np.where(np.isnan(self._before), pane.first, self._before))  # a new counter counts from its first value
        self._before = np.where(np.isnan(pane.last), self._before, pane.last)
        slot = (end // self._pane_ms) % HISTORY_PANES
        energy = next((i for i, c in enumerate(self._counters) if self._names[c] == "energy_j"), None)
        self._energy[slot] = grown[energy] if energy is not None else np.nan
        closed = Closed(end)
        present = np.flatnonzero(pane.samples)
        if len(present):
            closed.batches[f"rollup_{self.kind}"] = outputs.rollup(self.kind, end, self.registry, present, pane, means, grown)
        self._windows(end, closed)
        scored = self._score(end, pane, means, grown)
        self._history[slot] = means[[i for i, _ in self._scored]]
        self._past_ends[slot] = end
        published = np.flatnonzero(scored.score >= scores.PUBLISH_FROM)
        if len(published):
            closed.batches["score"] = outputs.scores(self.kind, end, self.registry, published, scored, self._metrics)
        if end - self._pane_ms >= self.warm_from_ms:
            rows = self.incidents.update(end, outputs.score_rows(self.registry, published, scored, self._metrics))
            if rows:
                closed.batches["incident"] = outputs.incidents(rows)
        if end % BASELINE_MS == 0:
            self._rebase(end)
        return closed if closed.batches else None

    def _windows(self, end: int, closed: Closed) -> None:
        windows, parts = [], []
        names = [self._names[i] for i in self._windowed]
        for width_s, hop_s in WINDOWS:
            if end % (hop_s * 1000):
                continue
            ticks = width_s * 1000 // self._tick_ms
            samples = self._ring.window((end - width_s * 1000) // self._tick_ms, ticks)
            panes = np.arange(end - width_s * 1000 + self._pane_ms, end + 1, self._pane_ms) // self._pane_ms % HISTORY_PANES
            energy = np.where(np.isnan(self._energy[panes]).all(axis=0), np.nan, np.nansum(self._energy[panes], axis=0))
            rolled = outputs.Rolled.of(names, samples, energy)
            if rolled.present.any():
                windows.append(outputs.window(self.kind, end, width_s, self.registry, rolled))
                parts.append(outputs.part(self.kind, end, width_s, self.registry, names, samples, rolled))
        if windows:
            closed.batches["window"] = pa.concat_batches(windows)
            closed.batches["part"] = pa.concat_batches(parts)

    def _score(self, end: int, pane: Pane, means: Floats, grown: Floats) -> scores.Scored:
        if self._peers[0] != self.registry.version:
            names = ("rack", "job") if self.kind in ("gpu", "node") else ("model", "job")
            if self.kind == "node":
                names = ("rack", "model")
            self._peers = (self.registry.version, *self.registry.group(*names))
        _, group, groups = self._peers
        result = scores.score(self._scored, means[[i for i, _ in self._scored]], self._baseline, group, groups)
        missing = (pane.samples == 0) & (self._since_ms < end - self._pane_ms)  # known before this pane began, and not heard of in it
        for index, metric in enumerate(self._metrics):
            if metric.alarm_at is None:
                continue
            counter = np.flatnonzero(self._counters == index)
            seen = grown[counter[0]] if len(counter) else pane.high[index]
            with np.errstate(invalid="ignore"):
                result.raise_to(seen >= metric.alarm_at, 0.98, index, seen, 0.0)
        if self.kind == "gpu":
            self._gpu_rules(pane, means, grown, result)
        result.raise_to(missing, 1.0, outputs.SILENT, np.zeros(len(missing)), float("nan"))
        return result

    def _gpu_rules(self, pane: Pane, means: Floats, grown: Floats, result: scores.Scored) -> None:
        """A severe XID counts in the pane in which it appears; an energy counter that stands still while power is drawn is frozen."""
        xid_at = self._names.index("xid")
        xid = pane.high[xid_at]
        fresh = ~np.isnan(xid) & (xid != self._xid)
        result.raise_to(fresh & np.isin(xid, scores.SEVERE_XIDS), 0.95, xid_at, xid, 0.0)
        self._xid = np.where(np.isnan(xid), self._xid, xid)
        power = means[self._names.index("power_w")]
        energy = grown[int(np.flatnonzero(self._counters == self._names.index("energy_j"))[0])]
        with np.errstate(invalid="ignore"):
            result.raise_to((energy == 0) & (power > 10) & (pane.samples > 1), 0.9, outputs.FROZEN, power, float("nan"))

    def _rebase(self, end: int) -> None:
        """Twice a minute of event time: every device's past, from the panes of the last five minutes."""
        recent = (self._past_ends > end - HISTORY_PANES * self._pane_ms) & (self._past_ends <= end)
        if recent.sum() >= scores.LEAST_HISTORY:
            self._baseline = stats.robust(self._history[recent], scores.LEAST_HISTORY)


def _as_slice(rows: Ints) -> Ints | slice:
    """Consecutive rows as a slice, which numpy reads and writes without gathering."""
    first, last = int(rows[0]), int(rows[-1])
    if last - first + 1 == len(rows) and (len(rows) == 1 or bool((np.diff(rows) == 1).all())):
        return slice(first, last + 1)
    return rows
