"""Evaluates alert rules without Grafana, as Grafana would."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote

from dashboards.alerts.rule import EVERY_S, AlertRule
from dashboards.alerts.rules import all_rules
from dashboards.board import uid
from dashboards.macros import Range, expand


@dataclass(frozen=True, slots=True)
class Firing:
    """An alert rule that fires for one device, rack or site."""

    rule: AlertRule
    labels: Mapping[str, str]
    value: float

    @property
    def summary(self) -> str:
        if not self.labels:
            return f"nothing was stored in the last {self.rule.back_s:.0f} s"
        return self.rule.summary.format(value=self.value, **self.labels)

    @property
    def href(self) -> str:
        """The path of the board that shows it, on the watch page or in Grafana."""
        variables = self.rule.variables
        chosen = "&".join(f"var-{variables[k]}={quote(v, safe='')}" for k, v in self.labels.items() if k in variables)
        return f"/d/{uid(self.rule.board)}/{self.rule.board}?{chosen}"


class RuleAnswer(Protocol):
    """Columns and rows of a rule's query."""

    @property
    def names(self) -> Sequence[str]: ...
    @property
    def rows(self) -> Sequence[Sequence[Any]]: ...


Ask = Callable[[str], RuleAnswer]


def _found(ask: Ask, rule: AlertRule, at: dt.datetime) -> dict[tuple[str, ...], float]:
    """Returns the values of a rule over its limit at a moment, by labels; no labels where there are no rows and the
    rule fires for that.
    """
    answer = ask(expand(rule.sql, Range(at - dt.timedelta(seconds=rule.back_s), at, 10), {}))
    if rule.silence_is_bad and not answer.rows:
        return {(): float("inf")}
    values = {tuple(str(v) for v in row[:-1]): float(row[-1]) for row in answer.rows if row[-1] is not None}
    return {labels: v for labels, v in values.items() if rule.over(v)}


def evaluate(ask: Ask, at: dt.datetime, rules: Sequence[AlertRule] | None = None) -> list[Firing]:
    """Returns what fires at a moment: over the limit then and at each evaluation within the rule's duration before."""
    out = []
    for rule in all_rules() if rules is None else rules:
        found = _found(ask, rule, at)
        for back_s in range(EVERY_S, rule.for_s + 1, EVERY_S):
            if not found:
                break
            before = _found(ask, rule, at - dt.timedelta(seconds=back_s))
            found = {labels: v for labels, v in found.items() if labels in before}
        out += [
            Firing(rule, dict(zip(rule.labels, labels, strict=True)) if labels else {}, v)
            for labels, v in sorted(found.items())
        ]
    return out


def firing(ask: Ask) -> list[dict[str, str]]:
    """Returns what fires now, critical first, for the watch page."""
    found = evaluate(ask, dt.datetime.now(dt.UTC))
    found.sort(key=lambda f: (f.rule.severity, f.rule.title, f.summary))
    return [
        {
            "title": f.rule.title,
            "severity": f.rule.severity,
            "summary": f.summary,
            "href": f.href,
            "runbook": f.rule.runbook,
        }
        for f in found[:200]
    ]
