"""A panel's JSON and its query's rows as something to show: numbers, bars, a plot (Plotly's JSON), a table.

Pure; a drawing a panel type.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dashboards.watch import theme, units
from dashboards.watch.links import Values, address
from dashboards.watch.series import Series, millis, split

Drawn = dict[str, Any]
_MOST_NAMED = 12


@dataclass(frozen=True, slots=True)
class PanelData:
    """What a drawing is made for: the query's answer, the time range (ms, and as the address says it), the chosen
    variables.
    """

    names: Sequence[str]
    rows: Sequence[Sequence[Any]]
    times: tuple[int, int]
    over: tuple[str, str]
    values: Values
    interval_ms: int = 1000


def draw(panel: dict[str, Any], scene: PanelData) -> Drawn:
    """The drawing, or `empty` with what the panel says of that; `error` for a type that this page does not know."""
    make = _TYPES.get(panel["type"])
    if make is None:
        return {"kind": "error", "text": f"this page draws no {panel['type']}; it draws {', '.join(_TYPES)}"}
    drawn = make(panel, scene) if scene.rows else None
    return drawn or {"kind": "empty", "text": panel["fieldConfig"]["defaults"].get("noValue") or "no data"}


def _config(panel: dict[str, Any], name: str) -> dict[str, Any]:
    """The panel's field settings, with those of that field over them."""
    made = dict(panel["fieldConfig"]["defaults"])
    for key, value in theme.overrides(panel).get(name, {}).items():
        made[key.removeprefix("custom.")] = value
    return made


def _link(panel: dict[str, Any], scene: PanelData, labels: dict[str, str] | None = None) -> str:
    for link in (
        panel["fieldConfig"]["defaults"].get("links")
        or panel.get("options", {}).get("dataLinks")
        or panel.get("links")
        or ()
    ):
        return address(link["url"], scene.values, scene.over, labels=labels)
    return ""


def _stat(panel: dict[str, Any], scene: PanelData) -> Drawn | None:
    out = []
    for name, value in zip(scene.names, scene.rows[-1], strict=True):
        config = _config(panel, name)
        if isinstance(value, str):
            out.append({"title": name, "text": value, "colour": theme.COLOURS["text"], "href": _link(panel, scene)})
        elif theme.finite([value]):
            own = config.get("color", {}).get("fixedColor") if config.get("color", {}).get("mode") == "fixed" else None
            out.append(
                {
                    "title": name if len(scene.names) > 1 else "",
                    "text": units.text(value, config.get("unit", "none"), config.get("decimals")),
                    "colour": theme.colour(own) if own else theme.threshold(config, value),
                    "href": _link(panel, scene),
                }
            )
    return {"kind": "numbers", "values": out} if out else None


def _gauge(panel: dict[str, Any], scene: PanelData) -> Drawn | None:
    found = theme.finite(list(scene.rows[-1]))
    if not found:
        return None
    config, value = panel["fieldConfig"]["defaults"], found[-1]
    factor, suffix = units.known(config.get("unit", "none")).prefix(config.get("max", 1))
    low, high = config.get("min", 0) / factor, config.get("max", 1) / factor
    edges = [
        max(low, min(high, (s["value"] if s.get("value") is not None else low * factor) / factor))
        for s in config["thresholds"]["steps"]
    ]
    steps = [
        {"range": [a, b], "color": theme.colour(s["color"])}
        for a, b, s in zip(edges, [*edges[1:], high], config["thresholds"]["steps"], strict=True)
        if b > a
    ]
    number = {
        "suffix": suffix if suffix == "%" else f" {suffix}" if suffix else "",
        "valueformat": f",.{int(config.get('decimals') or 0)}f",
        "font": {"size": 26, "color": theme.threshold(config, value)},
    }
    trace = {
        "type": "indicator",
        "mode": "gauge+number",
        "value": value / factor,
        "number": number,
        "gauge": {
            "axis": {"range": [low, high], "showticklabels": False, "ticks": ""},
            "bar": {"color": theme.threshold(config, value), "thickness": 0.7},
            "bgcolor": theme.GRID,
            "borderwidth": 0,
            "steps": [{**s, "thickness": 0.12} for s in steps],
        },
    }
    return {"kind": "plot", "data": [trace], "layout": theme.layout(margin={"l": 18, "r": 18, "t": 18, "b": 4})}


