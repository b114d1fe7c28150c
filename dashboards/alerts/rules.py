"""Alert rules: few, each for one thing that someone must do something about.

Provisioned to Grafana, and told by the watch page.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import yaml

from dashboards.board import uid
from dashboards.datasource import TYPE, UID
from dashboards.macros import Range, expand
from dashboards.sql import off_balance, provisioned_w
from schemas import thresholds
from schemas.tables import DATABASE as DB

RUNBOOKS = "docs/runbooks"
EVERY_S = 30
_DEVICE, _RACK, _SITE = ("site", "rack", "device"), ("site", "rack"), ("site",)


@dataclass(frozen=True, slots=True)
class Rule:
    """`sql` gives `labels` and a `value` for each device over the last `back_s`; it is firing when the value has been
    above (or below)
    `limit` for `for_s`. `summary` names the labels in braces."""

    name: str
    title: str
    severity: Literal["critical", "warning"]
    summary: str
    labels: tuple[str, ...]
    sql: str
    limit: float
    for_s: int = 60
    back_s: int = 60
    above: bool = True
    board: str = "rack"
    silence_is_bad: bool = False

    def over(self, value: float) -> bool:
        return value > self.limit if self.above else value < self.limit

    @property
    def runbook(self) -> str:
        return f"{RUNBOOKS}/{self.name}.md"


#: A silent or frozen GPU repeats or lacks its readings: it is told of as that, and as nothing else.
_TOLD = f"SELECT device FROM {DB}.scores WHERE $__timeFilter(ts) AND cause IN ('silent', 'frozen')"


def _gpus(measure: str, name: str) -> str:
    """Each GPU's measure, and the median of those of its job in its rack; at least four make a crowd."""
    return (
        f"SELECT site, rack, job, device, {measure} AS {name}, quantileExact(0.5)({name}) OVER (PARTITION BY "
        "site, rack, job) AS median, count() OVER "
        f"(PARTITION BY site, rack, job) AS peers FROM {DB}.gpu_10s WHERE $__timeFilter(ts) AND device NOT IN "
        f"({_TOLD}) GROUP BY site, rack, job, device"
    )


def _scored(*causes: str) -> str:
    return (
        f"SELECT site, rack, device, max(score) AS value FROM {DB}.scores WHERE $__timeFilter(ts) AND kind = "
        "'gpu' AND cause IN "
        f"({', '.join(repr(c) for c in causes)}) GROUP BY site, rack, device"
    )


def _latest(kind: str, column: str, where: str) -> str:
    return (
        f"SELECT site, rack, device, argMax({column}, ts) AS value FROM {DB}.{kind}_10s WHERE $__timeFilter(ts) "
        f"AND {where} GROUP BY site, rack, device"
    )


_LATE = (
    f"SELECT site, dateDiff('second', max(ts), $__toTime) AS value FROM {DB}.site_windows WHERE "
    "$__timeFilter(ts) AND window_s = 10 GROUP BY site"
)

