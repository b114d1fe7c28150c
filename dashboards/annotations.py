"""Annotations, drawn into all graphs of a board."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as dash

from dashboards.datasource import TABLE, Query, source
from dashboards.sql import GPU_10S, INCIDENTS


def incident_spans(where: str) -> dash.AnnotationQuery:
    """Incidents as spans over all graphs of a board; an open one lasts until the end of the range."""
    statement = (
        "SELECT opened AS time, if(open = 1, $__toTime, closed) AS timeEnd, concat(device, ': ', cause) AS "
        "text, kind AS tags "
        f"FROM {INCIDENTS} FINAL WHERE {where} AND opened <= $__toTime AND (open = 1 OR closed >= "
        "$__fromTime) ORDER BY time LIMIT 100"
    )
    return _annotation("Incidents", "orange", statement)


def xid_marks(where: str) -> dash.AnnotationQuery:
    """A mark where an XID begins: the driver's gauge never clears."""
    statement = (
        "SELECT min(ts) AS time, concat(device, ': XID ', toString(toUInt32(xid_max))) AS text, 'XID' AS tags "
        f"FROM {GPU_10S} "
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
