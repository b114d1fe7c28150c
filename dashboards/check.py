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
from schemas.tables import DATABASE

#: Ranges by name, in minutes: what one looks at, a shift, a week.
RANGES = {"5 min": 5.0, "6 h": 360.0, "7 d": 10080.0}
_POINTS = 300


@dataclass(frozen=True, slots=True)
class Answer:
    """Rows of one statement, what the store read for it, and how long it took, ms."""

    rows: Sequence[Sequence[Any]]
    read: int
    ms: float


Ask = Callable[[str], Answer]


@dataclass(frozen=True, slots=True)
class Result:
    """One panel at one range; `error` is empty when it has rows with a value, or may be empty."""

    dashboard: str
    panel: str
    over: str
    rows: int
    read: int
    ms: float
    error: str


def timed(run: Callable[[str], tuple[Sequence[Sequence[Any]], int]]) -> Ask:
    """Times `run`, which gives rows and the number of rows read."""

    def ask(sql: str) -> Answer:
        began = time.perf_counter()
        rows, read = run(sql)
        return Answer(rows, read, (time.perf_counter() - began) * 1000)

    return ask


def interval_s(minutes: float) -> int:
    """Grafana's interval for a range: as many points as a panel is wide, a second at least."""
    return max(1, round(minutes * 60 / _POINTS))


def check(ask: Ask, minutes: Sequence[float] = (15.0,), *, times: int = 1) -> list[Result]:
    """Every panel of every board at every range, the best of `times`. Variables take what they take when a board is
    opened. A panel that shows trouble
    (it has words of its own for none) may be empty."""
    newest = ask(f"SELECT max(ts) FROM {DATABASE}.site_windows").rows[0][0]
    if newest is None or newest.year < 2000:
        return [Result("(store)", "", "", 0, 0, 0.0, "no windows are stored: run a factory for a minute first")]
    newest = newest if newest.tzinfo else newest.replace(tzinfo=dt.UTC)
    boards = build.load()
    if not boards:
        return [Result("(tree)", "", "", 0, 0, 0.0, "no dashboards are built: run `gigawatch dashboards build`")]
    names = {v: k for k, v in RANGES.items()}
    results: list[Result] = []
    for length in minutes:
        over = Range(newest - dt.timedelta(minutes=length), newest + dt.timedelta(seconds=1), interval_s(length))
        for body in boards.values():
            results += _board(ask, body, over, names.get(length, f"{length:g} min"), times)
    return results


def _board(ask: Ask, body: model.Body, over: Range, name: str, times: int) -> list[Result]:
    def run(sql: str) -> Sequence[Sequence[Any]]:
        return ask(sql).rows

    try:
        chosen = model.variables(run, body, over, {})
    except Exception as err:  # noqa: BLE001 - whatever the store says is the result
        return [Result(body["title"], "variables", name, 0, 0, 0.0, first_line(err))]
    results = [
        Result(body["title"], f"variable {v.name}", name, 0, 0, 0.0, v.error or "no values")
        for v in chosen
        if v.error or not v.options
    ]
    values: model.Values = {v.name: v.value for v in chosen}
    return results + [_panel(ask, body["title"], panel, over, name, values, times) for panel in model.panels(body)]


def _panel(ask: Ask, board: str, panel: model.Body, over: Range, name: str, values: model.Values, times: int) -> Result:
    rows = read = 0
    ms = 0.0
    for target in panel["targets"]:
        if target["datasource"]["type"] != TYPE:
            return Result(
                board, panel["title"], name, 0, 0, 0.0, f"datasource {target['datasource']['type']} is not ours"
            )
        try:
            sql = expand(target["rawSql"], model.shown(panel, over), values)
            answer = min((ask(sql) for _ in range(times)), key=lambda a: a.ms)
        except MacroError as err:
            return Result(board, panel["title"], name, 0, 0, 0.0, str(err))
        except Exception as err:  # noqa: BLE001 - whatever the store says is the result
            return Result(board, panel["title"], name, 0, 0, 0.0, first_line(err))
        rows += sum(any(_shown(cell) for cell in row) for row in answer.rows)
        read, ms = read + answer.read, ms + answer.ms
    empty = not rows and panel["fieldConfig"]["defaults"].get("noValue") == NO_DATA
    return Result(board, panel["title"], name, rows, read, ms, "empty: no row has a value" if empty else "")


def _shown(cell: Any) -> bool:
    return isinstance(cell, str) or (isinstance(cell, int | float) and cell == cell)


def p95(results: Sequence[Result]) -> float:
    """The 95th percentile of the panels' milliseconds, nearest rank."""
    ordered = sorted(r.ms for r in results)
    return ordered[max(0, -(-len(ordered) * 95 // 100) - 1)] if ordered else 0.0


def first_line(err: Exception) -> str:
    """What ClickHouse says of an error, without the driver's wrapping."""
    return (str(err).split("server response: ")[-1].split("\n")[0] or type(err).__name__)[:300]
