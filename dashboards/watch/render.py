"""Renders a panel: its JSON and its query's rows to numbers, bars, a plot (Plotly's JSON) or a table. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dashboards.watch import graphs, maps, numbers
from dashboards.watch.panel_data import PanelData, RenderedPanel

_TYPES: dict[str, Callable[[dict[str, Any], PanelData], RenderedPanel | None]] = {
    "timeseries": graphs.graph,
    "stat": numbers.stat,
    "gauge": numbers.gauge,
    "bargauge": numbers.bars,
    "table": numbers.table,
    "status-history": maps.heat,
    "heatmap": maps.spread,
    "state-timeline": maps.states,
}


def render(panel: dict[str, Any], data: PanelData) -> RenderedPanel:
    """Returns the rendered panel; `empty` with the panel's own text where there are no values; `error` for a type that
    this page does not have.
    """
    make = _TYPES.get(panel["type"])
    if make is None:
        return {"kind": "error", "text": f"this page has no panel type {panel['type']}; it has {', '.join(_TYPES)}"}
    rendered = make(panel, data) if data.rows else None
    return rendered or {"kind": "empty", "text": panel["fieldConfig"]["defaults"].get("noValue") or "no data"}
