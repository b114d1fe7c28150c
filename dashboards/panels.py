"""Panels of one look: a number, a gauge, bars, lines, a heat map, states, a table.

Units come from the metric catalogue, limits from `schemas.limits`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from grafana_foundation_sdk.builders import bargauge as bars_builder
from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as dash
from grafana_foundation_sdk.builders import gauge as gauge_builder
from grafana_foundation_sdk.builders import heatmap as heat_builder
from grafana_foundation_sdk.builders import stat as stat_builder
from grafana_foundation_sdk.builders import statetimeline as states_builder
from grafana_foundation_sdk.builders import statushistory as history_builder
from grafana_foundation_sdk.builders import table as table_builder
from grafana_foundation_sdk.builders import timeseries as graph_builder
from grafana_foundation_sdk.models import common, dashboard, heatmap

from dashboards.datasource import TABLE, TIME_SERIES, Query, source
from schemas import thresholds
from schemas.catalogue import KINDS

#: The catalogue's units as Grafana names them.
UNITS = {
    "W": "watt",
    "J": "joule",
    "C": "celsius",
    "%": "percent",
    "ratio": "percentunit",
    "MHz": "rotmhz",
    "MiB": "mbytes",
    "L/min": "flowlpm",
    "kPa": "pressurekpa",
    "V": "volt",
    "A": "amp",
    "Hz": "hertz",
    "B/s": "Bps",
    "MB/s": "MBs",
    "count": "none",
    "code": "none",
    "bits": "none",
    "state": "none",
}
NO_DATA = "nothing stored in this time range"
#: What a panel that shows trouble says when there is none.
WELL = "none"
Step = tuple[str, float | None]
Steps = Sequence[Step]
GREEN: Steps = (("green", None),)
#: From well to bad as a value grows, such as scores.
SCORES: Steps = (("green", None), ("yellow", thresholds.SCORE_NOTICE), ("red", thresholds.SCORE_BAD))
LOADS: Steps = (("green", None), ("yellow", thresholds.LOAD_HIGH), ("red", thresholds.LOAD_TOO_HIGH))
BALANCE: Steps = (
    ("red", None),
    ("green", thresholds.HEAT_BALANCE - thresholds.HEAT_BALANCE_OFF),
    ("red", thresholds.HEAT_BALANCE + thresholds.HEAT_BALANCE_OFF),
)
MARGINS: Steps = (("red", None), ("yellow", thresholds.MARGIN_CAUTION_C), ("green", thresholds.MARGIN_LOW_C))
HBM: Steps = (("green", None), ("yellow", thresholds.HBM_WARM_C), ("red", thresholds.HBM_CRITICAL_C))
FLOWS: Steps = (("red", None), ("yellow", thresholds.LPM_PER_KW_LEAST), ("green", thresholds.LPM_PER_KW_DESIGN))
RISES: Steps = (("green", None), ("yellow", thresholds.DELTA_T_HIGH_K), ("red", thresholds.DELTA_T_TOO_HIGH_K))
PUES: Steps = (("green", None), ("yellow", thresholds.PUE_HIGH), ("red", thresholds.PUE_TOO_HIGH))
ANY: Steps = (("green", None), ("red", 1))
#: Words that states take, with their colours.
STATES = {
    "none": "green",
    "ok": "green",
    "idle": "blue",
    "power cap": "yellow",
    "thermal limit": "orange",
    "hardware slow-down": "red",
    "leak": "red",
    "sensor fault": "orange",
    "isolated": "purple",
    "open": "red",
    "closed": "green",
}

Panel = TypeVar(
    "Panel",
    stat_builder.Panel,
    gauge_builder.Panel,
    bars_builder.Panel,
    graph_builder.Panel,
    heat_builder.Panel,
    history_builder.Panel,
    states_builder.Panel,
    table_builder.Panel,
)


def unit(kind: str, metric: str) -> str:
    """Grafana's unit for a metric of the catalogue."""
    return UNITS[KINDS[kind][metric].unit]


def steps(pairs: Steps) -> dash.ThresholdsConfig:
    """Thresholds as (colour, from which value); the first value is None."""
    return (
        dash.ThresholdsConfig()
        .mode(dashboard.ThresholdsMode.ABSOLUTE)
        .steps([dashboard.Threshold(value=v, color=c) for c, v in pairs])
    )


