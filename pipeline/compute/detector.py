"""The detector of one kind: scores against peers and past, then the rules. Panes in order."""

from __future__ import annotations

import numpy as np

from pipeline.compute import scores, stats
from pipeline.compute.devices import Devices
from pipeline.compute.groups import CHUNK, Groups
from pipeline.compute.quality import Quality
from pipeline.compute.ring import widen
from pipeline.compute.rules import PaneView, RuleState, rules_of
from pipeline.compute.scores import Scored
from pipeline.compute.timing import BASELINE_MS, HISTORY_PANES, PANE_MS
from pipeline.compute.versioned import Versioned
from pipeline.compute.windows import Pane
from schemas.arrays import Bools, Floats, Ints
from schemas.catalogue import KINDS


class Detector:
    """Judges each device of a pane, and keeps its past: pane means of five minutes, and the baseline made of them."""

    def __init__(self, kind: str, devices: Devices, quality: Quality) -> None:
        self._kind, self._devices, self._quality = kind, devices, quality
        metrics = KINDS[kind].metrics
        self._scored = [m for m in metrics if m.score is not None]
        self._scored_at = [i for i, m in enumerate(metrics) if m.score is not None]
        self._history = np.zeros((HISTORY_PANES, len(self._scored), 0), np.float32)
        self._past_ends = np.full(HISTORY_PANES, -1, np.int64)
        self._baseline: tuple[Floats, Floats] = (
            np.zeros((len(self._scored), 0), np.float32),
            np.zeros((len(self._scored), 0), np.float32),
        )
        self._places: Versioned[tuple[Ints, int]] = Versioned()
        self._peers: Versioned[Groups] = Versioned()
        self._held = np.zeros(0, np.int64)
        counters = [m.name for m in metrics if m.kind == "counter"]
        self._index = {m.name: i for i, m in enumerate(metrics)}
        self._counter_index = {name: i for i, name in enumerate(counters)}
        self._states: dict[str, RuleState] = {}

    def grow_history(self) -> None:
        """Makes room for the past of new devices."""
        devices = len(self._devices)
        self._history = widen(self._history, devices, np.nan)
        self._baseline = (widen(self._baseline[0], devices, np.nan), widen(self._baseline[1], devices, np.nan))

    def judge(self, end: int, pane: Pane, known: Bools, held: Ints | None = None) -> Scored:
        """Returns every device's score in the pane that ends at `end`; `known`: devices that ought to give
        samples in it; `held` int64[devices]: the job that holds each.

        The pane becomes part of their past.
        """
        peers = self._peer_groups(held)
        current = pane.mean[self._scored_at]
        result = scores.score(self._scored, current, self._baseline, peers)
        self._apply_rules(end, pane, known, result)
        slot = end // PANE_MS % HISTORY_PANES
        self._history[slot] = current
        self._past_ends[slot] = end
        return result

    def history(self) -> tuple[Ints, dict[str, Floats]]:
        """Returns (int64[panes] ends of the last panes by slot, float32[panes, devices] means by scored metric)."""
        return self._past_ends, {m.name: self._history[:, i] for i, m in enumerate(self._scored)}

    def _peer_groups(self, held: Ints | None) -> Groups:
        """Returns who is compared with whom: those that share the identity columns, and the job, of `peers`."""
        names = [name for name in KINDS[self._kind].peers if name != "job"]
        codes, _ = self._places.get(self._devices.version, lambda: self._devices.group(*names))
        if held is None:
            held = np.zeros(len(codes), np.int64)
        if not np.array_equal(held, self._held):
            self._held, self._peers = held, Versioned()

        def grouped() -> Groups:
            found, group = np.unique(codes * (int(held.max(initial=0)) + 2) + held + 1, return_inverse=True)
            return Groups(group, len(found))

        return self._peers.get(self._devices.version, grouped)

    def _apply_rules(self, end: int, pane: Pane, known: Bools, result: Scored) -> None:
        view = PaneView(
            self._index, self._counter_index, pane.mean, pane.max, pane.increase, pane.carried, pane.samples, known
        )
        for rule in rules_of(self._kind):
            if not view.carries(rule.needs):
                continue
            found, value = rule.evaluate(view, self._states.setdefault(rule.name, RuleState()))
            apply = result.override if rule.overrides else result.raise_to
            apply(found, rule.score, rule.name, value, rule.expected)
            if rule.quality:
                self._quality.note_devices(end, rule.quality, self._devices, np.flatnonzero(found), rule.quality_metric)

    def update_baseline(self, end: int) -> None:
        """Computes every device's baseline from the panes of the last five minutes, each half minute of event time."""
        if end % BASELINE_MS:
            return
        recent = (self._past_ends > end - HISTORY_PANES * PANE_MS) & (self._past_ends <= end)
        if recent.sum() < scores.LEAST_HISTORY:
            return
        for at in range(0, len(self._devices), CHUNK):
            rows = slice(at, at + CHUNK)
            self._baseline[0][:, rows], self._baseline[1][:, rows] = stats.robust(
                self._history[recent, :, rows], scores.LEAST_HISTORY
            )
