"""A board as code: what a file of dashboards/boards declares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.builders import dashboard as dash
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync, DashboardLinkType

from dashboards.annotations import incident_spans, xid_marks

TAG = "gigawatch"


def uid(name: str) -> str:
    return f"{TAG}-{name}"


@dataclass(frozen=True, slots=True)
class Board:
    """`order` places it in menus and in the docs, which also show its `question` and `pictures` (text -> file).

    `panels` and `variables` are the SDK's builders, in order; `incidents` and `xids` are the conditions of what is
    drawn into its graphs, "" for none.
    """

    name: str
    order: int
    question: str
    help: str
    panels: Sequence[Any]
    variables: Sequence[dash.QueryVariable | dash.CustomVariable] = ()
    title: str = ""
    incidents: str = ""
    xids: str = ""
    since: str = "now-30m"
    pictures: Sequence[tuple[str, str]] = ()

    @property
    def uid(self) -> str:
        return uid(self.name)

    @property
    def shown_title(self) -> str:
        return self.title or self.name

    def built(self) -> dash.Dashboard:
        """Returns the board as the SDK's dashboard."""
        made = (
            dash.Dashboard(f"Gigawatch: {self.shown_title}")
            .uid(self.uid)
            .tags([TAG])
            .description(self.help)
            .editable()
            .time(self.since, "now")
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
        for where, annotation in ((self.incidents, incident_spans), (self.xids, xid_marks)):
            if where:
                made = made.annotation(annotation(where))
        for variable in self.variables:
            made = made.with_variable(variable)
        for panel in self.panels:
            made = made.with_panel(panel)
        return made
