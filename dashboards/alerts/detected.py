"""Alerts on what detectors find: the scores by cause."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from dashboards.alerts.rule import PER_DEVICE, AlertRule, Severity
from dashboards.sql import SCORES
from schemas import thresholds
from schemas.catalogue import KINDS

#: The board that shows a kind's devices; the rack board for several kinds.
_BOARDS = {"gpu": "gpu", "power": "power", "cooling": "cooling"}


@dataclass(frozen=True, slots=True)
class Detection:
    """A detector rule as alerts and boards see it: its cause, and the alert that it raises for `kinds`."""

    name: str
    help: str
    alert: str = ""
    kinds: tuple[str, ...] = ("gpu",)
    overrides: bool = False
    title: str = ""
    severity: Severity = "critical"
    summary: str = ""

    def alerts_for(self, kind: str) -> bool:
        return bool(self.alert) and kind in self.kinds


#: The detector's rules that raise an alert (pipeline.compute), as far as alerts and boards need them.
_DETECTIONS = (
    Detection("row_remap_failure", "A memory row could not be remapped.", "gpu-lost"),
    Detection("ecc_dbe_total", "Uncorrectable ECC errors.", "gpu-lost"),
    Detection("row_remap_uncorrectable_total", "Memory rows remapped for uncorrectable errors.", "gpu-lost"),
    Detection("psu_failed", "Power supplies that deliver nothing.", "psu-loss", ("power",)),
    Detection("leak", "A leak is detected.", "leak", ("cooling",)),
    Detection("xid", "A severe XID appears: an error of the GPU that needs an operator.", "gpu-lost"),
    Detection(
        "frozen",
        "The energy counter does not move while power is drawn: the exporter or driver hangs.",
        "gpu-frozen",
        overrides=True,
    ),
    Detection("silent", "A known device gives no sample in a whole pane.", "gpu-lost", overrides=True),
)


def detections() -> tuple[Detection, ...]:
    """Returns the detector's rules, in their order."""
    return _DETECTIONS


def causes_of(alert: str, kind: str) -> tuple[str, ...]:
    """Returns the causes that raise an alert for devices of a kind."""
    return tuple(d.name for d in detections() if d.alert == alert and d.alerts_for(kind))


def kinds_of(alert: str) -> dict[str, tuple[str, ...]]:
    """Returns kind -> the causes that raise an alert for it."""
    return {kind: causes for kind in KINDS if (causes := causes_of(alert, kind))}


def without_readings(kind: str) -> tuple[str, ...]:
    """Returns the causes with which a device's readings mean nothing, such as silent."""
    return tuple(d.name for d in detections() if d.overrides and d.alerts_for(kind))


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
    for rule in detections():
        if rule.alert and rule.alert not in declared and rule.alert not in made and (causes := kinds_of(rule.alert)):
            made[rule.alert] = by_cause(rule.alert, rule.title, rule.severity, rule.summary, rule.help, causes)
    return tuple(made.values())
