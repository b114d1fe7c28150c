"""Panels of one look: a stat, a graph, a table. Units come from the metric catalogue."""

from __future__ import annotations

from collections.abc import Sequence

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as dash
from grafana_foundation_sdk.builders import stat as stat_builder
from grafana_foundation_sdk.builders import table as table_builder
from grafana_foundation_sdk.builders import timeseries as graph_builder
from grafana_foundation_sdk.models import common, dashboard

from dashboards.clickhouse import TABLE, TIME_SERIES, Query, source
from schemas.catalogue import KINDS

#: The catalogue's units as Grafana names them.
UNITS = {"W": "watt", "J": "joule", "C": "celsius", "%": "percent", "ratio": "percentunit", "MHz": "rotmhz", "MiB": "mbytes", "L/min": "flowlpm",
         "kPa": "pressurekpa", "V": "volt", "A": "amp", "Hz": "hertz", "B/s": "Bps", "count": "none"}



def unit(kind: str, metric: str) -> str:
    """Grafana's unit for a metric of the catalogue."""
    return UNITS[KINDS[kind][metric].unit]


NO_DATA = "nothing stored in this time range"


def steps(*pairs: tuple[str, float | None]) -> dash.ThresholdsConfig:
    """Thresholds as (colour, from which value); the first value is None."""
    return dash.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps([dashboard.Threshold(value=v, color=c) for c, v in pairs])


def stat(title: str, sql: str, unit: str, help_text: str, thresholds: dash.ThresholdsConfig | None = None, *, span: int = 4,
         decimals: float | None = None) -> stat_builder.Panel:
    """One number: the last value of the query's last column."""
    panel = (stat_builder.Panel().title(title).description(help_text).datasource(source()).with_target(Query(sql, TABLE)).unit(unit).span(span).height(4)
             .no_value(NO_DATA).graph_mode(common.BigValueGraphMode.NONE).color_mode(common.BigValueColorMode.VALUE)
             .reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]).fields("").values(False)))
    if decimals is not None:
        panel = panel.decimals(decimals)
    return panel.thresholds(thresholds or steps(("green", None)))


def graph(title: str, sql: str, unit: str, help_text: str, *, span: int = 12, height: int = 8, low: float | None = None,
          high: float | None = None) -> graph_builder.Panel:
    """Lines over time: columns `time`, one label, then values."""
    panel = (graph_builder.Panel().title(title).description(help_text).datasource(source()).with_target(Query(sql, TIME_SERIES)).unit(unit).span(span)
             .height(height).no_value(NO_DATA).line_width(1.5).fill_opacity(6).show_points(common.VisibilityMode.NEVER)
             .span_nulls(False)
             .legend(common_builders.VizLegendOptions().display_mode(common.LegendDisplayMode.LIST).placement(common.LegendPlacement.BOTTOM).show_legend(True))
             .tooltip(common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING)))
    if low is not None:
        panel = panel.min(low)
    return panel.max(high) if high is not None else panel


def table(title: str, sql: str, help_text: str, *, span: int = 12, height: int = 9, units: dict[str, str] | None = None,
          links: dict[str, str] | None = None, scores: Sequence[str] = ()) -> table_builder.Panel:
    """Rows; `units` and `links` by column (a link may use ${__value.text}); `scores` are columns from 0 to 1, coloured."""
    panel = (table_builder.Panel().title(title).description(help_text).datasource(source()).with_target(Query(sql, TABLE)).span(span).height(height)
             .no_value(NO_DATA))
    for column, unit in (units or {}).items():
        panel = panel.override_by_name(column, [dashboard.DynamicConfigValue(id_val="unit", value=unit)])
    for column, url in (links or {}).items():
        link = [{"title": f"{column} ${{__value.text}}", "url": url}]
        panel = panel.override_by_name(column, [dashboard.DynamicConfigValue(id_val="links", value=link)])
    for column in scores:
        levels = {"mode": "absolute", "steps": [{"color": "text", "value": None}, {"color": "yellow", "value": 0.3}, {"color": "red", "value": 0.6}]}
        panel = panel.override_by_name(column, [dashboard.DynamicConfigValue(id_val="thresholds", value=levels),
                                                dashboard.DynamicConfigValue(id_val="custom.cellOptions", value={"type": "color-text"}),
                                                dashboard.DynamicConfigValue(id_val="decimals", value=2)])
    return panel


def variable(name: str, label: str, sql: str, multi: bool = False) -> dash.QueryVariable:
    """A drop-down filled by SQL, refreshed with the time range."""
    made = (dash.QueryVariable(name).label(label).query({"rawSql": sql, "query": sql, "refId": name}).datasource(source())
            .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(dashboard.VariableSort.ALPHABETICAL_ASC))
    return made.multi(True).include_all(True) if multi else made
