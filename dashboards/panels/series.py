"""Panels over time: lines, heat maps, states."""

from __future__ import annotations

from collections.abc import Mapping

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as dash
from grafana_foundation_sdk.builders import heatmap as heat_builder
from grafana_foundation_sdk.builders import statetimeline as states_builder
from grafana_foundation_sdk.builders import statushistory as history_builder
from grafana_foundation_sdk.builders import timeseries as graph_builder
from grafana_foundation_sdk.models import common, dashboard, heatmap

from dashboards.datasource import TIME_SERIES
from dashboards.panels.base import begun, coloured, field_property
from dashboards.panels.style import GREEN, NO_DATA, STATES, Steps, steps


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
    panel = begun(
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
        panel.override_by_name(name, [field_property("unit", other), field_property("custom.axisPlacement", "right")])
    if band:
        lower, upper = band
        panel.override_by_name(lower, [field_property("custom.lineWidth", 0), field_property("custom.fillOpacity", 0)])
        panel.override_by_name(
            upper,
            [
                field_property("custom.lineWidth", 0),
                field_property("custom.fillBelowTo", lower),
                field_property("custom.fillOpacity", 18),
            ],
        )
    return coloured(panel, colours)


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
    panel = begun(history_builder.Panel(), title, sql, help_text, span, height, TIME_SERIES, unit, low=low, high=high)
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
    panel = begun(heat_builder.Panel(), title, sql, help_text, span, height, TIME_SERIES)
    panel.calculate(False).y_axis(heat_builder.YAxisConfig().unit(unit))
    return panel.color(
        heat_builder.HeatmapColorOptions().mode(heatmap.HeatmapColorMode.SCHEME).scheme("Viridis").steps(64)
    )


def states(
    title: str, sql: str, help_text: str, *, span: int = 12, height: int = 8, link: str = "", empty: str = NO_DATA
) -> states_builder.Panel:
    """What state each device was in over time: columns `time`, a label, a word of STATES."""
    panel = begun(states_builder.Panel(), title, sql, help_text, span, height, TIME_SERIES, empty=empty)
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
