"""SQL of the blast radius: what is behind a breaker, feed, PDU, CDU or pump, lost or left without redundancy."""

from __future__ import annotations

from dashboards.holds import ALLOCATIONS, holds
from dashboards.queries.jobs import gpus
from dashboards.sql import SITE, racks_now, stored, text

REACH, EDGES, ASSETS = stored("reach"), stored("edges"), stored("assets")
#: What the variable shows where no inventory has declared paths of the network.
NONE = "(no path is declared)"
_VALID = f"{SITE} AND (site, made) IN (SELECT site, max(made) FROM {REACH} WHERE {SITE} GROUP BY site)"
#: A rack or node that an inventory knows by a serial or asset id, by its name.
_CALLED = (
    f"SELECT DISTINCT site, asset, if(kind = 'rack', rack, node) AS called FROM {ASSETS} FINAL WHERE {SITE} AND kind "
    "IN ('rack', 'node') AND called NOT IN ('', asset) AND valid_to = toDateTime64(0, 3, 'UTC')"
)
#: What is hit: 1, its redundancy is gone; 2, it is lost.
_HIT = (
    "SELECT r.site AS site, if(c.called = '', r.downstream, c.called) AS downstream, toUInt8(1 + max(r.lost)) AS state "
    f"FROM (SELECT * FROM {REACH} FINAL WHERE {_VALID} AND upstream = ${{element:singlequote}}) AS r LEFT JOIN "
    f"({_CALLED}) AS c ON r.site = c.site AND r.downstream = c.asset GROUP BY site, downstream"
)
#: Nodes of racks with their share of the rack's GPUs and power; a rack without nodes that report is one itself.
_UNITS = (
    "SELECT r.site AS site, r.rack AS rack, n.node AS node, if(n.whole = 0, 1, n.part / n.whole) AS of_rack, "
    "r.gpus_expected * of_rack AS gpus, coalesce(r.rack_power_w, r.gpu_power_w, 0) * of_rack AS watts FROM "
    f"{racks_now()} AS r LEFT JOIN (SELECT site, rack, node, count() AS part, sum(part) OVER (PARTITION BY site, rack) "
    f"AS whole FROM ({gpus({})}) GROUP BY site, rack, node) AS n ON r.site = n.site AND r.rack = n.rack"
)
_HITS = (
    "SELECT u.site AS site, u.rack AS rack, u.node AS node, u.gpus AS gpus, u.watts AS watts, greatest(a.state, "
    "b.state) "
    f"AS state FROM ({_UNITS}) AS u LEFT JOIN ({_HIT}) AS a ON u.site = a.site AND u.rack = a.downstream LEFT JOIN "
    f"({_HIT}) AS b ON u.site = b.site AND u.node = b.downstream WHERE state > 0"
)
#: Jobs by node, and by rack for those whose nodes do not report.
_JOBS = (
    f"SELECT site, arrayJoin(arrayDistinct([node, rack])) AS key, groupUniqArray(job) AS held FROM {ALLOCATIONS} FINAL "
    f"WHERE {holds()} GROUP BY site, key"
)
_WITH_JOBS = (
    "SELECT h.site AS site, h.rack AS rack, h.node AS node, h.gpus AS gpus, h.watts AS watts, h.state AS state, "
    "j.held "
    f"AS held FROM ({_HITS}) AS h LEFT JOIN ({_JOBS}) AS j ON h.site = j.site AND if(h.node = '', h.rack, h.node) = "
    "j.key"
)
_FIGURES = (
    "sum(watts) AS power, {racks}round(sum(gpus)) AS GPUs, GPUs * 24 AS gpu_hours_a_day, "
    "length(groupUniqArrayArray(held)) AS jobs, arrayStringConcat(arraySlice(arraySort(groupUniqArrayArray(held)), 1, "
    "8), ', ') AS named"
)
_WORD = "if(state = 2, 'lost with it', 'left without redundancy')"
TOTALS = (
    f"SELECT {_WORD} AS what, {_FIGURES.format(racks='uniqExact(site, rack) AS racks, ')} FROM ({_WITH_JOBS}) "
    "GROUP BY state ORDER BY state DESC"
)
RACKS = (
    f"SELECT site, rack, {_WORD} AS what, "
    f"{_FIGURES.format(racks='countIf(node != {e}) AS nodes, '.format(e=text('')))} "
    f"FROM ({_WITH_JOBS}) GROUP BY site, rack, state ORDER BY state DESC, power DESC, rack LIMIT 300"
)


def elements(network: str) -> str:
    """What feeds something in a network (power, fluid) and has something behind it."""
    found = (
        f"SELECT groupUniqArray(upstream) AS names FROM {REACH} FINAL WHERE {_VALID} AND upstream IN (SELECT upstream "
        f"FROM {EDGES} FINAL WHERE {SITE} AND network = {text(network)})"
    )
    return f"SELECT arrayJoin(if(empty(names), [{text(NONE)}], arraySort(names))) AS element FROM ({found})"
