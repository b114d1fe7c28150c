"""What an alert rule is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

RUNBOOKS = "docs/runbooks"
#: Seconds between two evaluations of a rule.
EVERY_S = 30
PER_DEVICE, PER_RACK, PER_SITE = ("site", "rack", "device"), ("site", "rack"), ("site",)
Severity = Literal["critical", "warning"]


@dataclass(frozen=True, slots=True)
class AlertRule:
    """`sql` gives `labels` and a `value` for each device over the last `back_s`. The rule fires when the value has been
    above (or below) `limit` for `for_s`. `summary` names the labels in braces; `fires` completes "fires when".
    """

    name: str
    title: str
    severity: Severity
    summary: str
    fires: str
    labels: tuple[str, ...]
    sql: str
    limit: float
    for_s: int = 60
    back_s: int = 60
    above: bool = True
    board: str = "rack"
    silence_is_bad: bool = False

    def over(self, value: float) -> bool:
        """Whether the value is beyond the limit."""
        return value > self.limit if self.above else value < self.limit

    @property
    def runbook(self) -> str:
        return f"{RUNBOOKS}/{self.name}.md"

    @property
    def variables(self) -> dict[str, str]:
        """Label -> variable of the rule's board that takes it."""
        names = {"device": "gpu"} if self.board == "gpu" else {}
        return {label: names.get(label, label) for label in self.labels if label in ("site", "rack") or label in names}
