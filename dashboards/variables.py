"""The variables of boards: site, row, rack, GPU, model, job; fixed choices; and hidden ones that choose a tier."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as dash
from grafana_foundation_sdk.models.dashboard import VariableHide, VariableOption, VariableRefresh, VariableSort

from dashboards.datasource import source
from dashboards.holds import ALLOCATIONS, holds
from dashboards.sql import GPU_10S, NOW, RACK, RACK_WINDOWS, ROLLED, ROW, SITE, SITE_WINDOWS, TIER, WINDOW


def variable(name: str, label: str, statement: str, *, multi: bool = False, hidden: bool = False) -> dash.QueryVariable:
    """A drop-down filled by SQL, which is run again when the time range changes; a `hidden` one is computed and not
    shown.
    """
    made = (
        dash.QueryVariable(name)
        .label(label)
        .query({"rawSql": statement, "query": statement, "refId": name})
        .datasource(source())
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.DISABLED if hidden else VariableSort.ALPHABETICAL_ASC)
    )
    if hidden:
        made = made.hide(VariableHide.HIDE_VARIABLE)
    return (
        made.multi(True).include_all(True).current(VariableOption(selected=True, text="All", value="$__all"))
        if multi
        else made
    )


def choice(name: str, label: str, options: dict[str, str]) -> dash.CustomVariable:
    """A drop-down with fixed values: label -> value; the first is chosen."""
    first = next(iter(options))
    made = (
        dash.CustomVariable(name).label(label).values(", ".join(f"{text} : {value}" for text, value in options.items()))
    )
    return made.current(VariableOption(selected=True, text=first, value=options[first])).options(
        [VariableOption(selected=text == first, text=text, value=value) for text, value in options.items()]
    )


def site(multi: bool = True) -> dash.QueryVariable:
    return variable(
        "site",
        "Site",
        f"SELECT DISTINCT site FROM {SITE_WINDOWS} WHERE $__timeFilter(ts) AND window_s = 60 ORDER BY site",
        multi=multi,
    )


def row() -> dash.QueryVariable:
    return variable(
        "row",
        "Row",
        f"SELECT DISTINCT {ROW} AS row FROM {RACK_WINDOWS} WHERE {NOW} AND window_s = 60 AND {SITE} ORDER BY row",
        multi=True,
    )


def rack() -> dash.QueryVariable:
    return variable(
        "rack",
        "Rack",
        f"SELECT DISTINCT rack FROM {RACK_WINDOWS} WHERE {NOW} AND window_s = 60 AND {SITE} ORDER BY rack",
    )


def gpu() -> dash.QueryVariable:
    return variable("gpu", "GPU", f"SELECT DISTINCT device FROM {GPU_10S} WHERE {NOW} AND {RACK} ORDER BY device")


def model() -> dash.QueryVariable:
    return variable(
        "model",
        "GPU model",
        f"SELECT DISTINCT model FROM {RACK_WINDOWS} WHERE {NOW} AND window_s = 60 AND {SITE} ORDER BY model",
        multi=True,
    )


def job() -> dash.QueryVariable:
    """The jobs that held GPUs in the range."""
    return variable(
        "job",
        "Job",
        f"SELECT DISTINCT job FROM {ALLOCATIONS} FINAL WHERE {holds('$__fromTime')} ORDER BY job",
        multi=True,
    )


IN_MODEL = "$__conditionalAll(model IN (${model:singlequote}), $model)"
IN_JOB = "$__conditionalAll(job IN (${job:singlequote}), $job)"


def tiers(*names: str) -> tuple[dash.QueryVariable, ...]:
    """The hidden variables that choose a tier by the time range: `tier`, `rolled`, `window`."""
    statements = {"tier": TIER, "rolled": ROLLED, "window": WINDOW}
    return tuple(variable(name, name, statements[name], hidden=True) for name in names)
