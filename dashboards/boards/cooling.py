"""Cooling: plant, CDUs and rack loops; flow against heat."""

from __future__ import annotations

from dashboards import blast, panels, variables
from dashboards.board import Board
from dashboards.links import TO_RACK
from dashboards.sql import COOLING_10S, IN_ROW, NOW, RACK_WINDOWS, ROW, SITE, racks_now, rolled, sites_now
from schemas.thresholds import DELTA_T_HIGH_K, HEAT_BALANCE, LPM_PER_KW_DESIGN, LPM_PER_KW_LEAST

_RACKS = racks_now(60, IN_ROW)
_OVER = f"FROM {RACK_WINDOWS} WHERE $__timeFilter(ts) AND {SITE} AND {IN_ROW} AND window_s = $window"
_PER_KW = "flow_lpm / nullIf(rack_power_w, 0) * 1000"
_RISE = "return_temp_c - supply_temp_c"


def extremes(expression: str, order: str, name: str) -> str:
    """The twelve racks that are highest or lowest now, over time."""
    return (
        f"SELECT $__timeInterval(ts) AS time, rack, avg({expression}) AS {name} {_OVER} AND rack IN (SELECT "
        f"rack FROM {RACK_WINDOWS} WHERE {NOW} AND "
        f"{SITE} AND {IN_ROW} AND window_s = 60 GROUP BY rack ORDER BY avg({expression}) {order} LIMIT 12) "
        "GROUP BY time, rack ORDER BY time, rack"
    )


def cdus(columns: str, model: str = "cdu") -> str:
    return (
        f"SELECT $__timeInterval(ts) AS time, device, {columns} FROM {rolled('cooling')} WHERE "
        f"$__timeFilter(ts) AND {SITE} AND model = '{model}' GROUP "
        f"BY time, device ORDER BY time, device LIMIT 40000"
    )


_LIST = (
    f"SELECT site, rack, {ROW} AS row, supply_temp_c AS supply, return_temp_c AS return, {_RISE} AS rise, "
    f"flow_lpm AS flow, {_PER_KW} AS lpm_per_kw, "
    f"heat_w AS heat, heat_balance, gpu_temp_c_max AS hottest_gpu FROM {_RACKS} WHERE flow_lpm IS NOT NULL "
    "ORDER BY rise DESC, rack LIMIT 300"
)

_UNITS = (
    "SELECT device AS cdu, argMax(supply_temp_c_mean, ts) AS supply, argMax(return_temp_c_mean, ts) AS "
    "return, argMax(flow_lpm_mean, ts) AS flow, "
    "argMax(pumps_running_max, ts) AS pumps, argMax(pump_speed_pct_mean, ts) AS speed, "
    "argMax(diff_pressure_kpa_mean, ts) AS pressure, "
    "argMax(filter_dp_kpa_mean, ts) AS filter, argMax(level_pct_mean, ts) AS level, "
    "argMax(primary_supply_temp_c_mean, ts) AS primary_in, "
    f"argMax(primary_return_temp_c_mean, ts) AS primary_out FROM {COOLING_10S} WHERE {NOW} AND {SITE} AND "
    "model = 'cdu' GROUP BY cdu ORDER BY "
    f"pumps, cdu LIMIT 100"
)

_LEAKS = (
    "SELECT $__timeInterval(ts) AS time, device, multiIf(max(leak_max) > 0, 'leak', "
    "max(leak_sensor_fault_max) > 0, 'sensor fault', 'ok') AS state "
    f"FROM {rolled('cooling')} WHERE $__timeFilter(ts) AND {SITE} AND device IN (SELECT device FROM "
    f"{COOLING_10S} WHERE {NOW} AND {SITE} AND model "
    "IN ('rack-loop', 'cdu') GROUP BY device ORDER BY max(leak_max) DESC, max(leak_sensor_fault_max) DESC, "
    "device LIMIT 16) GROUP BY time, device "
    f"ORDER BY time, device"
)


