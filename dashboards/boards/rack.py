"""One rack: its GPUs, nodes, power path and coolant loop side by side, so that cause and effect line up."""

from __future__ import annotations

from dashboards import panels, variables
from dashboards.board import Board
from dashboards.links import SERIES_TO_GPU, TO_GPU, TO_JOB
from dashboards.queries.rack import GPUS, LEAKS, RACK_NOW, THROTTLES, each, one, rack, spread
from dashboards.sql import NOW, RACK, SCORES, provisioned_w, rolled
from schemas.thresholds import HBM_CRITICAL_C, HEAT_BALANCE, LPM_PER_KW_DESIGN, LPM_PER_KW_LEAST, SCORE_NOTICE


def board() -> Board:
    """Key figures; GPUs; power path; coolant; nodes; scores; a table of all GPUs."""
    shown = (
        panels.stat(
            "GPUs",
            "SELECT gpus AS reporting, toInt32(gpus_expected) - toInt32(gpus) AS silent FROM " + RACK_NOW,
            "none",
            "GPUs that gave a sample in the newest minute, and expected ones that did not.",
            span=4,
            colours={"reporting": "green", "silent": "orange"},
        ),
        panels.stat("Power", one("rack_power_w"), "watt", "The rack's meter, newest minute.", span=3, decimals=1),
        panels.gauge(
            "Of provisioned",
            one(f"rack_power_w / {provisioned_w()}"),
            "percentunit",
            "Power over provisioned power: all its parts at TDP.",
            panels.LOADS,
            span=3,
            decimals=0,
        ),
        panels.stat(
            "Hottest GPU",
            one("gpu_temp_c_max"),
            "celsius",
            "Highest die temperature of the newest minute; judge by the margin below.",
            span=3,
            decimals=0,
        ),
        panels.stat(
            "Coolant per kW",
            one("flow_lpm / nullIf(rack_power_w, 0) * 1000"),
            "none",
            f"L/min per kW. Designs have {LPM_PER_KW_DESIGN:g} or "
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
            f"SELECT max(score) AS value FROM {SCORES} WHERE {NOW} AND {RACK}",
            "none",
            "The worst device's anomaly score in the newest minutes.",
            panels.SCORES,
            span=2,
            decimals=2,
            empty="normal",
        ),
        panels.heat(
            "GPU utilization",
            each("gpu", "avg(util_pct_mean)"),
            panels.unit("gpu", "util_pct"),
            "A row per GPU. A dark row in a bright rack is an idle GPU among busy peers.",
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
            "A line per GPU. One away from the others has another load, or is throttled.",
            low=0,
        ),
        panels.graph(
            "GPU temperature",
            each("gpu", "avg(temp_c_mean)"),
            panels.unit("gpu", "temp_c"),
            "A line per GPU. One above the others: a bad cold plate or interface; all rising together: the coolant.",
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
            "Throttle reasons",
            THROTTLES,
            "DCGM's clock event reasons, the worst of a node's GPUs. A hardware slowdown is a fault of power or board.",
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
            "Failed supplies by shelf. The shelf runs with one failed (N+1), not with two.",
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
            LEAKS,
            "A sensor fault is not a leak. Isolated: the facility has shut the rack's liquid or power off.",
            height=5,
        ),
        panels.graph(
            "Scores",
            f"SELECT $__timeInterval(ts) AS time, device, max(score) AS score FROM {SCORES} WHERE "
            f"$__timeFilter(ts) AND {RACK} AND "
            f"device IN (SELECT device FROM {SCORES} WHERE $__timeFilter(ts) AND {RACK} GROUP BY device "
            "ORDER BY max(score) DESC LIMIT 12) "
            f"GROUP BY time, device ORDER BY time, device",
            "none",
            f"The twelve most anomalous devices; above {SCORE_NOTICE:g} is worth a look.",
            low=0,
            high=1,
            height=5,
            thresholds=panels.SCORES,
            empty="none: every device is normal",
        ),
        panels.table(
            "All GPUs",
            GPUS,
            "Newest 10 s of every GPU of the rack, most anomalous first. A link opens the GPU's board.",
            span=24,
            height=12,
            links={"device": TO_GPU, "job": TO_JOB},
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
    )
    return Board(
        "rack",
        20,
        "which GPU, node, shelf or loop of this rack",
        "One rack: GPUs, nodes, power path and coolant loop.",
        shown,
        (variables.site(multi=False), variables.rack(), *variables.tiers("rolled", "window")),
        incidents=RACK,
        xids=RACK,
        pictures=(("rack", "rack.png"),),
    )
