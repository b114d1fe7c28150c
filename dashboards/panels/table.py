"""Panels of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from grafana_foundation_sdk.builders import table as table_builder

from dashboards.datasource import TABLE
from dashboards.panels.base import begun, field_property
from dashboards.panels.style import NO_DATA, Steps


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
    panel = begun(table_builder.Panel(), title, sql, help_text, span, height, TABLE, links=links, empty=empty)
    for column, unit in (units or {}).items():
        panel.override_by_name(column, [field_property("unit", unit)])
    for column, digits in (decimals or {}).items():
        panel.override_by_name(column, [field_property("decimals", digits)])
    for column in hidden:
        panel.override_by_name(column, [field_property("custom.hidden", True)])
    for column, levels in (colours or {}).items():
        panel.override_by_name(
            column,
            [
                field_property(
                    "thresholds", {"mode": "absolute", "steps": [{"color": c, "value": v} for c, v in levels]}
                ),
                field_property("custom.cellOptions", {"type": "color-text"}),
                field_property("decimals", (decimals or {}).get(column, 2)),
            ],
        )
    return panel
