"""Detector rules: certain findings about a device in one pane, each declared once.

A rule's name is the cause that scores and incidents carry. Dashboards read alerts, titles and help from here, so this
module imports numpy and schemas only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from schemas.arrays import Bools, Floats, Ints
from schemas.catalogue import KINDS
from schemas.metric import Metric

#: XIDs that need an operator, from NVIDIA's XID catalogue: off the bus, uncontained or unrecovered ECC, row remap
#: failure, NVLink, GSP, micro-controller halt.
SEVERE_XIDS = (48, 62, 64, 74, 79, 92, 95, 119, 120, 140, 143, 158, 171, 172)
#: Below this a GPU may be idle enough for its energy counter to repeat a value within a pane, W.
DRAWN_W = 10.0


@dataclass(frozen=True, slots=True)
class PaneView:
    """What a rule sees of one pane, as arrays [devices]; NaN where a device gave nothing.

    `index` and `counter_index` give a metric's and a counter's row; `carried`: bool[metrics]; `samples`:
    uint32[devices]; `known`: devices seen before the pane began.
    """

    index: Mapping[str, int]
    counter_index: Mapping[str, int]
    means: Floats
    maxima: Floats
    increases: Floats
    carried: Bools
    samples: Ints
    known: Bools

    def mean(self, metric: str) -> Floats:
        return np.asarray(self.means[self.index[metric]])

    def max(self, metric: str) -> Floats:
        return np.asarray(self.maxima[self.index[metric]])

    def increase(self, counter: str) -> Floats:
        return np.asarray(self.increases[self.counter_index[counter]])

    def carries(self, metrics: tuple[str, ...]) -> bool:
        """Whether any device gave each of these metrics."""
        return all(self.carried[self.index[name]] for name in metrics)


class RuleState:
    """What a rule remembers of each device from pane to pane, as named arrays; a snapshot keeps it."""

    def __init__(self) -> None:
        self._arrays: dict[str, Floats] = {}

    def array(self, name: str, devices: int, fill: float) -> Floats:
        """Returns float64[devices], to be changed in place; new devices hold `fill`."""
        held = self._arrays.get(name)
        if held is None or len(held) < devices:
            wider = np.full(devices, fill)
            if held is not None:
                wider[: len(held)] = held
            held = self._arrays[name] = wider
        return held


#: (bool[devices] of the finding, float[devices] value to publish with it)
Finding = tuple[Bools, Floats]
Severity = Literal["critical", "warning"]


@dataclass(frozen=True, slots=True)
class Rule:
    """A certain finding; one entry in RULES brings it into scores, incidents and, with `alert`, alerts.

    `kinds`: empty is all. `needs`: metrics without which a kind or a pane skips the rule. `overrides`: the readings of
    such a device mean nothing else, so its score is replaced, not raised. `expected`: published with the value.
    `quality`: the reason counted in the quality stream, under `quality_metric`. `alert`: the alert it raises, for
    `alert_kinds` (empty: its kinds); `title`, `severity` and `summary` serve an alert that only this rule raises.
    """

    name: str
    help: str
    score: float
    evaluate: Callable[[PaneView, RuleState], Finding]
    kinds: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    expected: float = math.nan
    overrides: bool = False
    quality: str = ""
    quality_metric: str = ""
    alert: str = ""
    alert_kinds: tuple[str, ...] = ()
    title: str = ""
    severity: Severity = "critical"
    summary: str = ""

    def __post_init__(self) -> None:
        unknown = [k for k in (*self.kinds, *self.alert_kinds) if k not in KINDS]
        if unknown:
            raise ValueError(f"rule {self.name!r}: no kind {', '.join(unknown)}; there are {', '.join(KINDS)}")
        if not 0 < self.score <= 1:
            raise ValueError(f"rule {self.name!r}: the score {self.score:g} is not within 0 to 1")
        if not self.title:
            object.__setattr__(self, "title", self.name.replace("_", " ").replace("-", " ").capitalize())
        if not self.summary:
            object.__setattr__(self, "summary", f"{{device}}: {self.help}")

    def applies_to(self, kind: str) -> bool:
        """Whether devices of the kind are judged by the rule."""
        return (not self.kinds or kind in self.kinds) and set(self.needs) <= set(KINDS[kind].names)

    def alerts_for(self, kind: str) -> bool:
        """Whether the rule raises its alert for devices of the kind."""
        return bool(self.alert) and self.applies_to(kind) and (not self.alert_kinds or kind in self.alert_kinds)


def _alarm(metric: Metric, view: PaneView, _: RuleState) -> Finding:
    """A counter's increase, or a state's maximum, at or above the metric's `alarm_at`."""
    seen = view.increase(metric.name) if metric.kind == "counter" else view.max(metric.name)
    with np.errstate(invalid="ignore"):
        return seen >= metric.alarm_at, seen


