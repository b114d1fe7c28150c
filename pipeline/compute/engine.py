"""The engine of one kind on one partition: frames in log order in, closed panes out. A pure function of the frames.

Event time only. A pane closes when the partition's time stamps have passed its end by `lateness_ms`; a row for a closed
pane is late: counted, left out here (the store keeps it raw). A device counts once a tick: the first sample wins. So
the result depends neither on how frames were batched nor on the wall clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pyarrow as pa

from pipeline.compute import derived_rows, physics, scores, stats
from pipeline.compute.devices import Devices
from pipeline.compute.groups import CHUNK, Groups, as_slice
from pipeline.compute.incidents import Incidents
from pipeline.compute.quality import Quality
from pipeline.compute.ring import Filled, Ring, Rows
from schemas.arrays import Bools, Floats, Ints
from schemas.catalogue import KINDS
from schemas.derived import PANE_S, WINDOWS
from schemas.frame import Frame
from schemas.layout import Layout
from schemas.stack import Stack, stacks
from schemas.validation import invalid_masks

HISTORY_PANES = 30
PANE_MS = PANE_S * 1000
#: Ticks that are held back for the rest of their messages at most.
MOST_PENDING = 4
BASELINE_MS = 30_000
#: How far back in event time a new worker must read so that all it publishes is what it would have published anyway:
#: the longest window, a baseline made of a full history at the last half minute, and the lateness.
HORIZON_MS = 1000 * (max(w for w, _ in WINDOWS) + PANE_S) + BASELINE_MS


@dataclass(slots=True)
class ClosedPane:
    """What one closed pane gives: batches by derived stream name, and the pane's end, ms."""

    end_ms: int
    batches: dict[str, pa.RecordBatch] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TickSamples:
    """Frames of one tick and layout: the row of every sample, and the place of each frame in the log."""

    stack: Stack
    rows: Ints
    order: Ints
    keep: Bools | None = None  # samples of other ticks in the same frames, or late ones, are left out


