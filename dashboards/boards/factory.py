"""The factory on one screen: is it well, what does it draw, what works and what does not, and where to look."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as dash

from dashboards import board, panels
from dashboards.board import IN_MODEL, TO_GPU, TO_INCIDENTS, TO_JOB, TO_RACK
from dashboards.sql import (
    HOP,
    IN_ROW,
    NOW,
    SITE,
    SITES_OVER,
    metric,
    off_balance,
    provisioned_w,
    racks_now,
    rolled,
    site_over,
    sites_now,
)
from schemas.tables import DATABASE as DB
from schemas.thresholds import HEAT_BALANCE, HEAT_BALANCE_OFF, LPM_PER_KW_LEAST, SCORE_BAD

UID = board.uid("factory")
_WHERE = f"{SITE} AND {IN_ROW} AND {IN_MODEL}"
#: Scores of the newest half minute; nothing when none of it is anomalous.
FRESH = f"{SITE} AND ts > (SELECT max(ts) FROM {DB}.site_windows WHERE {NOW}) - INTERVAL 30 SECOND AND {NOW}"
_RACKS = racks_now(60, f"{IN_ROW} AND {IN_MODEL}")
_OVER = f"FROM {DB}.rack_windows WHERE $__timeFilter(ts) AND {_WHERE} AND window_s = $window"

_TENSOR = f"arrayFilter(v -> not isNaN(v), {metric('gpu', 'tensor_active')})"

WORST = (
    "SELECT s.site AS site, device, rack, kind, max(s.score) AS score, argMax(s.cause, s.score) AS cause, "
    "argMax(s.value, s.score) AS value, "
    f"argMax(s.expected, s.score) AS expected, any(s.job) AS job FROM {DB}.scores AS s WHERE {FRESH} GROUP BY "
    "kind, site, rack, device ORDER BY score "
    f"DESC, device LIMIT 15"
)

OPEN = (
    "SELECT opened, site, device, rack, kind, job, cause, peak, toUnixTimestamp64Milli(opened) - 300000 AS "
    f"from_ms FROM {DB}.incidents FINAL WHERE "
    f"{SITE} AND open = 1 AND opened <= $__toTime ORDER BY opened DESC LIMIT 50"
)

_STATE = (
    "SELECT sum(busy_fraction * gpus) AS busy, sum(gpus) - sum(busy_fraction * gpus) AS idle, "
    "sum(gpus_expected) - sum(gpus) AS silent, (SELECT "
    f"uniqExact(site, rack, device) FROM {DB}.scores WHERE kind = 'gpu' AND score >= {SCORE_BAD} AND {FRESH}) "
    f"AS unhealthy FROM {_RACKS}"
)

_LIST = (
    "SELECT r.site AS site, r.rack AS rack, r.model AS model, r.gpus AS gpus, toInt32(r.gpus_expected) - "
    "toInt32(r.gpus) AS silent, r.util_pct_mean "
    f"AS utilization, r.rack_power_w AS power, r.rack_power_w / {provisioned_w()} AS of_provisioned, "
    "r.gpu_temp_c_max AS hottest_gpu, r.flow_lpm / "
    "nullIf(r.rack_power_w, 0) * 1000 AS lpm_per_kw, r.return_temp_c - r.supply_temp_c AS rise, "
    "r.heat_balance AS heat_balance, s.score AS score FROM "
    f"{_RACKS} AS r LEFT JOIN (SELECT site, rack, max(score) AS score FROM {DB}.scores WHERE {FRESH} GROUP BY "
    "site, rack) AS s USING (site, rack) "
    f"ORDER BY score DESC NULLS LAST, rack LIMIT 300"
)

#: What the heat map of racks may show, each on a scale to 100.
_BY = {
    "power (of provisioned)": "power",
    "hottest GPU (C)": "temperature",
    "anomaly score": "score",
    "utilization (%)": "utilization",
}
_MEASURE = (
    f"multiIf('$by' = 'power', rack_power_w / {provisioned_w()} * 100, '$by' = 'temperature', gpu_temp_c_max, "
    "'$by' = 'utilization', util_pct_mean, "
    f"0)"
)
_WINDOWS = (
    f"SELECT $__timeInterval(ts) AS time, rack, avg({_MEASURE}) AS value {_OVER} AND '$by' != 'score' AND rack "
    "IN (SELECT rack FROM "
    f"{DB}.rack_windows WHERE {NOW} AND {_WHERE} AND window_s = 60 GROUP BY rack ORDER BY avg({_MEASURE}) DESC "
    "LIMIT 64) GROUP BY time, rack"
)
_SCORED = (
    f"SELECT $__timeInterval(ts) AS time, rack, max(score) * 100 AS value FROM {DB}.scores WHERE '$by' = "
    f"'score' AND $__timeFilter(ts) AND {SITE} "
    f"AND rack != '' GROUP BY time, rack"
)
HEAT = f"SELECT time, rack, value FROM ({_WINDOWS} UNION ALL {_SCORED}) ORDER BY time, rack"


def one(expression: str, window_s: int = 60) -> str:
    """A number over the chosen sites, from the newest window."""
    return f"SELECT {expression} AS value FROM {sites_now(window_s)}"


def dashboard() -> dash.Dashboard:
    """Figures, power and work over time, racks as a heat map, what to look at, every rack."""
    made = board.begin(
        "factory", "factory", "The AI factory on one screen: power, work, heat, and what is not well.", incidents=SITE
    )
    made = (
        made.with_variable(board.site())
        .with_variable(board.row())
        .with_variable(board.model())
        .with_variable(board.choice("by", "Racks by", _BY))
    )
    made = board.tiers(made, "rolled", "window")
    for panel in (
        panels.stat(
            "IT power",
            one("sum(it_power_w)"),
            "watt",
            "What all rack meters draw, newest minute. Worry when it falls without a job having ended.",
            decimals=2,
        ),
        panels.gauge(
            "Of provisioned",
            f"SELECT sum(rack_power_w) / sum({provisioned_w()}) AS value FROM {_RACKS}",
            "percentunit",
            "Drawn power over what these racks may draw (all parts at TDP: hardware catalogue). Above 95 % a "
            "step of load may trip a breaker.",
            panels.LOADS,
            decimals=0,
        ),
        panels.stat(
            "Stranded power",
            f"SELECT sum(provisioned) - sum(highest) AS value FROM (SELECT site, rack, {provisioned_w()} AS "
            "provisioned, "
            f"max(rack_power_w) AS highest {_OVER} GROUP BY site, rack, model)",
            "watt",
            "Provisioned power that no rack has used in the whole "
            "range, each rack at its own highest: what could be given to others.",
            decimals=2,
        ),
        panels.stat(
            "PUE",
            one("sum(facility_power_w) / sum(it_power_w)"),
            "none",
            "Facility power over IT power, newest minute; AI factories plan 1.1 to 1.3. Empty without a utility meter.",
            panels.PUES,
            decimals=3,
        ),
        panels.stat(
            "Coolant heat / power",
            one("sum(heat_w) / sum(it_power_w)"),
            "none",
            f"Share of the racks' power that the coolant carries away. Near "
            f"{HEAT_BALANCE:g} all is told truly; off by {HEAT_BALANCE_OFF:g} something is ill, or lies.",
            panels.BALANCE,
            decimals=3,
        ),
        panels.stat(
            "Fleet energy",
            f"SELECT sum(it_power_w * {HOP}) / 3.6e6 AS value {SITES_OVER}",
            "kwatth",
            "Energy of all racks over the time range, from rolling means of their meters.",
            decimals=1,
        ),
        panels.gauge(
            "Tensor activity",
            f"SELECT avg(arrayAvg({_TENSOR})) AS value FROM {DB}.gpu_10s_frames WHERE {NOW} AND {SITE} AND "
            f"notEmpty({_TENSOR})",
            "percentunit",
            "Share of cycles in which tensor pipes worked, mean over GPUs, newest minutes. Busy GPUs (100 % "
            "utilization) with idle "
            "tensor pipes wait for something.",
            decimals=0,
        ),
        panels.stat(
            "Open incidents",
            f"SELECT count() AS value FROM {DB}.incidents FINAL WHERE {SITE} AND open = 1 AND opened <= $__toTime",
            "none",
            "Devices that have stayed anomalous for two panes or more. Leads to the incidents.",
            panels.ANY,
            link=TO_INCIDENTS,
        ),
        panels.stat(
            "GPUs",
            _STATE,
            "none",
            "Busy: at work in the newest minute. Idle: reporting, without work. Silent: known, not reporting. "
            "Unhealthy: "
            f"score of {SCORE_BAD:g} or more in the newest 30 s.",
            span=12,
            decimals=0,
            colours={"busy": "green", "idle": "blue", "silent": "orange", "unhealthy": "red"},
        ),
        panels.bars(
            "Busy share by model",
            f"SELECT model, sum(busy_fraction * gpus) / sum(gpus) AS busy FROM {_RACKS} GROUP BY model ORDER BY model",
            "percentunit",
            "Share of each model's GPUs that work, newest minute.",
            span=12,
            height=4,
            high=1,
            decimals=0,
        ),
        panels.graph(
            "Power",
            site_over("avg(it_power_w) AS IT, avg(facility_power_w) AS facility, avg(heat_w) AS coolant_heat"),
            "watt",
            "Rack meters, utility meter, and the heat that the coolant carries. IT and heat move together; a "
            "gap that opens is heat that goes "
            "elsewhere.",
            low=0,
        ),
        panels.graph(
            "Utilization",
            site_over("avg(util_pct_mean) AS mean, avg(util_pct_p95) AS p95"),
            "percent",
            "GPU utilization, mean and p95 over GPUs and ticks. A mean that falls while p95 stays: some GPUs "
            "have nothing to do.",
            low=0,
            high=100,
            span=6,
        ),
        panels.graph(
            "Tensor activity over time",
            f"SELECT $__timeInterval(ts) AS time, site, avg(arrayAvg({_TENSOR})) AS tensor FROM "
            f"{rolled('gpu', frames=True)} WHERE $__timeFilter(ts) AND {SITE} AND notEmpty({_TENSOR}) GROUP BY "
            "time, site ORDER BY time, site",
            "percentunit",
            "Share of cycles in which tensor pipes worked, mean over all GPUs.",
            low=0,
            span=6,
        ),
        panels.heat(
            "Racks",
            HEAT,
            "percent",
            "A row a rack, coloured by what `Racks by` says (score: times 100); the 64 highest. Choose a cell "
            "to open its "
            "rack.",
            span=24,
            height=12,
            low=0,
            high=100,
            link=board.SERIES_TO_RACK,
        ),
        panels.table(
            "Worst devices",
            WORST,
            "Highest anomaly scores of the newest 30 s, with the metric that caused them. Follow the device to "
            "its page.",
            links={"device": TO_GPU, "rack": TO_RACK, "job": TO_JOB},
            colours={"score": panels.SCORES},
            hidden=["site"],
            empty="none: every device is as ever",
            decimals={"value": 2, "expected": 2},
        ),
        panels.table(
            "Open incidents by device",
            OPEN,
            "Devices that stayed anomalous. A rack's link opens at the incident's time.",
            links={
                "device": TO_GPU,
                "rack": TO_RACK.replace("${__url_time_range}", "from=${__data.fields.from_ms}&to=now"),
                "job": TO_JOB,
            },
            colours={"peak": panels.SCORES},
            hidden=["site", "from_ms"],
            empty="none is open",
        ),
        panels.table(
            "All racks",
            _LIST,
            f"Every rack, most anomalous first. L/min per kW below {LPM_PER_KW_LEAST:g} is too little coolant "
            "for the load.",
            span=24,
            height=11,
            links={"rack": TO_RACK},
            colours={
                "score": panels.SCORES,
                "silent": panels.ANY,
                "of_provisioned": panels.LOADS,
                "lpm_per_kw": panels.FLOWS,
                "rise": panels.RISES,
                "heat_balance": panels.BALANCE,
            },
            hidden=["site"],
            units={
                "utilization": "percent",
                "power": "watt",
                "of_provisioned": "percentunit",
                "hottest_gpu": "celsius",
                "rise": "celsius",
            },
            decimals={
                "utilization": 1,
                "power": 1,
                "hottest_gpu": 0,
                "silent": 0,
                "of_provisioned": 0,
                "rise": 1,
                "heat_balance": 3,
            },
        ),
        panels.graph(
            "PUE over time",
            site_over("avg(pue) AS pue"),
            "none",
            "Rolling; rises when cooling works harder for the same load.",
            thresholds=panels.PUES,
        ),
        panels.graph(
            "Coolant heat over rack power",
            f"SELECT $__timeInterval(ts) AS time, rack, avg(heat_balance) AS ratio {_OVER} AND rack IN (SELECT "
            f"rack FROM {DB}.rack_windows WHERE {NOW} AND {SITE} AND window_s = 60 GROUP BY rack ORDER BY "
            f"max({off_balance()}) DESC LIMIT 12) "
            f"GROUP BY time, rack ORDER BY time, rack",
            "none",
            f"The twelve racks furthest from {HEAT_BALANCE:g} now.",
            thresholds=panels.BALANCE,
        ),
    ):
        made = made.with_panel(panel)
    return made
