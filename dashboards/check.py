"""Runs every panel's query of every board as Grafana would, at a short, a middle and a long range; an error, an empty
panel or a slow one fails.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dashboards import build, model
from dashboards.datasource import TYPE
from dashboards.macros import MacroError, Range, expand
from dashboards.panels import NO_DATA
from schemas.errors import first_line
from schemas.tables import DATABASE

#: Ranges by name, in minutes: the present, a shift, a week.
RANGES = {"5 min": 5.0, "6 h": 360.0, "7 d": 10080.0}
_POINTS = 300


@dataclass(frozen=True, slots=True)
class TimedRows:
    """Rows of one statement, what the store read for it, and how long it took, ms."""

    rows: Sequence[Sequence[Any]]
    read: int
    ms: float


Ask = Callable[[str], TimedRows]


@dataclass(frozen=True, slots=True)
class PanelCheck:
    """One panel at one range; `error` is empty when it has rows with a value, or may be empty."""

    dashboard: str
    panel: str
    over: str
    rows: int
    read: int
    ms: float
    error: str


def timed(run: Callable[[str], tuple[Sequence[Sequence[Any]], int]]) -> Ask:
    """Returns `run`, timed; it returns rows and the number of rows read."""

    def ask(sql: str) -> TimedRows:
        began = time.perf_counter()
        rows, read = run(sql)
        return TimedRows(rows, read, (time.perf_counter() - began) * 1000)

    return ask


def interval_s(minutes: float) -> int:
    """Grafana's interval for a range: as many points as a panel is wide, a second at least."""
    return max(1, round(minutes * 60 / _POINTS))


def check(ask: Ask, minutes: Sequence[float] = (15.0,), *, times: int = 1) -> list[PanelCheck]:
    """Checks every panel of every board at every range, the fastest of `times` runs. Variables have the values with
    which a board opens. A panel of faults (one with a text of its own for no rows) may be empty.
    """
    newest = ask(f"SELECT max(ts) FROM {DATABASE}.site_windows").rows[0][0]
    if newest is None or newest.year < 2000:
        return [PanelCheck("(store)", "", "", 0, 0, 0.0, "no windows are stored: run a factory for a minute first")]
    newest = newest if newest.tzinfo else newest.replace(tzinfo=dt.UTC)
    boards = build.load()
    if not boards:
        return [PanelCheck("(tree)", "", "", 0, 0, 0.0, "no dashboards are built: run `gigawatch dashboards build`")]
    names = {v: k for k, v in RANGES.items()}
    results: list[PanelCheck] = []
    for length in minutes:
        over = Range(newest - dt.timedelta(minutes=length), newest + dt.timedelta(seconds=1), interval_s(length))
        for body in boards.values():
            results += _board(ask, body, over, names.get(length, f"{length:g} min"), times)
    return results


def _board(ask: Ask, body: model.Body, over: Range, name: str, times: int) -> list[PanelCheck]:
    def run(sql: str) -> Sequence[Sequence[Any]]:
        return ask(sql).rows

    try:
        chosen = model.variables(run, body, over, {})
    except Exception as err:  # noqa: BLE001 - any error of the store is the result
        return [PanelCheck(body["title"], "variables", name, 0, 0, 0.0, first_line(err))]
    results = [
        PanelCheck(body["title"], f"variable {v.name}", name, 0, 0, 0.0, v.error or "no values")
        for v in chosen
        if v.error or not v.options
    ]
    values: model.Values = {v.name: v.value for v in chosen}
    return results + [_panel(ask, body["title"], panel, over, name, values, times) for panel in model.panels(body)]


def _panel(
    ask: Ask, board: str, panel: model.Body, over: Range, name: str, values: model.Values, times: int
) -> PanelCheck:
    rows = read = 0
    ms = 0.0
    for target in panel["targets"]:
        if target["datasource"]["type"] != TYPE:
            return PanelCheck(
                board, panel["title"], name, 0, 0, 0.0, f"datasource {target['datasource']['type']} is not Gigawatch's"
            )
        try:
            sql = expand(target["rawSql"], model.shown(panel, over), values)
            answer = min((ask(sql) for _ in range(times)), key=lambda a: a.ms)
        except MacroError as err:
            return PanelCheck(board, panel["title"], name, 0, 0, 0.0, str(err))
        except Exception as err:  # noqa: BLE001 - any error of the store is the result
            return PanelCheck(board, panel["title"], name, 0, 0, 0.0, first_line(err))
        rows += sum(any(_shown(cell) for cell in row) for row in answer.rows)
        read, ms = read + answer.read, ms + answer.ms
    empty = not rows and panel["fieldConfig"]["defaults"].get("noValue") == NO_DATA
    return PanelCheck(board, panel["title"], name, rows, read, ms, "empty: no row has a value" if empty else "")


def _shown(cell: Any) -> bool:
    return isinstance(cell, str) or (isinstance(cell, int | float) and cell == cell)


def p95(results: Sequence[PanelCheck]) -> float:
    """The 95th percentile of the panels' milliseconds, nearest rank."""
    ordered = sorted(r.ms for r in results)
    return ordered[max(0, -(-len(ordered) * 95 // 100) - 1)] if ordered else 0.0
