"""What every board has: its time range, variables, the links to the others, and what is drawn into all graphs."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as dash
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    VariableHide,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from dashboards import sql
from dashboards.datasource import TABLE, Query, source
from schemas.tables import DATABASE as DB

TAG = "gigawatch"
#: Where things lead: the selection and the time range travel along.
TO_RACK = "/d/gigawatch-rack/rack?var-site=${__data.fields.site}&var-rack=${__data.fields.rack}&${__url_time_range}"
TO_GPU = (
    "/d/gigawatch-gpu/gpu?var-site=${__data.fields.site}&var-rack=${__data.fields.rack}"
    "&var-gpu=${__data.fields.device}&${__url_time_range}"
)
TO_JOB = "/d/gigawatch-jobs/jobs?var-job=${__data.fields.job}&${__url_time_range}"
TO_INCIDENTS = "/d/gigawatch-incidents/incidents?${__url_time_range}"
#: A graph's series is named by its device or rack.
SERIES_TO_RACK = "/d/gigawatch-rack/rack?var-rack=${__field.labels.rack}&${__url_time_range}"
SERIES_TO_GPU = (
    "/d/gigawatch-gpu/gpu?${site:queryparam}&${rack:queryparam}&var-gpu=${__field.labels.device}&${__url_time_range}"
)


def uid(name: str) -> str:
    return f"{TAG}-{name}"


def variable(name: str, label: str, statement: str, *, multi: bool = False, hidden: bool = False) -> dash.QueryVariable:
    """A drop-down filled by SQL, asked again when the time range changes; a `hidden` one is computed and not shown."""
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
        f"SELECT DISTINCT site FROM {DB}.site_windows WHERE $__timeFilter(ts) AND window_s = 60 ORDER BY site",
        multi=multi,
    )


def row() -> dash.QueryVariable:
    return variable(
        "row",
        "Row",
        f"SELECT DISTINCT {sql.ROW} AS row FROM {DB}.rack_windows WHERE {sql.NOW} AND window_s = 60 AND "
        f"{sql.SITE} ORDER BY row",
        multi=True,
    )


def rack() -> dash.QueryVariable:
    return variable(
        "rack",
        "Rack",
        f"SELECT DISTINCT rack FROM {DB}.rack_windows WHERE {sql.NOW} AND window_s = 60 AND {sql.SITE} ORDER BY rack",
    )


def gpu() -> dash.QueryVariable:
    return variable(
        "gpu", "GPU", f"SELECT DISTINCT device FROM {DB}.gpu_10s WHERE {sql.NOW} AND {sql.RACK} ORDER BY device"
    )


def model() -> dash.QueryVariable:
    return variable(
        "model",
        "GPU model",
        f"SELECT DISTINCT model FROM {DB}.rack_windows WHERE {sql.NOW} AND window_s = 60 AND {sql.SITE} ORDER BY model",
        multi=True,
    )


def job() -> dash.QueryVariable:
    return variable(
        "job",
        "Job",
        f"SELECT DISTINCT arrayJoin(job) AS name FROM {DB}.identities FINAL WHERE {sql.SITE} AND name != '' AND who IN "
        f"(SELECT who FROM {DB}.gpu_10s_frames WHERE {sql.NOW} AND {sql.SITE}) ORDER BY name",
        multi=True,
    )


IN_MODEL = "$__conditionalAll(model IN (${model:singlequote}), $model)"
IN_JOB = "$__conditionalAll(job IN (${job:singlequote}), $job)"


def _incidents(where: str) -> dash.AnnotationQuery:
    """Incidents as spans; an open one lasts until the end of the range."""
    statement = (
        "SELECT opened AS time, if(open = 1, $__toTime, closed) AS timeEnd, concat(device, ': ', cause) AS "
        "text, kind AS tags "
        f"FROM {DB}.incidents FINAL WHERE {where} AND opened <= $__toTime AND (open = 1 OR closed >= "
        "$__fromTime) ORDER BY time LIMIT 100"
    )
    return _annotation("Incidents", "orange", statement)


def _xids(where: str) -> dash.AnnotationQuery:
    """The first ten seconds of a new XID: the driver's gauge never clears."""
    statement = (
        "SELECT min(ts) AS time, concat(device, ': XID ', toString(toUInt32(xid_max))) AS text, 'XID' AS tags "
        f"FROM {DB}.gpu_10s "
        f"WHERE $__timeFilter(ts) AND {where} AND xid_max > 0 GROUP BY device, xid_max ORDER BY time LIMIT 100"
    )
    return _annotation("XID", "red", statement)


def _annotation(name: str, colour: str, statement: str) -> dash.AnnotationQuery:
    return (
        dash.AnnotationQuery()
        .name(name)
        .datasource(source())
        .enable(True)
        .icon_color(colour)
        .target(Query(statement, TABLE, "Anno"))  # type: ignore[arg-type]
    )


def begin(
    name: str, title: str, help_text: str, *, incidents: str = "", xids: str = "", since: str = "now-30m"
) -> dash.Dashboard:
    """An empty board; `incidents` and `xids` say of what they are drawn into its graphs."""
    board = (
        dash.Dashboard(f"Gigawatch: {title}")
        .uid(uid(name))
        .tags([TAG])
        .description(help_text)
        .editable()
        .time(since, "now")
        .refresh("10s")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .link(
            dash.DashboardLink("Boards")
            .type(DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .as_dropdown(True)
            .keep_time(True)
            .include_vars(True)
        )
    )
    for query in ([_incidents(incidents)] if incidents else []) + ([_xids(xids)] if xids else []):
        board = board.annotation(query)
    return board


def tiers(board: dash.Dashboard, *names: str) -> dash.Dashboard:
    """The hidden variables that choose a tier by the range: `tier`, `rolled`, `window`."""
    for name in names:
        board = board.with_variable(
            variable(name, name, {"tier": sql.TIER, "rolled": sql.ROLLED, "window": sql.WINDOW}[name], hidden=True)
        )
    return board
