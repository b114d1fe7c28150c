"""Alerts on what detectors find: the scores by cause."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from dashboards.alerts.rule import PER_DEVICE, AlertRule, Severity
from dashboards.sql import SCORES
from pipeline.compute.rules import all_rules, causes_of
from schemas import thresholds
from schemas.catalogue import KINDS

#: The board that shows a kind's devices; the rack board for several kinds.
_BOARDS = {"gpu": "gpu", "power": "power", "cooling": "cooling", "endpoint": "health"}


def kinds_of(alert: str) -> dict[str, tuple[str, ...]]:
    """Returns kind -> the causes that raise an alert for it."""
    return {kind: causes for kind in KINDS if (causes := causes_of(alert, kind))}


def without_readings(kind: str) -> tuple[str, ...]:
    """Returns the causes with which a device's readings mean nothing, such as silent."""
    return tuple(d.name for d in all_rules() if d.overrides and d.alerts_for(kind))


def quoted(names: Collection[str]) -> str:
    """Returns names of the code as a list of SQL literals."""
    return ", ".join(repr(name) for name in names)


def by_cause(
    name: str,
    title: str,
    severity: Severity,
    summary: str,
    fires: str,
    causes: Mapping[str, tuple[str, ...]],
    *,
    limit: float = thresholds.SCORE_BAD,
    back_s: int = 60,
) -> AlertRule:
    """Returns an alert that fires for each device whose score with one of the causes (by kind) is above the limit."""
    found = [f"kind = '{kind}' AND cause IN ({quoted(of_kind)})" for kind, of_kind in causes.items()]
    where = found[0] if len(found) == 1 else f"({' OR '.join(f'({each})' for each in found)})"
    sql = (
        f"SELECT site, rack, device, max(score) AS value FROM {SCORES} WHERE $__timeFilter(ts) AND {where} "
        "GROUP BY site, rack, device"
    )
    board = _BOARDS.get(next(iter(causes)), "rack") if len(causes) == 1 else "rack"
    return AlertRule(name, title, severity, summary, fires, PER_DEVICE, sql, limit, back_s=back_s, board=board)


def detected(declared: Collection[str]) -> tuple[AlertRule, ...]:
    """Returns an alert for each name that detector rules raise and that is not among the declared ones. Title, severity
    and summary are those of the first rule of that name.
    """
    made: dict[str, AlertRule] = {}
    for rule in all_rules():
        if rule.alert and rule.alert not in declared and rule.alert not in made and (causes := kinds_of(rule.alert)):
            made[rule.alert] = by_cause(rule.alert, rule.title, rule.severity, rule.summary, rule.help, causes)
    return tuple(made.values())
