"""What every panel has: title, query, size, unit, bounds, links."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from grafana_foundation_sdk.builders import bargauge as bars_builder
from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import gauge as gauge_builder
from grafana_foundation_sdk.builders import heatmap as heat_builder
from grafana_foundation_sdk.builders import stat as stat_builder
from grafana_foundation_sdk.builders import statetimeline as states_builder
from grafana_foundation_sdk.builders import statushistory as history_builder
from grafana_foundation_sdk.builders import table as table_builder
from grafana_foundation_sdk.builders import timeseries as graph_builder
from grafana_foundation_sdk.models import dashboard

from dashboards.datasource import Query, source
from dashboards.panels.style import NO_DATA

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


def begun(
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
    """Sets what every panel has. `links`, by column: addresses that may use `${__value.text}` and
    `${__data.fields.NAME}`; `empty`: what it shows without rows; `last`: the part of the range that it shows (5m).
    """
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
        panel.override_by_name(column, [field_property("links", [{"title": f"Open {column}", "url": url}])])
    return panel


def field_property(name: str, value: Any) -> dashboard.DynamicConfigValue:
    return dashboard.DynamicConfigValue(id_val=name, value=value)


def coloured(panel: Panel, colours: Mapping[str, str] | None) -> Panel:
    for name, colour in (colours or {}).items():
        panel.override_by_name(name, [field_property("color", {"mode": "fixed", "fixedColor": colour})])
    return panel


def last_value() -> common_builders.ReduceDataOptions:
    return common_builders.ReduceDataOptions().calcs(["lastNotNull"]).fields("").values(False)


def each_row() -> common_builders.ReduceDataOptions:
    return common_builders.ReduceDataOptions().calcs(["lastNotNull"]).fields("").values(True)
