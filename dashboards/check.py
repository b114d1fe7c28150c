"""Runs every panel's query of every dashboard as Grafana would; an error or an empty panel is a failure."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dashboards import build
from dashboards.clickhouse import DATABASE, TYPE
from dashboards.macros import MacroError, Range, expand

Run = Callable[[str], Sequence[Sequence[Any]]]


@dataclass(frozen=True, slots=True)
class Result:
    """One panel; `error` is empty when it has rows with a value."""

    dashboard: str
    panel: str
    rows: int
    ms: float
    error: str


def check(run: Run, minutes: float = 15.0) -> list[Result]:
    """`run` executes SQL and returns rows. Variables take what their own query gives: the first value, or all where many may be chosen."""
    newest = run(f"SELECT max(ts) FROM {DATABASE}.site_windows")[0][0]
    if newest is None or newest.year < 2000:
        return [Result("(store)", "", 0, 0.0, "no windows are stored: run a factory for a minute first")]
    newest = newest if newest.tzinfo else newest.replace(tzinfo=dt.UTC)
    over = Range(newest - dt.timedelta(minutes=minutes), newest + dt.timedelta(seconds=1))
    results: list[Result] = []
    if not build.load():
        return [Result("(tree)", "", 0, 0.0, "no dashboards are built: run `gigawatch dashboards build`")]
    for body in build.load().values():
        variables: dict[str, str | Sequence[str]] = {}
        for variable in body.get("templating", {}).get("list", []):
            try:
                values = [str(row[0]) for row in run(expand(variable["definition"], over, variables))]
            except Exception as err:  # noqa: BLE001 - whatever the store says is the result
                results.append(Result(body["title"], f"variable {variable['name']}", 0, 0.0, _first_line(err)))
                continue
            if not values:
                results.append(Result(body["title"], f"variable {variable['name']}", 0, 0.0, "no values"))
                continue
            variables[variable["name"]] = values if variable.get("multi") else values[0]
        results += [_panel(run, body["title"], panel, over, variables) for panel in _panels(body)]
    return results


def _panels(body: dict[str, Any]) -> list[dict[str, Any]]:
    """Panels of a dashboard, those inside rows too."""
    return [p for panel in body["panels"] for p in (panel.get("panels") or [panel]) if p.get("targets")]


def _panel(run: Run, dashboard: str, panel: dict[str, Any], over: Range, variables: dict[str, str | Sequence[str]]) -> Result:
    rows, began = 0, time.perf_counter()
    for target in panel["targets"]:
        if target["datasource"]["type"] != TYPE:
            return Result(dashboard, panel["title"], 0, 0.0, f"datasource {target['datasource']['type']} is not ours")
        try:
            found = run(expand(target["rawSql"], over, variables))
        except MacroError as err:
            return Result(dashboard, panel["title"], 0, 0.0, str(err))
        except Exception as err:  # noqa: BLE001 - whatever the store says is the result
            return Result(dashboard, panel["title"], 0, 0.0, _first_line(err))
        rows += sum(any(isinstance(cell, int | float) and cell == cell for cell in row) for row in found)
    ms = (time.perf_counter() - began) * 1000
    return Result(dashboard, panel["title"], rows, ms, "" if rows else "empty: no row has a value (if nothing is anomalous yet, inject a fault first)")


def _first_line(err: Exception) -> str:
    return (str(err).split("server response: ")[-1].split("\n")[0] or type(err).__name__)[:300]