def _bars(panel: dict[str, Any], scene: PanelData) -> Drawn | None:
    config = panel["fieldConfig"]["defaults"]
    pairs = [(str(row[0]), found[-1]) for row in scene.rows if (found := theme.finite(row[1:]))]
    if not pairs:
        return None
    low, high = config.get("min", 0.0), config.get("max") or max((v for _, v in pairs), default=1.0) or 1.0
    return {
        "kind": "bars",
        "rows": [
            {
                "name": name,
                "text": units.text(value, config.get("unit", "none"), config.get("decimals")),
                "share": max(0.0, min(1.0, (value - low) / ((high - low) or 1))),
                "colour": theme.threshold(config, value),
            }
            for name, value in pairs
        ],
    }


def _graph(panel: dict[str, Any], scene: PanelData) -> Drawn | None:
    lines = [s for s in split(scene.names, scene.rows) if theme.finite(s.y)]
    if not lines:
        return None
    defaults = panel["fieldConfig"]["defaults"]
    left = [s for s in lines if _config(panel, s.column).get("axisPlacement") != "right"]
    axes = {False: _axis(defaults.get("unit", "none"), left)}
    right = [s for s in lines if s not in left]
    if right:
        axes[True] = _axis(_config(panel, right[0].column).get("unit", "none"), right)
    data = [_line(panel, scene, s, n, len(lines), axes[s in right], s in right) for n, s in enumerate(lines)]
    made = theme.layout(
        scene.times,
        hovermode="x unified" if len(lines) <= _MOST_NAMED else "closest",
        showlegend=1 < len(lines) <= _MOST_NAMED,
        yaxis={"ticksuffix": _suffix(axes[False][1]), **_range(defaults, axes[False][0], left)},
    )
    if right:
        made["yaxis2"] = {
            **made["yaxis"],
            "overlaying": "y",
            "side": "right",
            "ticksuffix": _suffix(axes[True][1]),
            "showgrid": False,
            **({"rangemode": "tozero"} if defaults.get("min") == 0 else {}),
        }
        made["yaxis2"].pop("range", None)
        made["margin"] = {**made["margin"], "r": 52}
    made["shapes"] = (
        _limits(defaults, axes[False][0], left) if defaults.get("custom", {}).get("thresholdsStyle") else []
    )
    return {"kind": "plot", "timed": True, "data": data, "layout": made}


def _axis(unit: str, lines: Sequence[Series]) -> tuple[float, str]:
    return units.known(unit).prefix(max((abs(v) for s in lines for v in theme.finite(s.y)), default=0.0))


def _suffix(text: str) -> str:
    return text if text == "%" else f" {text}" if text else ""


def _range(config: dict[str, Any], factor: float, lines: Sequence[Series]) -> dict[str, Any]:
    """A fixed end where the panel has one; a little room elsewhere."""
    low, high = config.get("min"), config.get("max")
    if low is None and high is None:
        return {}
    seen = [v for s in lines for v in theme.finite(s.y)] or [0.0]
    top = max(high, *seen) if high is not None else max(seen) * 1.08 or 1.0
    return {"range": [(low if low is not None else min(seen)) / factor, top / factor]}


def _line(
    panel: dict[str, Any], scene: PanelData, series: Series, n: int, many: int, axis: tuple[float, str], right: bool
) -> dict[str, Any]:
    config, custom = _config(panel, series.column), panel["fieldConfig"]["defaults"].get("custom", {})
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
            "width": config.get("lineWidth", custom.get("lineWidth", 1)) if many <= _MOST_NAMED else 1,
        },
        "hovertemplate": f"%{{y:,.4~g}}{_suffix(suffix)}"
        + ("" if many <= _MOST_NAMED else "<br>%{fullData.name}<extra></extra>"),
        "meta": {"href": _link(panel, scene, series.labels)},
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


def _grid(scene: PanelData, lines: Sequence[Series]) -> tuple[list[int], list[list[Any]]]:
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


