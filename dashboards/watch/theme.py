"""The theme of plots: colours, axes, thresholds; dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

COLOURS = {
    "green": "#56b870",
    "yellow": "#f2c037",
    "orange": "#ff9830",
    "red": "#f2495c",
    "blue": "#5794f2",
    "purple": "#b877d9",
    "gray": "#6e7681",
    "text": "#d5d9e0",
}
LINES = (
    "#56b870",
    "#f2c037",
    "#5794f2",
    "#ff9830",
    "#b877d9",
    "#4dc4c0",
    "#f2708f",
    "#96d98d",
    "#8ab8ff",
    "#ffcb7d",
    "#ca95e5",
    "#7fe0dc",
)
HEAT = ((0.0, "#14304d"), (0.25, "#1f6f8b"), (0.5, "#56b870"), (0.75, "#f2c037"), (1.0, "#f2495c"))
GREENS = ((0.0, "#122017"), (0.5, "#2a6b3d"), (1.0, "#7bd893"))
INK, GRID = "#c8cfda", "#232b36"


def colour(name: str | None) -> str:
    return COLOURS.get(name or "", name or COLOURS["text"])


def threshold(config: Mapping[str, Any], value: float) -> str:
    """The colour that a value has by its thresholds."""
    found = COLOURS["text"]
    for step in (config.get("thresholds") or {}).get("steps", ()):
        if step.get("value") is None or value >= step["value"]:
            found = colour(step["color"])
    return found


def scale(config: Mapping[str, Any], low: float, high: float) -> list[list[Any]]:
    """A colour scale from `low` to `high`: the thresholds' steps where the panel colours by them, else from cold to
    hot.
    """
    steps = (config.get("thresholds") or {}).get("steps", ())
    mode = (config.get("color") or {}).get("mode")
    if mode != "thresholds" or high <= low:
        return [list(pair) for pair in (GREENS if mode == "continuous-greens" else HEAT)]
    edges = [
        max(0.0, min(1.0, (s["value"] - low) / (high - low))) if s.get("value") is not None else 0.0 for s in steps
    ]
    out: list[list[Any]] = []
    for at, until, step in zip(edges, [*edges[1:], 1.0], steps, strict=True):
        if until > at or at == 1.0:
            out += [[at, colour(step["color"])], [until, colour(step["color"])]]
    return out or [[0.0, COLOURS["green"]], [1.0, COLOURS["green"]]]


def layout(times: tuple[int, int] | None = None, **more: Any) -> dict[str, Any]:
    """A plot's layout; `times` are the ends of its time axis, ms."""
    axis = {"gridcolor": GRID, "zerolinecolor": GRID, "linecolor": GRID, "automargin": True, "tickfont": {"size": 11}}
    made: dict[str, Any] = {
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": INK, "size": 12},
        "hovermode": "closest",
        "margin": {"l": 48, "r": 12, "t": 6, "b": 26},
        "xaxis": dict(axis),
        "yaxis": dict(axis),
        "showlegend": False,
        "hoverlabel": {"bgcolor": "#11161d", "bordercolor": GRID, "font": {"color": INK}},
        "legend": {"orientation": "h", "y": -0.14, "x": 0, "font": {"size": 11}, "itemwidth": 30},
    }
    if times:
        made["xaxis"] |= {
            "type": "date",
            "range": list(times),
            "tickformat": "%H:%M" if times[1] - times[0] <= 86_400_000 else "%b %e",
            "nticks": 8,
        }
    for key, value in more.items():
        made[key] = {**made[key], **value} if isinstance(value, dict) and isinstance(made.get(key), dict) else value
    return made


def overrides(panel: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Field name -> property -> value."""
    out: dict[str, dict[str, Any]] = {}
    for override in panel["fieldConfig"].get("overrides", ()):
        if override["matcher"]["id"] == "byName":
            out.setdefault(override["matcher"]["options"], {}).update(
                {p["id"]: p["value"] for p in override["properties"]}
            )
    return out


def finite(values: Sequence[Any]) -> list[float]:
    return [v for v in values if isinstance(v, int | float) and v == v and abs(v) != float("inf")]
