"""Panels of numbers: stat, gauge, bars."""

from __future__ import annotations

from collections.abc import Mapping

from grafana_foundation_sdk.builders import bargauge as bars_builder
from grafana_foundation_sdk.builders import dashboard as dash
from grafana_foundation_sdk.builders import gauge as gauge_builder
from grafana_foundation_sdk.builders import stat as stat_builder
from grafana_foundation_sdk.models import common

from dashboards.datasource import TABLE
from dashboards.panels.base import begun, coloured, each_row, last_value
from dashboards.panels.style import GREEN, NO_DATA, Steps, steps


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
    panel = begun(
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
    panel.reduce_options(last_value().fields("/.*/") if text else last_value()).thresholds(steps(thresholds))
    if link:
        panel.data_links([dash.DashboardLink(title).url(link)])
    return coloured(panel, colours)


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
    panel = begun(
        gauge_builder.Panel(), title, sql, help_text, span, height, TABLE, unit, decimals=decimals, low=low, high=high
    )
    return panel.reduce_options(last_value()).thresholds(steps(thresholds)).show_threshold_markers(True)


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
    panel = begun(
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
        each_row()
    )
    return panel.thresholds(steps(thresholds))