def _heat(panel: dict[str, Any], scene: PanelData) -> Drawn | None:
    """Status history: a cell for each device and moment."""
    lines = sorted((s for s in split(scene.names, scene.rows) if theme.finite(s.y)), key=lambda s: s.name, reverse=True)
    if not lines:
        return None
    config = panel["fieldConfig"]["defaults"]
    moments, cells = _grid(scene, lines)
    factor, suffix = _axis(config.get("unit", "none"), lines)
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
        "colorbar": {"thickness": 8, "ticksuffix": _suffix(suffix), "tickfont": {"size": 10}, "outlinewidth": 0},
        "hovertemplate": f"%{{y}}<br>%{{z:,.4~g}}{_suffix(suffix)}<extra></extra>",
        "meta": {"hrefs": {s.name: _link(panel, scene, s.labels) for s in lines}},
    }
    made = theme.layout(
        scene.times,
        yaxis={"type": "category", "showgrid": False, "nticks": 24, "tickfont": {"size": 9}},
        margin={"l": 90, "r": 4, "t": 6, "b": 26},
    )
    return {"kind": "plot", "timed": True, "data": [trace], "layout": made}


def _spread(panel: dict[str, Any], scene: PanelData) -> Drawn | None:
    """Heat map of counts in buckets, each named by its lower end."""
    lines = [s for s in split(scene.names, scene.rows) if theme.finite(s.y)]
    if not lines:
        return None
    lines.sort(key=lambda s: float(s.name) if s.name.replace(".", "", 1).lstrip("-").isdigit() else 0.0)
    moments, cells = _grid(scene, lines)
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
        "hovertemplate": f"from %{{y}}{_suffix(unit)}<br>%{{z}}<extra></extra>",
    }
    return {
        "kind": "plot",
        "timed": True,
        "data": [trace],
        "layout": theme.layout(scene.times, yaxis={"type": "category", "ticksuffix": _suffix(unit), "showgrid": False}),
    }


def _states(panel: dict[str, Any], scene: PanelData) -> Drawn | None:
    """State timeline: a bar for as long as a state lasts."""
    lines = sorted(split(scene.names, scene.rows, words=True), key=lambda s: s.name, reverse=True)
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
                if after is not None and after[0] - x <= 3 * max(scene.interval_ms, 10_000)
                else x + scene.interval_ms
            )
            found = bars.setdefault(word, [])
            if found and found[-1][0] == series.name and found[-1][2] == x:
                found[-1] = (series.name, found[-1][1], until)
            else:
                found.append((series.name, x, until))
    if not bars:
        return None
    data = [
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
        scene.times,
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
    return {"kind": "plot", "timed": True, "data": data, "layout": made}


def _table(panel: dict[str, Any], scene: PanelData) -> Drawn:
    configs = [_config(panel, name) for name in scene.names]
    shown = [k for k, c in enumerate(configs) if not c.get("hidden")]
    rows = []
    for row in scene.rows:
        fields = dict(zip(scene.names, row, strict=True))
        rows.append([_cell(configs[k], row[k], fields, scene) for k in shown])
    columns = [
        {"title": scene.names[k].replace("_", " "), "right": any(theme.finite([row[k]]) for row in scene.rows[:50])}
        for k in shown
    ]
    return {"kind": "table", "columns": columns, "rows": rows}


def _cell(config: dict[str, Any], value: Any, fields: dict[str, Any], scene: PanelData) -> dict[str, Any]:
    made: dict[str, Any] = {"text": "" if value is None else str(value), "sort": None}
    if theme.finite([value]):
        made = {"text": units.text(value, config.get("unit", "none"), config.get("decimals")), "sort": value}
        if config.get("cellOptions", {}).get("type") == "color-text":
            made["colour"] = theme.threshold(config, value)
    elif isinstance(value, float):
        made["text"] = ""
    elif hasattr(value, "timestamp"):
        made = {"time": millis(value), "text": "", "sort": millis(value)}
    for link in config.get("links") or ():
        made["href"] = address(link["url"], scene.values, scene.over, text=made["text"], fields=fields)
    return made


_TYPES: dict[str, Callable[[dict[str, Any], PanelData], Drawn | None]] = {
    "timeseries": _graph,
    "stat": _stat,
    "gauge": _gauge,
    "bargauge": _bars,
    "table": _table,
    "status-history": _heat,
    "heatmap": _spread,
    "state-timeline": _states,
}
