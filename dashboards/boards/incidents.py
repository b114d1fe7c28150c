"""Incidents: what happened, how long it lasted, what caused it; and the quality of the data."""

from __future__ import annotations

from dashboards import panels, variables
from dashboards.board import Board
from dashboards.links import TO_GPU, TO_JOB, TO_RACK
from dashboards.sql import INCIDENTS, LABELS, QUALITY, SCORES, SITE
from pipeline.compute.rules import all_rules
from schemas.thresholds import SCORE_BAD, SCORE_NOTICE

_ALL = f"FROM {INCIDENTS} FINAL WHERE {SITE} AND opened <= $__toTime AND (open = 1 OR closed >= $__fromTime)"
_THEN = "from=${__data.fields.from_ms}&to=${__data.fields.to_ms}"

LIST = (
    "SELECT opened, if(open = 1, 'open', 'closed') AS state, site, device, rack, kind, job, cause, peak, "
    "if(open = 1, dateDiff('second', opened, "
    "$__toTime), dateDiff('second', opened, closed)) AS lasted, toUnixTimestamp64Milli(opened) - 300000 AS "
    "from_ms, if(open = 1, 'now', "
    f"toString(toUnixTimestamp64Milli(closed) + 300000)) AS to_ms {_ALL} ORDER BY open DESC, opened DESC LIMIT 200"
)

_STATES = (
    "SELECT arrayJoin(arrayMap(k -> toDateTime(k), range(toUInt32(greatest(opened, toDateTime64($__fromTime, "
    "3))), toUInt32(if(open = 1, "
    "toDateTime64($__toTime, 3), least(closed, toDateTime64($__toTime, 3)))) + 1, $__interval_s))) AS time, "
    f"device, 'open' AS state {_ALL} AND "
    f"device IN (SELECT device {_ALL} ORDER BY open DESC, opened DESC LIMIT 24) ORDER BY time, device"
)

#: The detector rules by name.
_RULES = ", ".join(rule.name for rule in all_rules())


def board() -> Board:
    """Key figures; when and what; the list; scores; data quality; injected faults."""
    shown = (
        panels.stat(
            "Open",
            f"SELECT countIf(open = 1) AS value {_ALL}",
            "none",
            "Devices that are anomalous now.",
            panels.ANY,
            span=4,
        ),
        panels.stat(
            "In the range",
            f"SELECT count() AS value {_ALL}",
            "none",
            "Incidents that were open at any time of the range.",
            span=4,
        ),
        panels.stat(
            "Typical length",
            f"SELECT ifNotFinite(quantileIf(0.5)(dateDiff('second', opened, closed), open = 0), NULL) AS value {_ALL}",
            "s",
            "Median of those that have closed.",
            span=4,
            decimals=0,
            empty="none has closed",
        ),
        panels.stat(
            "Devices with more than one",
            f"SELECT count() AS value FROM (SELECT device {_ALL} GROUP BY site, rack, device HAVING count() > 1)",
            "none",
            "Devices that fail again: a repair did not last.",
            (("green", None), ("yellow", 1)),
            span=4,
        ),
        panels.bars(
            "By cause",
            f"SELECT cause, count() AS incidents {_ALL} GROUP BY cause ORDER BY incidents DESC, cause LIMIT 12",
            "none",
            f"The anomalous metric, or the detector rule that found it: {_RULES}.",
            span=8,
            height=4,
            decimals=0,
            empty=panels.NO_FAULT,
        ),
        panels.states(
            "When",
            _STATES,
            "The newest 24 devices with incidents, and when those were open.",
            span=24,
            height=7,
            empty=panels.NO_FAULT,
        ),
        panels.table(
            "Incidents",
            LIST,
            "Open ones first. Links lead to the rack or GPU at the incident's own time, five minutes around it.",
            span=24,
            height=10,
            links={
                "device": TO_GPU.replace("${__url_time_range}", _THEN),
                "rack": TO_RACK.replace("${__url_time_range}", _THEN),
                "job": TO_JOB,
            },
            hidden=["from_ms", "to_ms", "site"],
            colours={"peak": panels.SCORES},
            units={"lasted": "s"},
            decimals={"lasted": 0},
            empty=panels.NO_FAULT,
        ),
        panels.graph(
            "Highest scores",
            f"SELECT $__timeInterval(ts) AS time, kind, max(score) AS score FROM {SCORES} WHERE "
            f"$__timeFilter(ts) AND {SITE} "
            f"GROUP BY time, kind ORDER BY time, kind",
            "none",
            f"The most anomalous device of each kind. Above {SCORE_NOTICE:g} is worth a look; "
            f"{SCORE_BAD:g} for two panes opens an incident.",
            low=0,
            high=1,
            thresholds=panels.SCORES,
            empty="none: every device is normal",
        ),
        panels.graph(
            "Anomalous devices",
            "SELECT $__timeInterval(ts) AS time, cause, uniqExact(site, rack, device) AS devices FROM "
            f"{SCORES} WHERE "
            f"$__timeFilter(ts) AND {SITE} AND score >= {SCORE_NOTICE:g} GROUP BY time, cause ORDER BY time, cause",
            "none",
            "Devices with a score worth a look, by cause. Many at once with one cause: look upstream of them.",
            low=0,
            empty=panels.NO_FAULT,
        ),
        panels.table(
            "Data quality",
            f"SELECT reason, kind, rack, metric, sum(count) AS samples, max(ts) AS newest FROM {QUALITY} "
            f"FINAL WHERE $__timeFilter(ts) AND {SITE} GROUP BY reason, kind, rack, metric ORDER BY samples "
            "DESC LIMIT 50",
            "Late, out of order, duplicate, frozen, silent, impossible: what the pipeline detected in the data "
            "(docs/reliability.md).",
            empty=panels.NO_FAULT,
        ),
        panels.table(
            "Faults injected",
            "SELECT started, if(ended > started, ended, NULL) AS until, fault, device, rack, cause AS "
            "shows_in, severity FROM "
            f"{LABELS} FINAL WHERE {SITE} AND started <= $__toTime ORDER BY started DESC LIMIT 50",
            "Labels of the synthetic plant: the faults that it simulates.",
            empty="none was injected",
        ),
    )
    return Board(
        "incidents",
        70,
        "what stayed anomalous, how long, why",
        "What stayed anomalous, how long, and why.",
        shown,
        (variables.site(),),
        since="now-1h",
        pictures=(("incidents", "incidents.png"),),
    )