def board() -> Board:
    """Key figures; heat and flow; the racks at either end; CDUs; leaks."""
    shown = (
        panels.stat(
            "Heat carried",
            f"SELECT sum(heat_w) AS value FROM {_RACKS}",
            "watt",
            "Heat in the racks' coolant, newest minute: flow x rise x 3.9 kJ/L/K.",
            span=4,
            decimals=2,
        ),
        panels.stat(
            "Flow",
            f"SELECT sum(flow_lpm) AS value FROM {_RACKS}",
            panels.unit("cooling", "flow_lpm"),
            "Coolant through all racks.",
            span=4,
            decimals=0,
        ),
        panels.gauge(
            "Flow for the heat",
            f"SELECT sum(flow_lpm) / sum(rack_power_w) * 1000 AS value FROM {_RACKS}",
            "none",
            f"L/min per kW over all racks; designs have {LPM_PER_KW_DESIGN:g}, less than {LPM_PER_KW_LEAST:g} "
            "is too little.",
            panels.FLOWS,
            span=4,
            high=4,
            decimals=2,
        ),
        panels.stat(
            "Highest rise",
            f"SELECT max({_RISE}) AS value FROM {_RACKS}",
            panels.unit("cooling", "return_temp_c"),
            f"Largest return minus supply of any rack; above {DELTA_T_HIGH_K:g} K a rack lacks coolant.",
            panels.RISES,
            span=4,
            decimals=1,
        ),
        panels.stat(
            "Leaks",
            f"SELECT count() AS value FROM (SELECT device FROM {COOLING_10S} WHERE {NOW} AND {SITE} GROUP "
            "BY device HAVING "
            f"argMax(leak_max, ts) > 0)",
            "none",
            "Loops whose leak sensor is wet now; a sensor that has failed is not counted.",
            panels.ANY,
            span=4,
        ),
        panels.stat(
            "Cooling power",
            f"SELECT sum(cooling_power_w) AS value FROM {sites_now()}",
            "watt",
            "Pumps, fans and chillers.",
            span=4,
            decimals=2,
        ),
        panels.graph(
            "Heat against flow",
            "SELECT time, sum(h) AS heat, sum(f) AS flow FROM (SELECT $__timeInterval(ts) AS time, rack, "
            "avg(heat_w) AS h, "
            f"avg(flow_lpm) AS f {_OVER} GROUP BY time, rack) GROUP BY time ORDER BY time",
            "watt",
            "Both of all racks. Heat that rises without flow: the coolant gets hotter.",
            low=0,
            units={"flow": panels.unit("cooling", "flow_lpm")},
        ),
        panels.spread(
            "Racks by coolant rise",
            f"SELECT $__timeInterval(ts) AS time, toString(toInt32(floor(least(greatest({_RISE}, 0), 29) / 2) * 2)) AS "
            f"bucket, uniqExact(rack) AS racks {_OVER} AND {_RISE} IS NOT NULL GROUP BY time, bucket ORDER BY "
            "time, toInt32(bucket)",
            "celsius",
            "Number of racks by return minus supply (in steps of 2 K). A few that drift away from the "
            "others lack coolant.",
        ),
        panels.graph(
            "Hottest racks: rise",
            extremes(_RISE, "DESC", "rise"),
            panels.unit("cooling", "return_temp_c"),
            "Return minus supply, the twelve highest now.",
            thresholds=panels.RISES,
        ),
        panels.graph(
            "Least flow for the heat",
            extremes(_PER_KW, "ASC", "lpm_per_kw"),
            "none",
            "L/min per kW, the twelve lowest now: comparable across generations of racks.",
            thresholds=panels.FLOWS,
            low=0,
        ),
        panels.graph(
            "CDU temperatures",
            cdus("avg(supply_temp_c_mean) AS supply, avg(return_temp_c_mean) AS return"),
            panels.unit("cooling", "supply_temp_c"),
            "Secondary side. A supply that rises reaches every rack the CDU serves within a minute.",
            span=8,
        ),
        panels.graph(
            "CDU flow",
            cdus("avg(flow_lpm_mean) AS flow"),
            panels.unit("cooling", "flow_lpm"),
            "Secondary side.",
            low=0,
            span=8,
        ),
        panels.graph(
            "CDU pumps",
            cdus("avg(pump_speed_pct_mean) AS speed, max(pumps_running_max) AS running"),
            "percent",
            "Speed of the fastest pump, and pumps that run. With one pump less the other must speed up; if "
            "speed falls too, it does not.",
            low=0,
            span=8,
            units={"running": "none"},
        ),
        panels.graph(
            "CDU pressure",
            cdus("avg(diff_pressure_kpa_mean) AS across, avg(diff_pressure_sp_kpa_mean) AS set_point"),
            panels.unit("cooling", "diff_pressure_kpa"),
            "Across the secondary loop, and its set-point.",
            low=0,
            span=8,
        ),
        panels.graph(
            "CDU filter",
            cdus("avg(filter_dp_kpa_mean) AS filter"),
            panels.unit("cooling", "filter_dp_kpa"),
            "Pressure across the filter: it rises as the filter clogs.",
            low=0,
            span=8,
        ),
        panels.graph(
            "Facility water",
            cdus("avg(primary_supply_temp_c_mean) AS into, avg(primary_return_temp_c_mean) AS out_of"),
            panels.unit("cooling", "primary_supply_temp_c"),
            "Primary side of the CDUs.",
            span=8,
        ),
        panels.table(
            "CDUs",
            _UNITS,
            "Fewest pumps first.",
            span=24,
            height=6,
            units=dict.fromkeys(("supply", "return", "primary_in", "primary_out"), "celsius")
            | {
                "flow": "flowlpm",
                "speed": "percent",
                "pressure": "pressurekpa",
                "filter": "pressurekpa",
                "level": "percent",
            },
            decimals=dict.fromkeys(
                ("supply", "return", "primary_in", "primary_out", "speed", "level", "filter", "pressure"), 1
            ),
        ),
        *blast.shown("a CDU, pump or plant"),
        panels.states(
            "Leak sensors",
            _LEAKS,
            "Loops with leaks or failed sensors first, at most sixteen. A failed sensor is a fault, not a leak.",
        ),
        panels.table(
            "Racks",
            _LIST,
            f"Highest rise first, so the coolest racks come last. Heat balance near {HEAT_BALANCE:g} is healthy.",
            links={"rack": TO_RACK},
            hidden=["site"],
            units=dict.fromkeys(("supply", "return", "rise", "hottest_gpu"), "celsius")
            | {"flow": "flowlpm", "heat": "watt"},
            colours={"rise": panels.RISES, "lpm_per_kw": panels.FLOWS, "heat_balance": panels.BALANCE},
            decimals={"supply": 1, "return": 1, "flow": 0, "hottest_gpu": 0, "heat": 1},
            height=8,
        ),
    )
    return Board(
        "cooling",
        50,
        "does the coolant carry the heat",
        "Plant, CDUs and rack loops: does the coolant carry the heat?",
        shown,
        (variables.site(), variables.row(), blast.element("fluid"), *variables.tiers("rolled", "window")),
        incidents=f"{SITE} AND kind = 'cooling'",
        pictures=(("cooling", "cooling.png"),),
    )
