"""What a panel is rendered of, and its settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dashboards.watch import theme, units
from dashboards.watch.links import Values, address
from dashboards.watch.series import Series

#: A panel as the page's JSON: `kind` is numbers, bars, plot, table, empty or error.
RenderedPanel = dict[str, Any]
#: More lines than this get no legend.
MOST_NAMED = 12


@dataclass(frozen=True, slots=True)
class PanelData:
    """The query's columns and rows, the time range (ms, and as the address has it), and the chosen variables."""

    names: Sequence[str]
    rows: Sequence[Sequence[Any]]
    times: tuple[int, int]
    over: tuple[str, str]
    values: Values
    interval_ms: int = 1000


def field_config(panel: dict[str, Any], name: str) -> dict[str, Any]:
    """Returns the panel's field settings, overridden by those of the field `name`."""
    made = dict(panel["fieldConfig"]["defaults"])
    for key, value in theme.overrides(panel).get(name, {}).items():
        made[key.removeprefix("custom.")] = value
    return made


def link_of(panel: dict[str, Any], data: PanelData, labels: dict[str, str] | None = None) -> str:
    for link in (
        panel["fieldConfig"]["defaults"].get("links")
        or panel.get("options", {}).get("dataLinks")
        or panel.get("links")
        or ()
    ):
        return address(link["url"], data.values, data.over, labels=labels)
    return ""


def axis_unit(unit: str, lines: Sequence[Series]) -> tuple[float, str]:
    """Returns what to divide the lines' values by, and the unit that goes with it."""
    return units.known(unit).prefix(max((abs(v) for s in lines for v in theme.finite(s.y)), default=0.0))


def suffixed(text: str) -> str:
    return text if text == "%" else f" {text}" if text else ""
