"""Panels of boards, all of one look: numbers, gauges, bars, lines, heat maps, states, tables."""

from __future__ import annotations

from dashboards.panels.numbers import bars, gauge, stat
from dashboards.panels.series import graph, heat, spread, states
from dashboards.panels.style import (
    ANY,
    BALANCE,
    FLOWS,
    GREEN,
    HBM,
    LOADS,
    MARGINS,
    NO_DATA,
    NO_FAULT,
    PUES,
    RISES,
    SCORES,
    STATES,
    UNITS,
    Steps,
    unit,
)
from dashboards.panels.table import table

__all__ = [
    "ANY",
    "BALANCE",
    "FLOWS",
    "GREEN",
    "HBM",
    "LOADS",
    "MARGINS",
    "NO_DATA",
    "NO_FAULT",
    "PUES",
    "RISES",
    "SCORES",
    "STATES",
    "UNITS",
    "Steps",
    "bars",
    "gauge",
    "graph",
    "heat",
    "spread",
    "stat",
    "states",
    "table",
    "unit",
]
