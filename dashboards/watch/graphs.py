"""Lines over time as Plotly's JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dashboards.watch import theme
from dashboards.watch.panel_data import MOST_NAMED, PanelData, RenderedPanel, axis_unit, field_config, link_of, suffixed
from dashboards.watch.series import Series, split


def graph(panel: dict[str, Any], data: PanelData) -> RenderedPanel | None:
    lines = [s for s in split(data.names, data.rows) if theme.finite(s.y)]
    if not lines:
        return None
    defaults = panel["fieldConfig"]["defaults"]
    left = [s for s in lines if field_config(panel, s.column).get("axisPlacement") != "right"]
    axes = {False: axis_unit(defaults.get("unit", "none"), left)}
    right = [s for s in lines if s not in left]
    if right:
        axes[True] = axis_unit(field_config(panel, right[0].column).get("unit", "none"), right)
    traces = [_line(panel, data, s, n, len(lines), axes[s in right], s in right) for n, s in enumerate(lines)]
    made = theme.layout(
        data.times,
        hovermode="x unified" if len(lines) <= MOST_NAMED else "closest",
        showlegend=1 < len(lines) <= MOST_NAMED,
        yaxis={"ticksuffix": suffixed(axes[False][1]), **_range(defaults, axes[False][0], left)},
    )
    if right:
        made["yaxis2"] = {
            **made["yaxis"],
            "overlaying": "y",
            "side": "right",
            "ticksuffix": suffixed(axes[True][1]),
            "showgrid": False,
            **({"rangemode": "tozero"} if defaults.get("min") == 0 else {}),
        }
        made["yaxis2"].pop("range", None)
        made["margin"] = {**made["margin"], "r": 52}
    made["shapes"] = (
        _limits(defaults, axes[False][0], left) if defaults.get("custom", {}).get("thresholdsStyle") else []
    )
    return {"kind": "plot", "timed": True, "data": traces, "layout": made}


def _range(config: dict[str, Any], factor: float, lines: Sequence[Series]) -> dict[str, Any]:
    """A fixed end where the panel has one; a little room elsewhere."""
    low, high = config.get("min"), config.get("max")
    if low is None and high is None:
        return {}
    seen = [v for s in lines for v in theme.finite(s.y)] or [0.0]
    top = max(high, *seen) if high is not None else max(seen) * 1.08 or 1.0
    return {"range": [(low if low is not None else min(seen)) / factor, top / factor]}


def _line(
    panel: dict[str, Any], data: PanelData, series: Series, n: int, many: int, axis: tuple[float, str], right: bool
) -> dict[str, Any]:
    config, custom = field_config(panel, series.column), panel["fieldConfig"]["defaults"].get("custom", {})
    fixed = config.get("color", {}).get("fixedColor") if config.get("color", {}).get("mode") == "fixed" else None
    ink = theme.colour(fixed) if fixed else theme.LINES[n % len(theme.LINES)]
    factor, suffix = axis
    trace: dict[str, Any] = {
        "type": "scatter",
        "mode": "lines",
        "name": series.name,
        "x": series.x,
        "y": [None if v is None else v / factor for v in series.y],
        "connectgaps": False,
        "line": {
            "color": ink,
            "width": config.get("lineWidth", custom.get("lineWidth", 1)) if many <= MOST_NAMED else 1,
        },
        "hovertemplate": f"%{{y:,.4~g}}{suffixed(suffix)}"
        + ("" if many <= MOST_NAMED else "<br>%{fullData.name}<extra></extra>"),
        "meta": {"href": link_of(panel, data, series.labels)},
    }
    if len(series.x) == 1:
        trace["mode"] = "lines+markers"
    if right:
        trace |= {"yaxis": "y2", "line": {**trace["line"], "dash": "dot"}}
    if "fillBelowTo" in config:
        trace |= {"fill": "tonexty", "fillcolor": "rgba(139,149,165,0.22)"}
    elif many == 1 and custom.get("fillOpacity"):
        trace |= {
            "fill": "tozeroy" if panel["fieldConfig"]["defaults"].get("min") == 0 else "none",
            "fillcolor": "rgba(86,184,112,0.10)",
        }
    return trace


def _limits(config: dict[str, Any], factor: float, lines: Sequence[Series]) -> list[dict[str, Any]]:
    """Thresholds as dashed lines, those that are near what is shown."""
    seen = [v for s in lines for v in theme.finite(s.y)]
    room = max(seen) - min(seen) or abs(max(seen)) or 1.0
    near = (min(seen) - room, max(seen) + room)
    return [
        {
            "type": "line",
            "xref": "paper",
            "x0": 0,
            "x1": 1,
            "y0": step["value"] / factor,
            "y1": step["value"] / factor,
            "layer": "below",
            "line": {"color": theme.colour(step["color"]), "width": 1, "dash": "dash"},
        }
        for step in config["thresholds"]["steps"]
        if step.get("value") is not None and near[0] <= step["value"] <= near[1]
    ]
