"""Alert rules as Grafana's provisioning file."""

from __future__ import annotations

import re
from typing import Any

import yaml

from dashboards.alerts.rule import EVERY_S, AlertRule
from dashboards.alerts.rules import all_rules
from dashboards.board import uid
from dashboards.datasource import TYPE, UID


def provisioned() -> str:
    """Returns the alert rules as the YAML that Grafana reads at start."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for rule in all_rules():
        groups.setdefault(rule.severity, []).append(_provisioned(rule))
    body = {
        "apiVersion": 1,
        "groups": [
            {
                "orgId": 1,
                "name": f"gigawatch-{severity}",
                "folder": "Gigawatch",
                "interval": f"{EVERY_S}s",
                "rules": rules,
            }
            for severity, rules in groups.items()
        ],
    }
    return "# Built by `gigawatch dashboards build` from dashboards/alerts.\n" + str(
        yaml.safe_dump(body, sort_keys=False, width=160, allow_unicode=True)
    )


def _provisioned(rule: AlertRule) -> dict[str, Any]:
    span = {"from": rule.back_s, "to": 0}
    evaluator = {"type": "gt" if rule.above else "lt", "params": [rule.limit]}
    chosen = "&".join(f"var-{variable}={{{{ $labels.{label} }}}}" for label, variable in rule.variables.items())
    return {
        "uid": f"gigawatch-{rule.name}",
        "title": rule.title,
        "condition": "C",
        "for": f"{rule.for_s}s",
        "noDataState": "Alerting" if rule.silence_is_bad else "OK",
        "execErrState": "Error",
        "labels": {"severity": rule.severity, "team": "gigawatch"},
        "annotations": {
            "summary": _template(rule),
            "runbook_url": rule.runbook,
            "board": f"/d/{uid(rule.board)}/{rule.board}?{chosen}",
        },
        "data": [
            {
                "refId": "A",
                "relativeTimeRange": dict(span),
                "datasourceUid": UID,
                "model": {
                    "refId": "A",
                    "datasource": {"type": TYPE, "uid": UID},
                    "queryType": "sql",
                    "editorType": "sql",
                    "format": 1,
                    "rawSql": rule.sql,
                },
            },
            {
                "refId": "B",
                "relativeTimeRange": dict(span),
                "datasourceUid": "__expr__",
                "model": {"refId": "B", "type": "reduce", "expression": "A", "reducer": "last"},
            },
            {
                "refId": "C",
                "relativeTimeRange": dict(span),
                "datasourceUid": "__expr__",
                "model": {
                    "refId": "C",
                    "type": "threshold",
                    "expression": "B",
                    "conditions": [{"evaluator": evaluator}],
                },
            },
        ],
    }


def _template(rule: AlertRule) -> str:
    """Returns the summary in Grafana's template language."""

    def part(match: re.Match[str]) -> str:
        name, form = match[1], match[2] or ""
        if name != "value":
            return f"{{{{ $labels.{name} }}}}"
        if form.endswith("%"):
            return "{{ humanizePercentage $values.B.Value }}"
        return f'{{{{ printf "%{form}" $values.B.Value }}}}'

    return re.sub(r"\{(\w+)(?::([^}]*))?\}", part, rule.summary)
