"""Panels without an axis: numbers, a gauge, bars, a table."""

from __future__ import annotations

from typing import Any

from dashboards.watch import theme, units
from dashboards.watch.links import address
from dashboards.watch.panel_data import PanelData, RenderedPanel, field_config, link_of
from dashboards.watch.series import millis


def stat(panel: dict[str, Any], data: PanelData) -> RenderedPanel | None:
    out = []
    for name, value in zip(data.names, data.rows[-1], strict=True):
        config = field_config(panel, name)
        if isinstance(value, str):
            out.append({"title": name, "text": value, "colour": theme.COLOURS["text"], "href": link_of(panel, data)})
        elif theme.finite([value]):
            own = config.get("color", {}).get("fixedColor") if config.get("color", {}).get("mode") == "fixed" else None
            out.append(
                {
                    "title": name if len(data.names) > 1 else "",
                    "text": units.text(value, config.get("unit", "none"), config.get("decimals")),
                    "colour": theme.colour(own) if own else theme.threshold(config, value),
                    "href": link_of(panel, data),
                }
            )
    return {"kind": "numbers", "values": out} if out else None


def gauge(panel: dict[str, Any], data: PanelData) -> RenderedPanel | None:
    found = theme.finite(list(data.rows[-1]))
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


def bars(panel: dict[str, Any], data: PanelData) -> RenderedPanel | None:
    config = panel["fieldConfig"]["defaults"]
    pairs = [(str(row[0]), found[-1]) for row in data.rows if (found := theme.finite(row[1:]))]
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


def table(panel: dict[str, Any], data: PanelData) -> RenderedPanel:
    configs = [field_config(panel, name) for name in data.names]
    shown = [k for k, c in enumerate(configs) if not c.get("hidden")]
    rows = []
    for row in data.rows:
        fields = dict(zip(data.names, row, strict=True))
        rows.append([_cell(configs[k], row[k], fields, data) for k in shown])
    columns = [
        {"title": data.names[k].replace("_", " "), "right": any(theme.finite([row[k]]) for row in data.rows[:50])}
        for k in shown
    ]
    return {"kind": "table", "columns": columns, "rows": rows}


def _cell(config: dict[str, Any], value: Any, fields: dict[str, Any], data: PanelData) -> dict[str, Any]:
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
        made["href"] = address(link["url"], data.values, data.over, text=made["text"], fields=fields)
    return made