RULES = (
    Rule(
        "gpu-lost",
        "A GPU is lost",
        "critical",
        "{device} reports nothing any more, or an error that needs a reset",
        _DEVICE,
        _scored("silent", "xid", "ecc_dbe_total", "row_remap_failure", "row_remap_uncorrectable_total"),
        thresholds.SCORE_BAD,
        back_s=300,
        board="gpu",
    ),
    Rule(
        "gpu-hot",
        "A GPU runs hotter than its peers",
        "warning",
        "{device} is {value:.0f} K above the GPUs around it that do the same work",
        _DEVICE,
        f"SELECT site, rack, device, temp - median AS value FROM ({_gpus('avg(temp_c_mean)', 'temp')}) WHERE "
        "peers >= 4",
        thresholds.HOTTER_THAN_PEERS_K,
        board="gpu",
    ),
    Rule(
        "gpu-throttled",
        "A GPU is held down by hardware",
        "warning",
        "{device} is slowed down by its hardware (power brake, hardware or thermal slow-down)",
        _DEVICE,
        "SELECT site, rack, device, avg(bitAnd(toUInt32(ifNull(clock_event_reasons_max, 0)), "
        f"{thresholds.THROTTLE_HW}) > 0) AS value FROM "
        f"{DB}.gpu_10s WHERE $__timeFilter(ts) AND device NOT IN ({_TOLD}) GROUP BY site, rack, device",
        0.9,
        board="gpu",
    ),
    Rule(
        "gpu-straggler",
        "A GPU drags its job",
        "warning",
        "{device} does {value:.0%} less than its job's other GPUs",
        _DEVICE,
        "SELECT site, rack, device, 1 - active / median AS value FROM "
        f"({_gpus('avg(sm_active_mean)', 'active')}) WHERE peers >= 4 AND median > 0.1",
        1 - thresholds.STRAGGLER_SHARE,
        board="gpu",
        back_s=90,
    ),
    Rule(
        "gpu-frozen",
        "A GPU's readings stand still",
        "warning",
        "{device} repeats the same readings: its exporter or driver hangs",
        _DEVICE,
        _scored("frozen"),
        thresholds.SCORE_NOTICE,
        board="gpu",
    ),
    Rule(
        "coolant-flow",
        "A rack gets too little coolant",
        "critical",
        "{rack} gets {value:.2f} L/min for each kW",
        _RACK,
        f"SELECT site, rack, min(flow_lpm / rack_power_w) * 1000 AS value FROM {DB}.rack_windows WHERE "
        "$__timeFilter(ts) AND window_s = 60 AND coverage >= "
        f"0.75 AND rack_power_w > 0.2 * ifNull({provisioned_w()}, 0) AND flow_lpm IS NOT NULL GROUP BY site, rack",
        thresholds.LPM_PER_KW_LEAST,
        above=False,
        back_s=180,
    ),
    Rule(
        "cdu-pump",
        "A CDU has lost a pump",
        "critical",
        "{device} runs with {value:.0f} pump less than within the last hour",
        _DEVICE,
        "SELECT site, rack, device, max(pumps_running_max) - argMax(pumps_running_max, ts) AS value FROM "
        f"{DB}.cooling_10s WHERE $__timeFilter(ts) AND "
        f"model = 'cdu' AND pumps_running_max IS NOT NULL GROUP BY site, rack, device",
        0,
        back_s=3600,
        board="cooling",
    ),
    Rule(
        "leak",
        "Coolant leaks",
        "critical",
        "{device}: its leak sensor is wet",
        _DEVICE,
        _latest("cooling", "leak_max", "leak_max IS NOT NULL"),
        0,
        for_s=30,
        board="cooling",
    ),
    Rule(
        "heat-balance",
        "Coolant heat does not match rack power",
        "warning",
        f"{{rack}}: coolant heat over rack power is {{value:.2f}} away from {thresholds.HEAT_BALANCE:g}",
        _RACK,
        f"SELECT site, rack, {off_balance('argMax(heat_balance, ts)')} AS value FROM {DB}.rack_windows WHERE "
        f"$__timeFilter(ts) AND window_s = 60 AND coverage >= 0.75 AND heat_balance IS NOT NULL GROUP BY site, rack",
        thresholds.HEAT_BALANCE_OFF,
    ),
    Rule(
        "psu-loss",
        "A power shelf has lost a supply",
        "warning",
        "{device}: {value:.0f} power supply delivers nothing",
        _DEVICE,
        _latest("power", "psu_failed_max", "model = 'power-shelf' AND psu_failed_max IS NOT NULL"),
        0,
        board="power",
    ),
    Rule(
        "telemetry-late",
        "Telemetry is late or has stopped",
        "critical",
        "{site}: the newest figures are {value:.0f} s old",
        _SITE,
        _LATE,
        2 * thresholds.FRESH_LATE_S,
        back_s=900,
        board="health",
        silence_is_bad=True,
    ),
    Rule(
        "dead-letters",
        "Messages cannot be taken",
        "warning",
        "{value:.0f} messages were set aside in the last five minutes; the newest: {reason}",
        ("reason",),
        f"SELECT argMax(reason, ts) AS reason, count() AS value FROM {DB}.dead_letters FINAL WHERE $__timeFilter(ts)",
        0,
        back_s=300,
        board="health",
    ),
)


