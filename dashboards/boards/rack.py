"""One rack: its GPUs, nodes, power path and coolant loop side by side, so that cause and effect line up."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as dash

from dashboards import board, panels
from dashboards.board import SERIES_TO_GPU, TO_GPU
from dashboards.sql import NOW, RACK, metric, newest, provisioned_w, reasons, rolled, tdp_w
from schemas.tables import DATABASE as DB
from schemas.thresholds import HBM_CRITICAL_C, HEAT_BALANCE, LPM_PER_KW_DESIGN, LPM_PER_KW_LEAST, SCORE_NOTICE

UID = board.uid("rack")
_NOW = newest("rack_windows", 60, "site, rack", "rack = ${rack:singlequote}")


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
        f"SELECT $__timeInterval(ts) AS time, {columns} FROM {DB}.rack_windows WHERE $__timeFilter(ts) AND "
        f"{RACK} AND window_s = $window GROUP BY time "
        f"ORDER BY time"
    )


def one(expression: str) -> str:
    return f"SELECT {expression} AS value FROM {_NOW}"


_LEAKS = (
    "SELECT $__timeInterval(ts) AS time, device, multiIf(max(leak_max) > 0, 'leak', "
    "max(leak_sensor_fault_max) > 0, 'sensor fault', "
    "greatest(max(liquid_isolated_max), max(electrical_isolated_max)) > 0, 'isolated', 'ok') AS state FROM "
    f"{rolled('cooling')} WHERE "
    f"$__timeFilter(ts) AND {RACK} GROUP BY time, device ORDER BY time, device"
)

_THROTTLES = (
    "SELECT $__timeInterval(ts) AS time, node, "
    f"{reasons('groupBitOr(toUInt32(ifNull(clock_event_reasons_max, 0)))')} AS state FROM "
    f"{rolled('gpu')} WHERE $__timeFilter(ts) AND {RACK} GROUP BY time, node ORDER BY time, node"
)

_GPUS = (
    "SELECT g.site AS site, g.rack AS rack, g.device AS device, g.job AS job, g.util_pct_mean AS utilization, "
    "g.power_w_mean AS power, g.power_w_mean "
    f"/ {tdp_w()} AS of_tdp, g.temp_c_mean AS temperature, g.temp_margin_c_mean AS margin, g.mem_temp_c_max AS "
    "hbm, g.sm_clock_mhz_mean AS sm_clock, "
    f"{reasons('toUInt32(ifNull(g.clock_event_reasons_max, 0))')} AS held_by, g.xid_max AS xid, s.score AS "
    "score, s.cause AS cause FROM (SELECT * FROM "
    f"{DB}.gpu_10s WHERE {NOW} AND {RACK} ORDER BY ts DESC LIMIT 1 BY device) AS g LEFT JOIN (SELECT device, "
    "max(a.score) AS score, argMax(a.cause, "
    f"a.score) AS cause FROM {DB}.scores AS a WHERE {NOW} AND {RACK} GROUP BY device) AS s USING (device) "
    "ORDER BY score DESC NULLS LAST, device LIMIT "
    f"150"
)


def dashboard() -> dash.Dashboard:
    """Figures; GPUs; power path; coolant; nodes; scores; a table of all GPUs."""
    made = board.begin("rack", "rack", "One rack: GPUs, nodes, power path and coolant loop.", incidents=RACK, xids=RACK)
    made = board.tiers(made.with_variable(board.site(multi=False)).with_variable(board.rack()), "rolled", "window")
    for panel in (
        panels.stat(
            "GPUs",
            "SELECT gpus AS reporting, toInt32(gpus_expected) - toInt32(gpus) AS silent FROM " + _NOW,
            "none",
            "GPUs that gave a sample in the newest minute, and known ones that did not.",
            span=4,
            colours={"reporting": "green", "silent": "orange"},
        ),
        panels.stat("Power", one("rack_power_w"), "watt", "The rack's meter, newest minute.", span=3, decimals=1),
        panels.gauge(
            "Of provisioned",
            one(f"rack_power_w / {provisioned_w()}"),
            "percentunit",
            "Drawn over what the rack may draw: all its parts at TDP.",
            panels.LOADS,
            span=3,
            decimals=0,
        ),
        panels.stat(
            "Hottest GPU",
            one("gpu_temp_c_max"),
            "celsius",
            "Highest die temperature of the newest minute; what counts is the margin below.",
            span=3,
            decimals=0,
        ),
        panels.stat(
            "Coolant per kW",
            one("flow_lpm / nullIf(rack_power_w, 0) * 1000"),
            "none",
            f"L/min for each kW. Designs want {LPM_PER_KW_DESIGN:g} or "
            f"more; below {LPM_PER_KW_LEAST:g} the coolant gets too hot.",
            panels.FLOWS,
            span=3,
            decimals=2,
        ),
        panels.stat(
            "Coolant rise",
            one("return_temp_c - supply_temp_c"),
            "celsius",
            "Return minus supply. Design is 10 K at full load.",
            panels.RISES,
            span=3,
            decimals=1,
        ),
        panels.stat(
            "Heat balance",
            one("heat_balance"),
            "none",
            f"Coolant heat over the meter's power; {HEAT_BALANCE:g} is healthy. Off: coolant, meter or "
            f"a sensor is wrong.",
            panels.BALANCE,
            span=3,
            decimals=3,
        ),
        panels.stat(
            "Score",
            f"SELECT max(score) AS value FROM {DB}.scores WHERE {NOW} AND {RACK}",
            "none",
            "The worst device's anomaly score in the newest minutes.",
            panels.SCORES,
            span=2,
            decimals=2,
            empty="as ever",
        ),
        panels.heat(
            "GPU utilization",
            each("gpu", "avg(util_pct_mean)"),
            panels.unit("gpu", "util_pct"),
            "A row a GPU. A dark row in a bright rack does no work that its peers do.",
            low=0,
            high=100,
            link=SERIES_TO_GPU,
            more_is_good=True,
        ),
        panels.heat(
            "Margin to T.Limit",
            each("gpu", "min(temp_margin_c_mean)"),
            panels.unit("gpu", "temp_margin_c"),
            "Degrees left before the GPU slows itself down, the same meaning for every model. Yellow: close; "
            "red: slowing.",
            thresholds=panels.MARGINS,
            link=SERIES_TO_GPU,
        ),
        panels.graph(
            "GPU power",
            each("gpu", "avg(power_w_mean)"),
            panels.unit("gpu", "power_w"),
            "A line a GPU. One that leaves the bundle has another load, or is held down.",
            low=0,
        ),
        panels.graph(
            "GPU temperature",
            each("gpu", "avg(temp_c_mean)"),
            panels.unit("gpu", "temp_c"),
            "A line a GPU. One above the bundle has a bad cold plate or interface; all rising together is the coolant.",
        ),
        panels.graph(
            "SM clock",
            spread("sm_clock_mhz"),
            panels.unit("gpu", "sm_clock_mhz"),
            "Lowest, mean and highest GPU: a throttled GPU shows as a low lowest.",
            low=0,
            span=8,
        ),
        panels.states(
            "Clocks held by",
            _THROTTLES,
            "Why clocks are held, worst of a node's GPUs. Hardware slow-down is a fault of power or board.",
            span=8,
        ),
        panels.graph(
            "HBM temperature",
            spread("mem_temp_c"),
            panels.unit("gpu", "mem_temp_c"),
            f"Lowest, mean and highest; upper critical is "
            f"{HBM_CRITICAL_C:g} C. HBM may throttle while the die looks cool.",
            span=8,
            thresholds=panels.HBM,
        ),
        panels.graph(
            "Power path",
            rack(
                "avg(rack_power_w) AS meter, avg(gpu_power_w) AS GPUs, avg(node_power_w) AS CPUs_DPUs, "
                "avg(heat_w) AS coolant_heat"
            ),
            "watt",
            "The rack's meter, its parts, and the heat that the coolant carries away.",
            low=0,
        ),
        panels.graph(
            "Heat balance over time",
            rack("avg(heat_balance) AS ratio"),
            "none",
            f"Coolant heat over rack power; healthy near {HEAT_BALANCE:g}. "
            f"It swings for half a minute when load or flow changes.",
            thresholds=panels.BALANCE,
        ),
        panels.graph(
            "Power shelves",
            each("power", "avg(power_w_mean)", "model = 'power-shelf'"),
            panels.unit("power", "power_w"),
            "DC output of each shelf; a lost supply shows as a step down of one and up of the others.",
            low=0,
            span=8,
        ),
        panels.graph(
            "Failed power supplies",
            each("power", "max(psu_failed_max)", "model = 'power-shelf'"),
            "none",
            "Supplies that deliver nothing, by shelf. One is borne (N+1); two are not.",
            low=0,
            span=8,
        ),
        panels.graph(
            "CPUs and DPUs",
            each("node", "avg(power_w_mean)", label="model"),
            panels.unit("node", "power_w"),
            "Mean power by model.",
            low=0,
            span=4,
        ),
        panels.graph(
            "CPU and DPU temperature",
            each("node", "max(temp_c_max)", label="model"),
            panels.unit("node", "temp_c"),
            "Hottest by model.",
            span=4,
        ),
        panels.graph(
            "Coolant temperatures",
            rack("avg(supply_temp_c) AS supply, avg(return_temp_c) AS return"),
            panels.unit("cooling", "supply_temp_c"),
            "Into and out of the rack. Supply up: the CDU; return up alone: too little flow.",
            span=8,
        ),
        panels.graph(
            "Coolant flow",
            each("cooling", "avg(flow_lpm_mean)"),
            panels.unit("cooling", "flow_lpm"),
            "Through the rack. A step down is a valve, a blocked filter or a pump.",
            low=0,
            span=8,
        ),
        panels.graph(
            "Coolant pressure",
            f"SELECT $__timeInterval(ts) AS time, avg(diff_pressure_kpa_mean) AS across_the_rack, "
            f"avg(diff_pressure_sp_kpa_mean) AS set_point FROM {rolled('cooling')} WHERE $__timeFilter(ts) AND "
            f"{RACK} GROUP BY time ORDER BY time",
            panels.unit("cooling", "diff_pressure_kpa"),
            "Pressure across the rack and its set-point. More pressure with less flow: something is blocked.",
            low=0,
            span=8,
        ),
        panels.states(
            "Leak sensors",
            _LEAKS,
            "A sensor fault is not a leak. Isolated: the facility has shut the rack's liquid or power off.",
            height=5,
        ),
        panels.graph(
            "Scores",
            f"SELECT $__timeInterval(ts) AS time, device, max(score) AS score FROM {DB}.scores WHERE "
            f"$__timeFilter(ts) AND {RACK} AND "
            f"device IN (SELECT device FROM {DB}.scores WHERE $__timeFilter(ts) AND {RACK} GROUP BY device "
            "ORDER BY max(score) DESC LIMIT 12) "
            f"GROUP BY time, device ORDER BY time, device",
            "none",
            f"The twelve most anomalous devices; above {SCORE_NOTICE:g} is worth a look.",
            low=0,
            high=1,
            height=5,
            thresholds=panels.SCORES,
            empty="none: every device is as ever",
        ),
        panels.table(
            "All GPUs",
            _GPUS,
            "Newest 10 s of every GPU of the rack, most anomalous first. Follow one to its page.",
            span=24,
            height=12,
            links={"device": TO_GPU, "job": board.TO_JOB},
            hidden=["site", "rack"],
            colours={
                "score": panels.SCORES,
                "margin": panels.MARGINS,
                "hbm": panels.HBM,
                "of_tdp": panels.LOADS,
                "xid": panels.ANY,
            },
            units={
                "utilization": "percent",
                "temperature": "celsius",
                "margin": "celsius",
                "power": "watt",
                "of_tdp": "percentunit",
                "sm_clock": panels.unit("gpu", "sm_clock_mhz"),
                "hbm": "celsius",
            },
            decimals={
                "utilization": 0,
                "temperature": 0,
                "power": 0,
                "sm_clock": 0,
                "xid": 0,
                "margin": 0,
                "hbm": 0,
                "of_tdp": 0,
            },
        ),
    ):
        made = made.with_panel(panel)
    return made