def _new_severe_xid(view: PaneView, state: RuleState) -> Finding:
    """A severe XID, in the pane in which it appears: the gauge holds the last XID and never clears."""
    xid = view.max("xid")
    last = state.array("last", len(xid), 0.0)
    fresh = ~np.isnan(xid) & (xid != last)
    found = fresh & np.isin(xid, SEVERE_XIDS)
    last[fresh] = xid[fresh]
    return found, xid


def _frozen(view: PaneView, _: RuleState) -> Finding:
    """The energy counter does not move while power is drawn."""
    power, energy = view.mean("power_w"), view.increase("energy_j")
    with np.errstate(invalid="ignore"):
        return (energy == 0) & (power > DRAWN_W) & (view.samples > 1), power


def _down(view: PaneView, _: RuleState) -> Finding:
    up = view.max("up")
    return up == 0, up


def _silent(view: PaneView, _: RuleState) -> Finding:
    return view.known & (view.samples == 0), np.zeros(len(view.known))


def _alarm_rules() -> Iterator[Rule]:
    """Yields a rule for every metric with `alarm_at`."""
    for kind, catalogue in KINDS.items():
        for metric in catalogue.metrics:
            if metric.alarm_at is not None:
                yield Rule(
                    metric.name,
                    metric.help,
                    0.98,
                    partial(_alarm, metric),
                    kinds=(kind,),
                    needs=(metric.name,),
                    expected=0.0,
                    alert=metric.alert,
                )


#: All rules, in the order in which they are applied.
RULES: tuple[Rule, ...] = (
    *_alarm_rules(),
    Rule(
        "xid",
        "A severe XID appears: an error of the GPU that needs an operator.",
        0.95,
        _new_severe_xid,
        kinds=("gpu",),
        needs=("xid",),
        expected=0.0,
        alert="gpu-lost",
    ),
    Rule(
        "frozen",
        "The energy counter does not move while power is drawn: the exporter or driver hangs.",
        0.9,
        _frozen,
        kinds=("gpu",),
        needs=("power_w", "energy_j"),
        overrides=True,
        quality="frozen",
        quality_metric="energy_j",
        alert="gpu-frozen",
        title="A GPU's readings are frozen",
        severity="warning",
        summary="{device} repeats the same readings: its exporter or driver hangs",
    ),
    Rule(
        "down",
        "An endpoint gives no samples: it cannot be reached, refuses, or answers with nothing that can be read.",
        1.0,
        _down,
        kinds=("endpoint",),
        needs=("up",),
        expected=1.0,
        overrides=True,
        quality="down",
        quality_metric="up",
        alert="endpoint-down",
        title="An endpoint is down",
        summary="{device} gives no samples; what it serves is not heard",
    ),
    Rule(
        "silent",
        "A known device gives no sample in a whole pane.",
        1.0,
        _silent,
        kinds=tuple(kind for kind, catalogue in KINDS.items() if catalogue.expected),
        overrides=True,
        quality="silent",
        alert="gpu-lost",
        alert_kinds=("gpu",),
    ),
)
_more: list[Rule] = []


def all_rules() -> tuple[Rule, ...]:
    """Returns RULES and those that are registered now."""
    return (*RULES, *_more)


def rules_of(kind: str) -> tuple[Rule, ...]:
    """Returns the rules that judge devices of a kind, in the order in which they are applied."""
    return tuple(rule for rule in all_rules() if rule.applies_to(kind))


def causes_of(alert: str, kind: str) -> tuple[str, ...]:
    """Returns the causes that raise an alert for devices of a kind."""
    return tuple(rule.name for rule in all_rules() if rule.alert == alert and rule.alerts_for(kind))


@contextmanager
def registered(*rules: Rule) -> Iterator[None]:
    """Adds rules after RULES for the length of a `with` block."""
    before = [*_more]
    _more.extend(rules)
    try:
        yield
    finally:
        _more[:] = before
