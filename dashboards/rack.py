"""The rack page: one rack's GPUs, power path and coolant loop side by side."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as dash
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync

from dashboards import panels
from dashboards.clickhouse import DATABASE as DB

UID = "gigawatch-rack"


def gpus(column: str) -> str:
    """A line per GPU, from the 10 s tier."""
    return (f"SELECT $__timeInterval(ts) AS time, device, avg({column}) AS value FROM {DB}.gpu_10s WHERE $__timeFilter(ts) AND rack = '$rack' "
            "GROUP BY time, device ORDER BY time, device")


def spread(metric: str) -> str:
    """Lowest, mean and highest GPU of the rack."""
    return (f"SELECT $__timeInterval(ts) AS time, min({metric}_mean) AS lowest, avg({metric}_mean) AS mean, max({metric}_max) AS highest "
            f"FROM {DB}.gpu_10s WHERE $__timeFilter(ts) AND rack = '$rack' GROUP BY time ORDER BY time")


def rack(columns: str) -> str:
    return (f"SELECT $__timeInterval(ts) AS time, {columns} FROM {DB}.rack_windows FINAL WHERE $__timeFilter(ts) AND rack = '$rack' AND window_s = 10 "
            "GROUP BY time ORDER BY time")


_GPUS = (f"SELECT g.device AS device, g.job AS job, g.util_pct_mean AS util_pct, g.temp_c_mean AS temp_c, g.temp_margin_c_mean AS margin_c, "
         "g.power_w_mean AS power_w, g.sm_clock_mhz_mean AS sm_clock_mhz, g.mem_temp_c_max AS mem_temp_c, g.xid_max AS xid, s.score AS score, s.cause AS cause "
         f"FROM (SELECT * FROM {DB}.gpu_10s WHERE $__timeFilter(ts) AND rack = '$rack' ORDER BY ts DESC LIMIT 1 BY device) AS g "
         f"LEFT JOIN (SELECT device, max(a.score) AS score, argMax(a.cause, a.score) AS cause FROM {DB}.scores AS a WHERE rack = '$rack' AND $__timeFilter(ts) "
         f"AND ts > (SELECT max(ts) FROM {DB}.scores WHERE $__timeFilter(ts)) - INTERVAL 30 SECOND GROUP BY device) AS s USING (device) "
         "ORDER BY score DESC NULLS LAST, device LIMIT 100")


def dashboard() -> dash.Dashboard:
    """Graphs share the crosshair, so that cause and effect line up."""
    return (
        dash.Dashboard("Gigawatch: rack").uid(UID).tags(["gigawatch"]).description("One rack: GPUs, power and coolant.").editable()
        .time("now-30m", "now").refresh("10s").timezone("browser").tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(panels.variable("rack", "Rack", f"SELECT DISTINCT rack FROM {DB}.rack_windows WHERE $__timeFilter(ts) ORDER BY rack"))
        .with_panel(panels.graph("GPU power", gpus("power_w_mean"), panels.unit("gpu", "power_w"), "Mean over 10 s, a line per GPU.", low=0))
        .with_panel(panels.graph("GPU temperature", gpus("temp_c_mean"), panels.unit("gpu", "temp_c"), "Mean over 10 s, a line per GPU."))
        .with_panel(panels.graph("GPU utilization", spread("util_pct"), panels.unit("gpu", "util_pct"),
                                 "Lowest, mean and highest GPU.", low=0, high=100, span=8))
        .with_panel(panels.graph("SM clock", spread("sm_clock_mhz"), panels.unit("gpu", "sm_clock_mhz"),
                                 "Lowest, mean and highest GPU: a throttled GPU shows as a low lowest.",
                                 span=8))
        .with_panel(panels.graph("HBM temperature", spread("mem_temp_c"), panels.unit("gpu", "mem_temp_c"),
                                 "Lowest, mean and highest; upper critical is 95 C.", span=8))
        .with_panel(panels.graph("Power path", rack("avg(rack_power_w) AS meter, avg(gpu_power_w) AS GPUs, avg(node_power_w) AS CPUs_DPUs, avg(heat_w) AS "
                                 "coolant_heat"), "watt", "Rack meter, its parts, and the heat that the coolant carries away.", low=0))
        .with_panel(panels.graph("Heat balance", rack("avg(heat_balance) AS ratio"), "none", "Coolant heat over rack power, 10 s windows; healthy near 0.94."))
        .with_panel(panels.graph("Coolant temperatures", rack("avg(supply_temp_c) AS supply, avg(return_temp_c) AS return"), "celsius",
                                 "Into and out of the rack.", span=8))
        .with_panel(panels.graph("Coolant flow", rack("avg(flow_lpm) AS flow"), panels.unit("cooling", "flow_lpm"),
                                 "Litres a minute through the rack.", low=0, span=8))
        .with_panel(panels.graph("Power shelves", f"SELECT $__timeInterval(ts) AS time, device, avg(power_w_mean) AS value FROM {DB}.power_10s WHERE "
                                 "$__timeFilter(ts) AND rack = '$rack' AND model = 'power-shelf' GROUP BY time, device ORDER BY time, device", "watt",
                                 "DC output of each shelf; a lost supply shows as a step.", low=0, span=8))
        .with_panel(panels.table("GPUs", _GPUS, "Newest 10 s of every GPU of the rack, most anomalous first.", span=24, height=12, scores=["score"],
                                 units={"util_pct": "percent", "temp_c": "celsius", "margin_c": "celsius", "power_w": "watt", "sm_clock_mhz": "rotmhz",
                                        "mem_temp_c": "celsius"}))
    )
