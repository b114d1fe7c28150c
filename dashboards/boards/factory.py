"""The factory on one screen: its health, power, work and heat, and where to look."""

from __future__ import annotations

from dashboards import panels, variables
from dashboards.board import Board
from dashboards.links import SERIES_TO_RACK, TO_GPU, TO_INCIDENTS, TO_JOB, TO_RACK
from dashboards.queries.factory import BY, HEAT, OPEN, OVER, RACKS, RACKS_NOW, STATE, TENSOR, WORST, one
from dashboards.queries.silence import HEARD, SILENT
from dashboards.sql import (
    HOP,
    INCIDENTS,
    NOW,
    RACK_WINDOWS,
    SITE,
    SITES_OVER,
    frames,
    off_balance,
    provisioned_w,
    rolled_frames,
    site_over,
)
from schemas.thresholds import HEAT_BALANCE, HEAT_BALANCE_OFF, LPM_PER_KW_LEAST, SCORE_BAD


def board() -> Board:
    """Key figures; power and work over time; racks as a heat map; worst devices; every rack."""
    shown = (
        panels.stat(
            "IT power",
            one("sum(it_power_w)"),
            "watt",
            "Power of all rack meters, newest minute. A fall without a job that ended is a fault.",
            decimals=2,
        ),
        panels.gauge(
            "Of provisioned",
            f"SELECT sum(rack_power_w) / sum({provisioned_w()}) AS value FROM {RACKS_NOW}",
            "percentunit",
            "Power over the provisioned power of these racks (all parts at TDP: hardware catalogue). Above "
            "95 % a load step may trip a breaker.",
            panels.LOADS,
            decimals=0,
        ),
        panels.stat(
            "Stranded power",
            f"SELECT sum(provisioned) - sum(highest) AS value FROM (SELECT site, rack, {provisioned_w()} AS "
            "provisioned, "
            f"max(rack_power_w) AS highest {OVER} GROUP BY site, rack, model)",
            "watt",
            "Provisioned power that stays unused in the whole range, each rack at its own peak: it could be "
            "given to others.",
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
            f"{HEAT_BALANCE:g} is healthy; {HEAT_BALANCE_OFF:g} off, coolant, meter or a sensor is faulty.",
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
            f"SELECT avg(arrayAvg({TENSOR})) AS value FROM {frames('gpu', '10s')} WHERE {NOW} AND {SITE} AND "
            f"notEmpty({TENSOR})",
            "percentunit",
            "Share of cycles in which tensor pipes worked, mean over GPUs, newest minutes. Busy GPUs (100 % "
            "utilization) with idle "
            "tensor pipes are waiting.",
            decimals=0,
        ),
        panels.stat(
            "Open incidents",
            f"SELECT count() AS value FROM {INCIDENTS} FINAL WHERE {SITE} AND open = 1 AND opened <= $__toTime",
            "none",
            "Devices that have been anomalous for two panes or more. Opens the incidents board.",
            panels.ANY,
            link=TO_INCIDENTS,
        ),
        panels.stat(
            "GPUs",
            STATE,
            "none",
            "Busy: at work in the newest minute. Idle: reporting, without work. Silent: expected, not heard. "
            f"Unhealthy: score of {SCORE_BAD:g} or more in the newest 30 s.",
            span=12,
            decimals=0,
            colours={"busy": "green", "idle": "blue", "silent": "orange", "unhealthy": "red"},
        ),
        panels.bars(
            "Busy share by model",
            f"SELECT model, sum(busy_fraction * gpus) / sum(gpus) AS busy FROM {RACKS_NOW} GROUP BY model "
            "ORDER BY model",
            "percentunit",
            "Share of each model's GPUs that are busy, newest minute.",
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
            "gap that opens is heat that leaves "
            "another way.",
            low=0,
        ),
        panels.graph(
            "Utilization",
            site_over("avg(util_pct_mean) AS mean, avg(util_pct_p95) AS p95"),
            "percent",
            "GPU utilization, mean and p95 over GPUs and ticks. A mean that falls while p95 stays: some GPUs are idle.",
            low=0,
            high=100,
            span=6,
        ),
        panels.graph(
            "Tensor activity over time",
            f"SELECT $__timeInterval(ts) AS time, site, avg(arrayAvg({TENSOR})) AS tensor FROM "
            f"{rolled_frames('gpu')} WHERE $__timeFilter(ts) AND {SITE} AND notEmpty({TENSOR}) GROUP BY "
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
            "A row per rack, coloured by the choice in `Racks by` (score: times 100); the 64 highest. Click a "
            "cell to open its rack.",
            span=24,
            height=12,
            low=0,
            high=100,
            link=SERIES_TO_RACK,
        ),
        panels.table(
            "Worst devices",
            WORST,
            "Highest anomaly scores of the newest 30 s, with the metric that caused them. Follow the device to "
            "its page.",
            links={"device": TO_GPU, "rack": TO_RACK, "job": TO_JOB},
            colours={"score": panels.SCORES},
            hidden=["site"],
            empty="none: every device is normal",
            decimals={"value": 2, "expected": 2},
        ),
        panels.table(
            "Open incidents by device",
            OPEN,
            "Devices with an open incident. A rack's link opens at the incident's time.",
            links={
                "device": TO_GPU,
                "rack": TO_RACK.replace("${__url_time_range}", "from=${__data.fields.from_ms}&to=now"),
                "job": TO_JOB,
            },
            colours={"peak": panels.SCORES},
            hidden=["site", "from_ms"],
            empty="no open incident",
        ),
        panels.table(
            "All racks",
            RACKS,
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
            "GPUs expected and heard",
            HEARD,
            "none",
            "Expected: what the inventory declares as active, and what was heard before and is in no maintenance. A "
            "gap is GPUs that are silent; a rack that goes dark opens one of its size.",
            low=0,
            colours={"expected": "gray", "heard": "green"},
        ),
        panels.table(
            "Silent devices",
            SILENT,
            "Expected but not heard in the newest 10 s, by rack and node, the most first: lost, cut off, or never "
            "there. Something that is out on purpose is put into maintenance or retired in the inventory.",
            links={"rack": TO_RACK},
            hidden=["site"],
            empty="none: every expected device reports",
            height=8,
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
            f"SELECT $__timeInterval(ts) AS time, rack, avg(heat_balance) AS ratio {OVER} AND rack IN (SELECT "
            f"rack FROM {RACK_WINDOWS} WHERE {NOW} AND {SITE} AND window_s = 60 GROUP BY rack ORDER BY "
            f"max({off_balance()}) DESC LIMIT 12) "
            f"GROUP BY time, rack ORDER BY time, rack",
            "none",
            f"The twelve racks furthest from {HEAT_BALANCE:g} now.",
            thresholds=panels.BALANCE,
        ),
    )
    return Board(
        "factory",
        10,
        "is it healthy; what does it draw; what works, and what does not",
        "The AI factory on one screen: power, work, heat, and faults.",
        shown,
        (
            variables.site(),
            variables.row(),
            variables.model(),
            variables.choice("by", "Racks by", BY),
            *variables.tiers("rolled", "window"),
        ),
        incidents=SITE,
        pictures=(("factory", "factory.png"), ("as a heat map by temperature", "heat.png")),
    )