class KindEngine:
    """State of one (kind, partition). `cold` panes, whose past was not read, are computed but not given out."""

    def __init__(self, kind: str, tick_ms: int = 1000, lateness_ms: int = 3000) -> None:
        self.kind, self._tick_ms, self._lateness_ms = kind, tick_ms, lateness_ms
        catalogue = KINDS[kind]
        self._metrics = catalogue.metrics
        self._names = [m.name for m in self._metrics]
        rolled = [i for i, m in enumerate(self._metrics) if m.windowed and m.kind in ("gauge", "derived")]
        counters = [i for i, m in enumerate(self._metrics) if m.kind == "counter"]
        others = [i for i in range(len(self._metrics)) if i not in rolled and i not in counters]
        self._windowed, self._counters, self._others = (np.array(x, np.int64) for x in (rolled, counters, others))
        self._scored = [(i, m) for i, m in enumerate(self._metrics) if m.score is not None]
        self._pane_ms = PANE_MS
        self._pane_ticks = self._pane_ms // tick_ms
        longest, open_ms = max(w for w, _ in WINDOWS) * 1000, self._pane_ms + lateness_ms
        slots, short = (longest + open_ms) // tick_ms + 2, open_ms // tick_ms + 2
        #: raw samples: of windowed gauges as long as the longest window, of the rest as long as a pane is open
        self._rings = (Ring(slots, len(rolled)), Ring(short, len(others)), Ring(short, len(counters), "float64"))
        self._place = {
            self._names[i]: (ring, k)
            for ring, which in enumerate((rolled, others, counters))
            for k, i in enumerate(which)
        }
        self._filled = Filled(slots)
        self.registry = Devices()
        self._before = np.zeros((len(counters), 0))
        self._energy = np.zeros((HISTORY_PANES, 0))
        self._history = np.zeros((HISTORY_PANES, len(self._scored), 0), np.float32)
        self._past_ends = np.full(HISTORY_PANES, -1, np.int64)
        self._baseline: tuple[Floats, Floats] = (
            np.zeros((len(self._scored), 0), np.float32),
            np.zeros((len(self._scored), 0), np.float32),
        )
        self._xid = np.zeros(0)
        self._since_ms = np.zeros(0)
        self._peers: tuple[int, Groups] = (-1, Groups(np.zeros(0, np.int64), 0))
        self._places: tuple[int, Groups] = (-1, Groups(np.zeros(0, np.int64), 0))
        self._run: list[Frame] = []
        self._order = 0
        self._pending: dict[int, list[TickSamples]] = {}
        self.incidents = Incidents(kind, self._pane_ms)
        self.quality = Quality(kind)
        self.watermark_ms = 0
        self.closed_ms = 0
        self.warm_from_ms = 0
        self.counts: Counter[str] = Counter()
        self.missing: Counter[tuple[str, str]] = Counter()

    def add(self, frames: Iterable[Frame]) -> list[ClosedPane]:
        """Takes frames in log order; gives the panes that closed, oldest first."""
        out: list[ClosedPane] = []
        for frame in frames:
            oldest, newest = frame.span()
            due = (newest - self._lateness_ms) // self._pane_ms * self._pane_ms
            self.watermark_ms = max(self.watermark_ms, newest)
            if not self.closed_ms:
                self.closed_ms = oldest // self._pane_ms * self._pane_ms
            self.counts["rows"] += frame.rows
            if not self.quality.in_order(frame) and oldest >= self.closed_ms:
                self.counts["out-of-order"] += frame.rows
                self.quality.frame(self.open_end_ms, "out-of-order", frame)
            if due <= self.closed_ms:
                self._run.append(frame)
                continue
            self._take(self._run)
            self._run = []
            self._take([frame], before_ms=due)  # what the frame still has for the panes that it closes comes first
            self.settle()
            out += self._close_until(due)
            self._take([frame], from_ms=due)
        self._take(self._run)
        self._run = []
        # the newest tick may go on in the next messages: whole ticks are filed in one go
        self.settle(before=max(self._pending, default=0) if len(self._pending) <= MOST_PENDING else 1 << 62)
        return out

    @property
    def open_end_ms(self) -> int:
        """The end of the oldest pane that is open."""
        return self.closed_ms + self._pane_ms

    def flush(self) -> list[ClosedPane]:
        """Closes every pane whose end has been passed, lateness or not: the end of a recording."""
        self.settle()
        if not len(self.registry) or self.watermark_ms < self.closed_ms:
            return []
        return self._close_until(self.watermark_ms // self._pane_ms * self._pane_ms + self._pane_ms)

    # -- taking frames in ------------------------------------------------------------------------------------------

    def _take(self, frames: Sequence[Frame], from_ms: int = 0, before_ms: int = 1 << 62) -> None:
        """Files samples of [from, before) under their ticks; those of closed panes are late: counted, left out."""
        by_tick: dict[int, list[tuple[int, Frame]]] = {}
        for frame in frames:
            self._order = order = self._order + 1
            oldest, newest = frame.span()
            tick = oldest // self._tick_ms
            if tick == newest // self._tick_ms and max(from_ms, self.closed_ms) <= oldest and newest < before_ms:
                by_tick.setdefault(tick, []).append((order, frame))
            else:
                self._take_mixed(order, frame, from_ms, before_ms)
        for tick, found in by_tick.items():
            for which, stack in stacks([frame for _, frame in found]):
                rows = [self.registry.rows_of(f) for f in stack.frames]
                self._pending.setdefault(tick, []).append(
                    TickSamples(
                        stack,
                        np.concatenate(rows) if len(rows) > 1 else rows[0],
                        np.array([found[i][0] for i in which]),
                    )
                )

    def _take_mixed(self, order: int, frame: Frame, from_ms: int, before_ms: int) -> None:
        """A frame with several ticks, or with samples that are late or not for now."""
        stamps = frame.ts_ms()
        wanted = (stamps >= from_ms) & (stamps < before_ms)
        late = wanted & (stamps < self.closed_ms)
        if late.any():
            self.counts["late"] += int(late.sum())
            self.quality.frame(self.open_end_ms, "late", frame, late)
        wanted &= ~late
        if not wanted.any():
            return
        stack, rows, ticks = Stack([frame]), self.registry.rows_of(frame), stamps // self._tick_ms
        for tick in np.unique(ticks[wanted]):
            self._pending.setdefault(int(tick), []).append(
                TickSamples(stack, rows, np.array([order]), wanted & (ticks == tick))
            )

    def settle(self, before: int = 1 << 62) -> None:
        """Adds what is pending of earlier ticks to the rings: all frames of a tick and layout in one numpy pass a
        metric.
        """
        due = [tick for tick in self._pending if tick < before]
        if not due:
            return
        self._grow()
        for tick in due:
            parts = self._joined(self._pending.pop(tick))
            slots = [ring.open(tick) for ring in self._rings]
            for part, rows, keep in self._fresh(tick, parts):
                self._since_ms[rows] = np.minimum(self._since_ms[rows], tick * self._tick_ms)
                for name, values in self._columns(part, self._end_of(tick)).items():
                    ring, k = self._place[name]
                    self._rings[ring].put(slots[ring], k, rows, values if keep is None else values[keep])

    def _joined(self, parts: list[TickSamples]) -> list[TickSamples]:
        """Parts of one tick with one layout as one, in the order of the log."""
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

    def _fresh(self, tick: int, parts: Sequence[TickSamples]) -> Iterator[tuple[TickSamples, Rows, Bools | None]]:
        """(part, rows, which samples) with only the first sample of each device in the tick, in the order of the
        log.
        """
        if len(parts) > 1 and any(p.keep is None for p in parts):
            kept = [p.rows if p.keep is None else p.rows[p.keep] for p in parts]
            listed = np.concatenate(kept)
            if (
                np.bincount(listed - listed.min()).max() > 1
            ):  # the same device twice: frame by frame then, in the log's order
                parts = sorted((single for p in parts for single in self._singles(p)), key=lambda p: int(p.order[0]))
        for part in parts:
            rows = as_slice(part.rows) if part.keep is None else part.rows[part.keep]
            fresh = self._filled.fresh(tick, rows)
            keep = part.keep
            if fresh is not None:
                self.counts["duplicate"] += int((~fresh).sum())
                listed = part.rows if keep is None else part.rows[keep]
                self.quality.devices(self._end_of(tick), "doubled", self.registry, listed[~fresh])
                rows = listed[fresh]
                keep = fresh if keep is None else _narrowed(keep, fresh)
            if not isinstance(rows, slice) and not len(rows):
                continue
            yield part, rows, keep

    def _singles(self, part: TickSamples) -> Iterator[TickSamples]:
        if len(part.stack.frames) == 1:
            yield part
            return
        each = len(part.rows) // len(part.stack.frames)
        for k, frame in enumerate(part.stack.frames):
            yield TickSamples(Stack([frame]), part.rows[k * each : (k + 1) * each], part.order[k : k + 1])

    def _end_of(self, tick: int) -> int:
        return tick * self._tick_ms // self._pane_ms * self._pane_ms + self._pane_ms

    def _clean(self, name: str, part: TickSamples, end: int) -> Floats:
        values = part.stack.column(name)
        found = invalid_masks(KINDS[self.kind][name], values)
        if not found:
            return values
        cleaned = values.copy()
        for reason, mask in found.items():
            cleaned[mask] = np.nan
            rows = part.rows[
                mask if part.keep is None else mask & part.keep
            ]  # of other ticks in the frame when their turn comes
            self.missing[name, reason] += len(rows)
            self.quality.devices(end, reason, self.registry, rows, name)
        return cleaned

    def _columns(self, part: TickSamples, end: int) -> dict[str, Floats]:
        """The metrics that the frames carry, impossible values missing, derived metrics computed."""
        columns = {name: self._clean(name, part, end) for name in part.stack.names}
        if self.kind == "cooling" and {"flow_lpm", "supply_temp_c", "return_temp_c"} <= columns.keys():
            flow, supply, back = (columns[n].astype(np.float64) for n in ("flow_lpm", "supply_temp_c", "return_temp_c"))
            columns["heat_w"] = physics.coolant_heat_w(flow, supply, back)
        return columns

    def _grow(self) -> None:
        """Room for the samples of devices that are new."""
        devices = len(self.registry)
        for ring in self._rings:
            ring.grow(devices)
        self._filled.grow(devices)
        self._since_ms = _wider(self._since_ms, devices, np.inf)

    def _widen(self) -> None:
        """Room for their past: once a pane, since these arrays are large."""
        devices = len(self.registry)
        self._before, self._energy = _wider(self._before, devices, np.nan), _wider(self._energy, devices, np.nan)
        self._history, self._xid = _wider(self._history, devices, np.nan), _wider(self._xid, devices, 0.0)
        self._baseline = (_wider(self._baseline[0], devices, np.nan), _wider(self._baseline[1], devices, np.nan))

    # -- closing panes ---------------------------------------------------------------------------------------------

    def _close_until(self, due: int) -> list[ClosedPane]:
        out = []
        span = HISTORY_PANES * self._pane_ms
        last = self._filled.newest() * self._tick_ms
        if due - self.closed_ms > 2 * span:  # a long silence: nothing in between can have a window
            ends = [
                *range(
                    self.closed_ms + self._pane_ms,
                    min(max(last, self.closed_ms) + span + self._pane_ms, due) + 1,
                    self._pane_ms,
                )
            ]
        else:
            ends = [*range(self.closed_ms + self._pane_ms, due + 1, self._pane_ms)]
        for end in ends:
            self.closed_ms = end
            closed = self._close(end)
            if closed is not None and end - self._pane_ms >= self.warm_from_ms:
                out.append(closed)
        self.closed_ms = due
        return out

    def _pane(self, end: int) -> derived_rows.Pane:
        """The raw samples of one pane, a chunk of devices at a time."""
        devices, first = len(self.registry), (end - self._pane_ms) // self._tick_ms
        mean, high = (np.full((len(self._metrics), devices), np.nan, np.float32) for _ in range(2))
        begin = self._filled.first(first, self._pane_ticks)  # a pane that began in its middle has nothing before
        for ring, which in zip(self._rings[:2], (self._windowed, self._others), strict=True):
            carried = np.flatnonzero(ring.carried(first, self._pane_ticks))
            for at in range(0, devices if len(carried) else 0, CHUNK):
                rows = slice(at, min(at + CHUNK, devices))
                mean[which[carried], rows], high[which[carried], rows], _ = stats.mean_and_max(
                    ring.window(begin, first + self._pane_ticks - begin, carried, rows)
                )
        counted = self._rings[2]
        grown = np.full((len(self._counters), devices), np.nan)
        for k in np.flatnonzero(counted.carried(first, self._pane_ticks)).tolist():
            earliest, latest = stats.first_and_last(counted.window(first, self._pane_ticks, [k])[:, 0])
            with np.errstate(invalid="ignore"):
                reset = np.flatnonzero(latest < self._before[k])
            self.quality.devices(
                first * self._tick_ms + self._pane_ms,
                "counter-reset",
                self.registry,
                reset,
                self._names[self._counters[k]],
            )
            # a new counter counts from its first value
            grown[k] = stats.increase(latest, np.where(np.isnan(self._before[k]), earliest, self._before[k]))
            self._before[k] = np.where(np.isnan(latest), self._before[k], latest)
        return derived_rows.Pane(mean, high, grown, self._filled.samples(first, self._pane_ticks))

    def _close(self, end: int) -> ClosedPane | None:
        self._grow()
        self._widen()
        pane = self._pane(end)
        slot = (end // self._pane_ms) % HISTORY_PANES
        energy = next((i for i, c in enumerate(self._counters) if self._names[c] == "energy_j"), None)
        self._energy[slot] = pane.grown[energy] if energy is not None else np.nan
        closed = ClosedPane(end)
        if pane.samples.any():
            closed.batches[f"rollup_{self.kind}"] = derived_rows.rollup(
                self.kind, end, self.registry, self.registry.chosen(pane.samples > 0), pane
            )
        self._windows(end, closed)
        scored = self._score(end, pane)
        self._history[slot] = pane.mean[[i for i, _ in self._scored]]
        self._past_ends[slot] = end
        published = np.flatnonzero(scored.score >= scores.PUBLISH_FROM)
        if len(published):
            closed.batches["score"] = derived_rows.scores(
                self.kind, end, self.registry, published, scored, self._metrics
            )
        if end - self._pane_ms >= self.warm_from_ms:
            self.incidents.adopt(self.registry.__contains__)
            rows = self.incidents.update(end, derived_rows.score_rows(self.registry, published, scored, self._metrics))
            if rows:
                closed.batches["incident"] = derived_rows.incidents(rows)
        noted = self.quality.take(end)
        if noted is not None:
            closed.batches["quality"] = noted
        if end % BASELINE_MS == 0:
            self._rebase(end)
        return closed if closed.batches else None

    def _windows(self, end: int, closed: ClosedPane) -> None:
        if self._places[0] != self.registry.version:
            self._places = (self.registry.version, Groups(*self.registry.group("site", "rack", "model")))
        names = [self._names[i] for i in self._windowed]
        windows, parts = [], []
        for width_s, hop_s in WINDOWS:
            if end % (hop_s * 1000):
                continue
            first, ticks = (end - width_s * 1000) // self._tick_ms, width_s * 1000 // self._tick_ms
            samples = self._filled.samples(first, ticks)
            if not samples.any():
                continue
            panes = (
                np.arange(end - width_s * 1000 + self._pane_ms, end + 1, self._pane_ms) // self._pane_ms % HISTORY_PANES
            )
            grown = self._energy[panes]
            energy = np.where(np.isnan(grown).all(axis=0), np.nan, np.nansum(grown, axis=0))
            begin = self._filled.first(first, ticks)  # a window that is not full yet has nothing before
            rolled = derived_rows.WindowStats.of(
                names,
                partial(self._rings[0].window, begin, first + ticks - begin, slice(None)),
                ticks,
                samples,
                energy,
                self._places[1],
            )
            windows.append(derived_rows.window(self.kind, end, width_s, self.registry, rolled))
            parts.append(derived_rows.part(self.kind, end, width_s, self.registry, rolled, self._places[1]))
        if windows:
            closed.batches["window"] = pa.concat_batches(windows)
            closed.batches["part"] = pa.concat_batches(parts)

    def _score(self, end: int, pane: derived_rows.Pane) -> scores.Scored:
        if self._peers[0] != self.registry.version:
            names = {"gpu": ("rack", "job"), "node": ("rack", "model")}.get(self.kind, ("model", "job"))
            self._peers = (self.registry.version, Groups(*self.registry.group(*names)))
        result = scores.score(self._scored, pane.mean[[i for i, _ in self._scored]], self._baseline, self._peers[1])
        missing = (pane.samples == 0) & (
            self._since_ms < end - self._pane_ms
        )  # known before this pane began, and not heard of in it
        for index, metric in enumerate(self._metrics):
            if metric.alarm_at is None:
                continue
            counter = np.flatnonzero(self._counters == index)
            seen = pane.grown[counter[0]] if len(counter) else pane.high[index]
            with np.errstate(invalid="ignore"):
                result.raise_to(seen >= metric.alarm_at, 0.98, index, seen, 0.0)
        if self.kind == "gpu":
            self._gpu_rules(end, pane, result)
        self.quality.devices(end, "silent", self.registry, np.flatnonzero(missing))
        result.raise_to(missing, 1.0, derived_rows.SILENT, np.zeros(len(missing)), float("nan"))
        return result

    def _gpu_rules(self, end: int, pane: derived_rows.Pane, result: scores.Scored) -> None:
        """A severe XID counts in the pane in which it appears; an energy counter that stands still while power is
        drawn is frozen.
        """
        xid_at = self._names.index("xid")
        xid = pane.high[xid_at]
        fresh = ~np.isnan(xid) & (xid != self._xid)
        if fresh.any():
            result.raise_to(fresh & np.isin(xid, scores.SEVERE_XIDS), 0.95, xid_at, xid, 0.0)
            self._xid = np.where(np.isnan(xid), self._xid, xid)
        power = pane.mean[self._names.index("power_w")]
        energy = pane.grown[int(np.flatnonzero(self._counters == self._names.index("energy_j"))[0])]
        with np.errstate(invalid="ignore"):
            frozen = (energy == 0) & (power > 10) & (pane.samples > 1)
        result.judge(frozen, 0.9, derived_rows.FROZEN, power, float("nan"))
        self.quality.devices(end, "frozen", self.registry, np.flatnonzero(frozen), "energy_j")

    def _rebase(self, end: int) -> None:
        """Twice a minute of event time: every device's past, from the panes of the last five minutes."""
        recent = (self._past_ends > end - HISTORY_PANES * self._pane_ms) & (self._past_ends <= end)
        if recent.sum() < scores.LEAST_HISTORY:
            return
        for at in range(0, len(self.registry), CHUNK):
            rows = slice(at, at + CHUNK)
            self._baseline[0][:, rows], self._baseline[1][:, rows] = stats.robust(
                self._history[recent, :, rows], scores.LEAST_HISTORY
            )


def _wider(array: Floats, devices: int, fill: float) -> Floats:
    more = devices - array.shape[-1]
    return np.concatenate([array, np.full((*array.shape[:-1], more), fill, array.dtype)], -1) if more > 0 else array


def _narrowed(keep: Bools, fresh: Bools) -> Bools:
    """`keep` with only those of its chosen that `fresh` chooses."""
    out = np.zeros(len(keep), bool)
    out[np.flatnonzero(keep)[fresh]] = True
    return out
