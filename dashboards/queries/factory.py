"""SQL of the factory board: racks, scores and incidents now, and racks as a heat map."""

from __future__ import annotations

from dashboards.sql import (
    FRESH,
    IN_ROW,
    INCIDENTS,
    NOW,
    RACK_WINDOWS,
    SCORES,
    SITE,
    metric,
    provisioned_w,
    racks_now,
    sites_now,
)
from dashboards.variables import IN_MODEL
from schemas.thresholds import SCORE_BAD

WHERE = f"{SITE} AND {IN_ROW} AND {IN_MODEL}"
RACKS_NOW = racks_now(60, f"{IN_ROW} AND {IN_MODEL}")
OVER = f"FROM {RACK_WINDOWS} WHERE $__timeFilter(ts) AND {WHERE} AND window_s = $window"

TENSOR = f"arrayFilter(v -> not isNaN(v), {metric('gpu', 'tensor_active')})"

WORST = (
    "SELECT s.site AS site, device, rack, kind, max(s.score) AS score, "
    "argMax(s.cause, (s.score, s.ts, s.cause)) AS cause, argMax(s.value, (s.score, s.ts, s.cause)) AS value, "
    f"argMax(s.expected, (s.score, s.ts, s.cause)) AS expected, argMax(s.job, s.ts) AS job "
    f"FROM {SCORES} AS s WHERE {FRESH} GROUP BY "
    "kind, site, rack, device ORDER BY score "
    f"DESC, device LIMIT 15"
)

OPEN = (
    "SELECT opened, site, device, rack, kind, job, cause, peak, toUnixTimestamp64Milli(opened) - 300000 AS "
    f"from_ms FROM {INCIDENTS} FINAL WHERE "
    f"{SITE} AND open = 1 AND opened <= $__toTime ORDER BY opened DESC LIMIT 50"
)

STATE = (
    "SELECT sum(busy_fraction * gpus) AS busy, sum(gpus) - sum(busy_fraction * gpus) AS idle, "
    "sum(gpus_expected) - sum(gpus) AS silent, (SELECT "
    f"uniqExact(site, rack, device) FROM {SCORES} WHERE kind = 'gpu' AND score >= {SCORE_BAD} AND {FRESH}) "
    f"AS unhealthy FROM {RACKS_NOW}"
)

RACKS = (
    "SELECT r.site AS site, r.rack AS rack, r.model AS model, r.gpus AS gpus, toInt32(r.gpus_expected) - "
    "toInt32(r.gpus) AS silent, r.util_pct_mean "
    f"AS utilization, r.rack_power_w AS power, r.rack_power_w / {provisioned_w()} AS of_provisioned, "
    "r.gpu_temp_c_max AS hottest_gpu, r.flow_lpm / "
    "nullIf(r.rack_power_w, 0) * 1000 AS lpm_per_kw, r.return_temp_c - r.supply_temp_c AS rise, "
    "r.heat_balance AS heat_balance, s.score AS score FROM "
    f"{RACKS_NOW} AS r LEFT JOIN (SELECT site, rack, max(score) AS score FROM {SCORES} WHERE {FRESH} GROUP BY "
    "site, rack) AS s USING (site, rack) "
    f"ORDER BY score DESC NULLS LAST, rack LIMIT 300"
)

#: Measures of the heat map of racks, each on a scale to 100.
BY = {
    "power (of provisioned)": "power",
    "hottest GPU (C)": "temperature",
    "anomaly score": "score",
    "utilization (%)": "utilization",
}
MEASURE = (
    f"multiIf('$by' = 'power', rack_power_w / {provisioned_w()} * 100, '$by' = 'temperature', gpu_temp_c_max, "
    "'$by' = 'utilization', util_pct_mean, "
    f"0)"
)
WINDOWS = (
    f"SELECT $__timeInterval(ts) AS time, rack, avg({MEASURE}) AS value {OVER} AND '$by' != 'score' AND rack "
    "IN (SELECT rack FROM "
    f"{RACK_WINDOWS} WHERE {NOW} AND {WHERE} AND window_s = 60 GROUP BY rack ORDER BY avg({MEASURE}) DESC "
    "LIMIT 64) GROUP BY time, rack"
)
SCORED = (
    f"SELECT $__timeInterval(ts) AS time, rack, max(score) * 100 AS value FROM {SCORES} WHERE '$by' = "
    f"'score' AND $__timeFilter(ts) AND {SITE} "
    f"AND rack != '' GROUP BY time, rack"
)
HEAT = f"SELECT time, rack, value FROM ({WINDOWS} UNION ALL {SCORED}) ORDER BY time, rack"


def one(expression: str, window_s: int = 60) -> str:
    """A number over the chosen sites, from the newest window."""
    return f"SELECT {expression} AS value FROM {sites_now(window_s)}"