@dataclass(frozen=True, slots=True)
class Firing:
    """A rule that fires for one device."""

    rule: Rule
    labels: Mapping[str, str]
    value: float

    @property
    def summary(self) -> str:
        if not self.labels:
            return f"nothing at all was stored in the last {self.rule.back_s:.0f} s"
        return self.rule.summary.format(value=self.value, **self.labels)

    @property
    def href(self) -> str:
        """The board that shows it, on the watch page or in Grafana."""
        from urllib.parse import quote

        names = {"device": "gpu"} if self.rule.board == "gpu" else {}
        chosen = "&".join(
            f"var-{names.get(k, k)}={quote(v, safe='')}"
            for k, v in self.labels.items()
            if k in ("site", "rack") or k in names
        )
        return f"/d/{uid(self.rule.board)}/{self.rule.board}?{chosen}"


class _Answer(Protocol):
    @property
    def names(self) -> Sequence[str]: ...
    @property
    def rows(self) -> Sequence[Sequence[Any]]: ...


Ask = Callable[[str], _Answer]


def _found(ask: Ask, rule: Rule, at: dt.datetime) -> dict[tuple[str, ...], float]:
    """Values of the rule at a moment, by labels; those that are over the limit.

    No labels: there was nothing, where that is bad.
    """
    answer = ask(expand(rule.sql, Range(at - dt.timedelta(seconds=rule.back_s), at, 10), {}))
    if rule.silence_is_bad and not answer.rows:
        return {(): float("inf")}
    values = {tuple(str(v) for v in row[:-1]): float(row[-1]) for row in answer.rows if row[-1] is not None}
    return {who: v for who, v in values.items() if rule.over(v)}


def evaluate(ask: Ask, at: dt.datetime, rules: Sequence[Rule] = RULES) -> list[Firing]:
    """What fires at that moment: over the limit then and at each round of the rule's duration before it, as Grafana
    would have seen it.
    """
    out = []
    for rule in rules:
        found = _found(ask, rule, at)
        for back_s in range(EVERY_S, rule.for_s + 1, EVERY_S):
            if not found:
                break
            before = _found(ask, rule, at - dt.timedelta(seconds=back_s))
            found = {who: v for who, v in found.items() if who in before}
        out += [
            Firing(rule, dict(zip(rule.labels, who, strict=True)) if who else {}, v) for who, v in sorted(found.items())
        ]
    return out


def firing(ask: Ask) -> list[dict[str, str]]:
    """What fires now, worst first, for the watch page."""
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


def provisioned() -> str:
    """The rules as Grafana reads them at start."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for rule in RULES:
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
    return "# Built by `gigawatch dashboards build` from dashboards/alerts/rules.py.\n" + str(
        yaml.safe_dump(body, sort_keys=False, width=160, allow_unicode=True)
    )


def _provisioned(rule: Rule) -> dict[str, Any]:
    span = {"from": rule.back_s, "to": 0}
    evaluator = {"type": "gt" if rule.above else "lt", "params": [rule.limit]}
    names = {"device": "gpu"} if rule.board == "gpu" else {}
    chosen = "&".join(
        f"var-{names.get(k, k)}={{{{ $labels.{k} }}}}" for k in rule.labels if k in ("site", "rack") or k in names
    )
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


def _template(rule: Rule) -> str:
    """The summary in Grafana's template language."""
    import re

    def part(match: re.Match[str]) -> str:
        name, form = match[1], match[2] or ""
        if name != "value":
            return f"{{{{ $labels.{name} }}}}"
        if form.endswith("%"):
            return "{{ humanizePercentage $values.B.Value }}"
        return f'{{{{ printf "%{form}" $values.B.Value }}}}'

    return re.sub(r"\{(\w+)(?::([^}]*))?\}", part, rule.summary)