def _begin(
    panel: Panel,
    title: str,
    sql: str,
    help_text: str,
    span: int,
    height: int,
    form: int,
    unit: str = "",
    links: Mapping[str, str] | None = None,
    decimals: float | None = None,
    low: float | None = None,
    high: float | None = None,
    empty: str = NO_DATA,
    last: str = "",
) -> Panel:
    """What every panel has. `links` by column: an address that may use `${__value.text}` and `${__data.fields.NAME}`;
    `empty`: what it says without
    rows; `last`: the part of the range that it shows, such as 5m."""
    panel.title(title).description(help_text).datasource(source()).with_target(Query(sql, form)).span(span).height(
        height
    ).no_value(empty)
    if last:
        panel.time_from(last)
    if unit:
        panel.unit(unit)
    for set_it, value in ((panel.decimals, decimals), (panel.min, low), (panel.max, high)):
        if value is not None:
            set_it(value)
    for column, url in (links or {}).items():
        panel.override_by_name(column, [_property("links", [{"title": f"Open {column}", "url": url}])])
    return panel


def _property(name: str, value: Any) -> dashboard.DynamicConfigValue:
    return dashboard.DynamicConfigValue(id_val=name, value=value)


def _colours(panel: Panel, colours: Mapping[str, str] | None) -> Panel:
    for name, colour in (colours or {}).items():
        panel.override_by_name(name, [_property("color", {"mode": "fixed", "fixedColor": colour})])
    return panel


def _last() -> common_builders.ReduceDataOptions:
    return common_builders.ReduceDataOptions().calcs(["lastNotNull"]).fields("").values(False)


def _each_row() -> common_builders.ReduceDataOptions:
    return common_builders.ReduceDataOptions().calcs(["lastNotNull"]).fields("").values(True)


def stat(
    title: str,
    sql: str,
    unit: str,
    help_text: str,
    thresholds: Steps = GREEN,
    *,
    span: int = 3,
    height: int = 4,
    decimals: float | None = None,
    colours: Mapping[str, str] | None = None,
    text: bool = False,
    link: str = "",
    empty: str = NO_DATA,
    last: str = "",
) -> stat_builder.Panel:
    """A number, or one for each column of the query's only row; `text`: words instead."""
    panel = _begin(
        stat_builder.Panel(),
        title,
        sql,
        help_text,
        span,
        height,
        TABLE,
        unit,
        decimals=decimals,
        empty=empty,
        last=last,
    )
    panel.graph_mode(common.BigValueGraphMode.NONE).color_mode(
        common.BigValueColorMode.NONE if text else common.BigValueColorMode.VALUE
    )
    panel.reduce_options(_last().fields("/.*/") if text else _last()).thresholds(steps(thresholds))
    if link:
        panel.data_links([dash.DashboardLink(title).url(link)])
    return _colours(panel, colours)


def gauge(
    title: str,
    sql: str,
    unit: str,
    help_text: str,
    thresholds: Steps = GREEN,
    *,
    span: int = 3,
    height: int = 4,
    low: float = 0,
    high: float = 1,
    decimals: float | None = None,
) -> gauge_builder.Panel:
    """One number between its bounds."""
    panel = _begin(
        gauge_builder.Panel(), title, sql, help_text, span, height, TABLE, unit, decimals=decimals, low=low, high=high
    )
    return panel.reduce_options(_last()).thresholds(steps(thresholds)).show_threshold_markers(True)


def bars(
    title: str,
    sql: str,
    unit: str,
    help_text: str,
    thresholds: Steps = GREEN,
    *,
    span: int = 8,
    height: int = 8,
    low: float | None = 0,
    high: float | None = None,
    decimals: float | None = None,
    empty: str = NO_DATA,
    last: str = "",
) -> bars_builder.Panel:
    """A bar for each row: a name, then a number."""
    panel = _begin(
        bars_builder.Panel(),
        title,
        sql,
        help_text,
        span,
        height,
        TABLE,
        unit,
        decimals=decimals,
        low=low,
        high=high,
        empty=empty,
        last=last,
    )
    panel.orientation(common.VizOrientation.HORIZONTAL).display_mode(common.BarGaugeDisplayMode.BASIC).reduce_options(
        _each_row()
    )
    return panel.thresholds(steps(thresholds))


def graph(
    title: str,
    sql: str,
    unit: str,
    help_text: str,
    *,
    span: int = 12,
    height: int = 8,
    low: float | None = None,
    high: float | None = None,
    thresholds: Steps | None = None,
    colours: Mapping[str, str] | None = None,
    band: tuple[str, str] | None = None,
    units: Mapping[str, str] | None = None,
    empty: str = NO_DATA,
    last: str = "",
) -> graph_builder.Panel:
    """Lines over time: columns `time`, one label, then values. `thresholds` are drawn as lines; `band` fills between
    two series; `units` of
    series that have another go on the right."""
    panel = _begin(
        graph_builder.Panel(),
        title,
        sql,
        help_text,
        span,
        height,
        TIME_SERIES,
        unit,
        low=low,
        high=high,
        empty=empty,
        last=last,
    )
    panel.line_width(1.5).fill_opacity(6).show_points(common.VisibilityMode.NEVER).span_nulls(False)
    panel.legend(
        common_builders.VizLegendOptions()
        .display_mode(common.LegendDisplayMode.LIST)
        .placement(common.LegendPlacement.BOTTOM)
        .show_legend(True)
    )
    panel.tooltip(
        common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING)
    )
    if thresholds:
        panel.thresholds(steps(thresholds)).thresholds_style(
            common_builders.GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.DASHED)
        )
    for name, other in (units or {}).items():
        panel.override_by_name(name, [_property("unit", other), _property("custom.axisPlacement", "right")])
    if band:
        lower, upper = band
        panel.override_by_name(lower, [_property("custom.lineWidth", 0), _property("custom.fillOpacity", 0)])
        panel.override_by_name(
            upper,
            [
                _property("custom.lineWidth", 0),
                _property("custom.fillBelowTo", lower),
                _property("custom.fillOpacity", 18),
            ],
        )
    return _colours(panel, colours)


