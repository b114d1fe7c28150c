"""SQL of what is not heard: silent devices by rack and node, endpoints that are down, GPUs expected and heard."""

from __future__ import annotations

from dashboards.sql import ENDPOINT_10S, FRESH, INCIDENTS, NOW, SCORES, SITE, SITE_WINDOWS

_SINCE = (
    f"SELECT site, kind, rack, device, min(opened) AS since FROM {INCIDENTS} FINAL WHERE {SITE} AND open = 1 AND "
    "opened <= $__toTime GROUP BY site, kind, rack, device"
)
#: Devices that were silent in the newest pane: expected by the inventory, or heard before, and in no maintenance.
_SILENT = f"SELECT DISTINCT site, rack, node, kind, device FROM {SCORES} WHERE {FRESH} AND cause = 'silent'"
SILENT = (
    "SELECT s.site AS site, s.rack AS rack, s.node AS node, s.kind AS kind, count() AS silent, "
    "minOrNullIf(i.since, toUnixTimestamp(i.since) > 0) AS since, "
    "arrayStringConcat(arraySort(groupArray(8)(s.device)), ', ') AS devices "
    f"FROM ({_SILENT}) AS s LEFT JOIN ({_SINCE}) AS i USING (site, kind, rack, device) "
    "GROUP BY site, rack, node, kind ORDER BY silent DESC, site, rack, node, kind LIMIT 300"
)
#: Endpoints whose newest 10 s are without an answer.
_ENDPOINTS = (
    "SELECT site, rack, node, device, argMax(up_max, ts) AS up FROM "
    f" {ENDPOINT_10S} WHERE {NOW} AND {SITE} GROUP BY site, rack, node, device"
)
DOWN = (
    "SELECT e.site AS site, e.device AS endpoint, e.node AS node, e.rack AS rack, if(toUnixTimestamp(i.since) = 0, "
    "NULL, "
    f"i.since) AS since FROM ({_ENDPOINTS}) AS e LEFT JOIN ({_SINCE}) AS i ON i.kind = 'endpoint' AND e.site = i.site "
    "AND e.rack = i.rack AND e.device = i.device WHERE e.up = 0 ORDER BY since, endpoint LIMIT 300"
)
ENDPOINTS = f"SELECT countIf(up > 0) AS answering, countIf(up = 0) AS down FROM ({_ENDPOINTS}) HAVING count() > 0"
HEARD = (
    "SELECT $__timeInterval(ts) AS time, site, avg(gpus_expected) AS expected, avg(gpus) AS heard FROM "
    f"{SITE_WINDOWS} FINAL WHERE $__timeFilter(ts) AND {SITE} AND window_s = 60 GROUP BY time, site ORDER BY time, site"
)
