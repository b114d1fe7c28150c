"""SQL of the rack board."""

from __future__ import annotations

from dashboards.holds import holds, with_job
from dashboards.sql import GPU_10S, NOW, RACK, RACK_WINDOWS, SCORES, metric, newest, reasons, rolled, tdp_w

RACK_NOW = newest(RACK_WINDOWS, 60, "site, rack", "rack = ${rack:singlequote}")


def each(kind: str, expression: str, where: str = "", label: str = "device") -> str:
    """A value for each device and moment."""
    more = f" AND {where}" if where else ""
    return (
        f"SELECT $__timeInterval(ts) AS time, {label}, {expression} AS value FROM {rolled(kind)} WHERE "
        f"$__timeFilter(ts) AND {RACK}{more} GROUP BY "
        f"time, {label} ORDER BY time, {label}"
    )


def spread(name: str) -> str:
    """Lowest, mean and highest GPU of the rack."""
    mean, high = metric("gpu", name), metric("gpu", name, "max")
    return (
        f"SELECT $__timeInterval(ts) AS time, min({mean}) AS lowest, avg({mean}) AS mean, max({high}) AS "
        f"highest FROM {rolled('gpu')} WHERE "
        f"$__timeFilter(ts) AND {RACK} GROUP BY time ORDER BY time"
    )


def rack(columns: str) -> str:
    return (
        f"SELECT $__timeInterval(ts) AS time, {columns} FROM {RACK_WINDOWS} WHERE $__timeFilter(ts) AND "
        f"{RACK} AND window_s = $window GROUP BY time "
        f"ORDER BY time"
    )


def one(expression: str) -> str:
    return f"SELECT {expression} AS value FROM {RACK_NOW}"


LEAKS = (
    "SELECT $__timeInterval(ts) AS time, device, multiIf(max(leak_max) > 0, 'leak', "
    "max(leak_sensor_fault_max) > 0, 'sensor fault', "
    "greatest(max(liquid_isolated_max), max(electrical_isolated_max)) > 0, 'isolated', 'ok') AS state FROM "
    f"{rolled('cooling')} WHERE "
    f"$__timeFilter(ts) AND {RACK} GROUP BY time, device ORDER BY time, device"
)

THROTTLES = (
    "SELECT $__timeInterval(ts) AS time, node, "
    f"{reasons('groupBitOr(toUInt32(ifNull(clock_event_reasons_max, 0)))')} AS state FROM "
    f"{rolled('gpu')} WHERE $__timeFilter(ts) AND {RACK} GROUP BY time, node ORDER BY time, node"
)

_NEWEST = f"SELECT * FROM {GPU_10S} WHERE {NOW} AND {RACK} ORDER BY ts DESC LIMIT 1 BY device"
_HOLDERS = with_job(f"SELECT site, rack, node, device, board FROM ({_NEWEST})", holds())
GPUS = (
    "SELECT g.site AS site, g.rack AS rack, g.device AS device, j.job AS job, g.util_pct_mean AS utilization, "
    "g.power_w_mean AS power, g.power_w_mean "
    f"/ {tdp_w()} AS of_tdp, g.temp_c_mean AS temperature, g.temp_margin_c_mean AS margin, g.mem_temp_c_max AS "
    "hbm, g.sm_clock_mhz_mean AS sm_clock, "
    f"{reasons('toUInt32(ifNull(g.clock_event_reasons_max, 0))')} AS held_by, g.xid_max AS xid, s.score AS "
    f"score, s.cause AS cause FROM ({_NEWEST}) AS g LEFT JOIN (SELECT device, max(a.score) AS score, "
    f"argMax(a.cause, (a.score, a.ts, a.cause)) AS cause FROM {SCORES} AS a "
    f"WHERE {NOW} AND {RACK} GROUP BY device) AS s ON g.device = s.device "
    f"LEFT JOIN ({_HOLDERS}) AS j ON g.device = j.device "
    "ORDER BY score DESC NULLS LAST, device LIMIT 150"
)