def heat(
    title: str,
    sql: str,
    unit: str,
    help_text: str,
    *,
    span: int = 12,
    height: int = 10,
    low: float | None = None,
    high: float | None = None,
    thresholds: Steps | None = None,
    link: str = "",
    more_is_good: bool = False,
) -> history_builder.Panel:
    """A cell for each device and moment, coloured by its value: columns `time`, a label, a value."""
    panel = _begin(history_builder.Panel(), title, sql, help_text, span, height, TIME_SERIES, unit, low=low, high=high)
    scheme = (
        dashboard.FieldColorModeId.CONTINUOUS_GREENS if more_is_good else dashboard.FieldColorModeId.CONTINUOUS_BL_YL_RD
    )
    panel.color_scheme(dash.FieldColor().mode(dashboard.FieldColorModeId.THRESHOLDS if thresholds else scheme))
    panel.show_value(common.VisibilityMode.NEVER).row_height(0.94).thresholds(steps(thresholds or GREEN))
    panel.legend(
        common_builders.VizLegendOptions()
        .display_mode(common.LegendDisplayMode.LIST)
        .placement(common.LegendPlacement.BOTTOM)
        .show_legend(False)
    )
    return panel.data_links([dash.DashboardLink("Open").url(link)]) if link else panel


def spread(title: str, sql: str, unit: str, help_text: str, *, span: int = 12, height: int = 8) -> heat_builder.Panel:
    """How many devices are in which bucket of a value over time: columns `time`, the bucket's lower end, the count."""
    panel = _begin(heat_builder.Panel(), title, sql, help_text, span, height, TIME_SERIES)
    panel.calculate(False).y_axis(heat_builder.YAxisConfig().unit(unit))
    return panel.color(
        heat_builder.HeatmapColorOptions().mode(heatmap.HeatmapColorMode.SCHEME).scheme("Viridis").steps(64)
    )


def states(
    title: str, sql: str, help_text: str, *, span: int = 12, height: int = 8, link: str = "", empty: str = NO_DATA
) -> states_builder.Panel:
    """What state each device was in over time: columns `time`, a label, a word of STATES."""
    panel = _begin(states_builder.Panel(), title, sql, help_text, span, height, TIME_SERIES, empty=empty)
    panel.mappings(
        [
            dashboard.ValueMap(
                options={
                    word: dashboard.ValueMappingResult(color=colour, index=n)
                    for n, (word, colour) in enumerate(STATES.items())
                }
            )
        ]
    )
    panel.merge_values(True).show_value(common.VisibilityMode.NEVER).row_height(0.9)
    return panel.data_links([dash.DashboardLink("Open").url(link)]) if link else panel


def table(
    title: str,
    sql: str,
    help_text: str,
    *,
    span: int = 12,
    height: int = 9,
    units: Mapping[str, str] | None = None,
    links: Mapping[str, str] | None = None,
    colours: Mapping[str, Steps] | None = None,
    hidden: Sequence[str] = (),
    decimals: Mapping[str, int] | None = None,
    empty: str = NO_DATA,
) -> table_builder.Panel:
    """Rows; by column: `units`, `links`, `colours` (thresholds of its text), `decimals`; `hidden` columns are there
    for links alone.
    """
    panel = _begin(table_builder.Panel(), title, sql, help_text, span, height, TABLE, links=links, empty=empty)
    for column, unit in (units or {}).items():
        panel.override_by_name(column, [_property("unit", unit)])
    for column, digits in (decimals or {}).items():
        panel.override_by_name(column, [_property("decimals", digits)])
    for column in hidden:
        panel.override_by_name(column, [_property("custom.hidden", True)])
    for column, levels in (colours or {}).items():
        panel.override_by_name(
            column,
            [
                _property("thresholds", {"mode": "absolute", "steps": [{"color": c, "value": v} for c, v in levels]}),
                _property("custom.cellOptions", {"type": "color-text"}),
                _property("decimals", (decimals or {}).get(column, 2)),
            ],
        )
    return panel
