"""Devices over time as Plotly's JSON: heat maps, counts in buckets, state timelines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dashboards.watch import theme, units
from dashboards.watch.panel_data import PanelData, RenderedPanel, axis_unit, link_of, suffixed
from dashboards.watch.series import Series, split


def _grid(lines: Sequence[Series]) -> tuple[list[int], list[list[Any]]]:
    """All moments, and for each line its value at each."""
    moments = sorted({x for s in lines for x in s.x})
    at = {x: k for k, x in enumerate(moments)}
    cells: list[list[Any]] = []
    for series in lines:
        row: list[Any] = [None] * len(moments)
        for x, y in zip(series.x, series.y, strict=True):
            row[at[x]] = y
        cells.append(row)
    return moments, cells


def heat(panel: dict[str, Any], data: PanelData) -> RenderedPanel | None:
    """Status history: a cell for each device and moment."""
    lines = sorted((s for s in split(data.names, data.rows) if theme.finite(s.y)), key=lambda s: s.name, reverse=True)
    if not lines:
        return None
    config = panel["fieldConfig"]["defaults"]
    moments, cells = _grid(lines)
    factor, suffix = axis_unit(config.get("unit", "none"), lines)
    seen = theme.finite([v for row in cells for v in row])
    low, high = config.get("min", min(seen)), config.get("max", max(seen))
    steps = [s["value"] for s in config["thresholds"]["steps"] if s.get("value") is not None]
    if config.get("color", {}).get("mode") == "thresholds":
        low, high = min([low, *steps]), max([high, *(s + 1 for s in steps)])
    trace = {
        "type": "heatmap",
        "x": moments,
        "y": [s.name for s in lines],
        "z": [[None if v is None else v / factor for v in row] for row in cells],
        "zmin": low / factor,
        "zmax": high / factor,
        "colorscale": theme.scale(config, low, high),
        "xgap": 0,
        "ygap": 1 if len(lines) <= 40 else 0,
        "colorbar": {"thickness": 8, "ticksuffix": suffixed(suffix), "tickfont": {"size": 10}, "outlinewidth": 0},
        "hovertemplate": f"%{{y}}<br>%{{z:,.4~g}}{suffixed(suffix)}<extra></extra>",
        "meta": {"hrefs": {s.name: link_of(panel, data, s.labels) for s in lines}},
    }
    made = theme.layout(
        data.times,
        yaxis={"type": "category", "showgrid": False, "nticks": 24, "tickfont": {"size": 9}},
        margin={"l": 90, "r": 4, "t": 6, "b": 26},
    )
    return {"kind": "plot", "timed": True, "data": [trace], "layout": made}


def spread(panel: dict[str, Any], data: PanelData) -> RenderedPanel | None:
    """Heat map of counts in buckets, each named by its lower end."""
    lines = [s for s in split(data.names, data.rows) if theme.finite(s.y)]
    if not lines:
        return None
    lines.sort(key=lambda s: float(s.name) if s.name.replace(".", "", 1).lstrip("-").isdigit() else 0.0)
    moments, cells = _grid(lines)
    unit = units.known(panel["options"].get("yAxis", {}).get("unit") or "none").suffix
    trace = {
        "type": "heatmap",
        "x": moments,
        "y": [s.name for s in lines],
        "z": cells,
        "colorscale": "Viridis",
        "ygap": 1,
        "zmin": 0,
        "colorbar": {"thickness": 8, "tickfont": {"size": 10}, "outlinewidth": 0},
        "hovertemplate": f"from %{{y}}{suffixed(unit)}<br>%{{z}}<extra></extra>",
    }
    return {
        "kind": "plot",
        "timed": True,
        "data": [trace],
        "layout": theme.layout(data.times, yaxis={"type": "category", "ticksuffix": suffixed(unit), "showgrid": False}),
    }


def states(panel: dict[str, Any], data: PanelData) -> RenderedPanel | None:
    """State timeline: a bar for as long as a state lasts."""
    lines = sorted(split(data.names, data.rows, words=True), key=lambda s: s.name, reverse=True)
    inks = {
        word: theme.colour(result.get("color"))
        for m in panel["fieldConfig"]["defaults"].get("mappings", ())
        if m["type"] == "value"
        for word, result in m["options"].items()
    }
    bars: dict[str, list[tuple[str, int, int]]] = {}
    for series in lines:
        points = [(x, y) for x, y in zip(series.x, series.y, strict=True) if y not in (None, "")]
        for (x, word), after in zip(points, [*points[1:], None], strict=True):
            until = (
                after[0]
                if after is not None and after[0] - x <= 3 * max(data.interval_ms, 10_000)
                else x + data.interval_ms
            )
            found = bars.setdefault(word, [])
            if found and found[-1][0] == series.name and found[-1][2] == x:
                found[-1] = (series.name, found[-1][1], until)
            else:
                found.append((series.name, x, until))
    if not bars:
        return None
    traces = [
        {
            "type": "bar",
            "orientation": "h",
            "name": word,
            "y": [b[0] for b in spans],
            "base": [b[1] for b in spans],
            "x": [b[2] - b[1] for b in spans],
            "marker": {"color": inks.get(word, theme.LINES[n % len(theme.LINES)]), "line": {"width": 0}},
            "hovertemplate": "%{y}: " + word + "<extra></extra>",
        }
        for n, (word, spans) in enumerate(bars.items())
    ]
    made = theme.layout(
        data.times,
        barmode="overlay",
        bargap=0.12,
        showlegend=True,
        yaxis={
            "type": "category",
            "categoryorder": "array",
            "categoryarray": [s.name for s in lines],
            "tickfont": {"size": 9},
            "showgrid": False,
        },
        margin={"l": 90, "r": 8, "t": 6, "b": 26},
    )
    return {"kind": "plot", "timed": True, "data": traces, "layout": made}
