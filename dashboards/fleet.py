"""The fleet overview: is the site well, what does it draw, which devices and racks need a look."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as dash
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync

from dashboards import panels
from dashboards.clickhouse import DATABASE as DB

UID = "gigawatch-fleet"

_SITE = f"FROM {DB}.site_windows FINAL WHERE $__timeFilter(ts) AND site IN ($site) AND window_s"


def latest(column: str, window_s: int) -> str:
    """The newest value over the chosen sites: their sum or mean is `column`."""
    return (f"SELECT {column} AS value FROM (SELECT * FROM {DB}.site_windows FINAL WHERE $__timeFilter(ts) AND site IN ($site) AND window_s = {window_s} "
            "ORDER BY ts DESC LIMIT 1 BY site)")


def over_time(columns: str, window_s: int) -> str:
    return f"SELECT $__timeInterval(ts) AS time, site, {columns} {_SITE} = {window_s} GROUP BY time, site ORDER BY time, site"


WORST = (f"SELECT device, rack, kind, round(max(s.score), 3) AS score, argMax(s.cause, s.score) AS cause, argMax(s.value, s.score) AS value, "
         f"argMax(s.expected, s.score) AS expected, max(s.ts) AS seen FROM {DB}.scores AS s WHERE site IN ($site) AND ts > "
         f"(SELECT max(ts) FROM {DB}.scores WHERE $__timeFilter(ts)) - INTERVAL 30 SECOND AND $__timeFilter(ts) "
         "GROUP BY kind, rack, device ORDER BY score DESC, device LIMIT 15")

_INCIDENTS = (f"SELECT opened, if(open = 1, 'open', 'closed') AS state, device, rack, job, cause, peak FROM {DB}.incidents FINAL "
              "WHERE site IN ($site) AND opened <= $__toTime AND (open = 1 OR $__timeFilter(opened)) ORDER BY open DESC, opened DESC LIMIT 50")

_RACKS = (f"SELECT r.rack AS rack, r.model AS model, r.gpus AS gpus, r.gpus_expected - r.gpus AS silent, r.util_pct_mean AS util_pct, "
          f"r.rack_power_w AS power, r.gpu_temp_c_max AS hottest_gpu, r.flow_lpm AS flow_lpm, r.return_temp_c - r.supply_temp_c AS delta_t, "
          f"r.heat_balance AS heat_balance, s.score AS score FROM (SELECT * FROM {DB}.rack_windows FINAL WHERE $__timeFilter(ts) AND site IN ($site) "
          f"AND window_s = 60 ORDER BY ts DESC LIMIT 1 BY site, rack) AS r LEFT JOIN (SELECT site, rack, max(score) AS score FROM {DB}.scores "
          f"WHERE ts > (SELECT max(ts) FROM {DB}.scores WHERE $__timeFilter(ts)) - INTERVAL 30 SECOND AND $__timeFilter(ts) GROUP BY site, rack) AS s "
          "USING (site, rack) ORDER BY score DESC NULLS LAST, rack LIMIT 200")


def dashboard() -> dash.Dashboard:
    """A stat strip, power and heat over time, worst devices, incidents, racks."""
    green = panels.steps(("green", None))
    rack_link = {"rack": "/d/gigawatch-rack/rack?var-rack=${__value.text}&${__url_time_range}"}
    return (
        dash.Dashboard("Gigawatch: fleet").uid(UID).tags(["gigawatch"]).description("The AI factory at a glance.").editable()
        .time("now-30m", "now").refresh("10s").timezone("browser").tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(panels.variable("site", "Site", f"SELECT DISTINCT site FROM {DB}.site_windows WHERE $__timeFilter(ts) ORDER BY site", multi=True))
        .with_panel(panels.stat("GPUs reporting", latest("sum(gpus)", 10), "none", "GPUs that gave a sample in the newest 10 s.", green))
        .with_panel(panels.stat("GPUs silent", latest("sum(gpus_expected) - sum(gpus)", 10), "none", "Known GPUs that gave no sample in the newest 10 s.",
                                panels.steps(("green", None), ("red", 1))))
        .with_panel(panels.stat("Utilization", latest("sum(util_pct_mean * gpus) / sum(gpus)", 60), "percent", "Fleet GPU utilization, newest minute.",
                                decimals=1))
        .with_panel(panels.stat("IT power", latest("sum(it_power_w)", 60), "watt", "All rack meters, newest minute.", decimals=2))
        .with_panel(panels.stat("PUE", latest("sum(facility_power_w) / sum(it_power_w)", 60), "none", "Facility power over IT power, newest minute. "
                                "Without a utility meter there is none.", panels.steps(("green", None), ("yellow", 1.3), ("red", 1.5)), decimals=3))
        .with_panel(panels.stat("Coolant heat / power", latest("sum(heat_w) / sum(it_power_w)", 60), "none", "Share of rack power that the coolant carries "
                                "away; NVIDIA's facility trace has 0.93 to 0.95.", panels.steps(("red", None), ("green", 0.85), ("red", 1.03)), decimals=3))
        .with_panel(panels.graph("GPU utilization", over_time("avg(util_pct_mean) AS mean, avg(util_pct_p95) AS p95", 60), "percent",
                                 "Rolling minute; p95 over GPUs and ticks.", low=0, high=100))
        .with_panel(panels.graph("Power", over_time("avg(it_power_w) AS IT, avg(facility_power_w) AS facility, avg(heat_w) AS coolant_heat", 60), "watt",
                                 "Rack meters, utility meter, and the heat that the coolant carries.", low=0))
        .with_panel(panels.table("Worst devices", WORST, "Highest anomaly scores of the newest 30 s, with the metric that caused them.", links=rack_link,
                                 scores=["score"]))
        .with_panel(panels.table("Incidents", _INCIDENTS, "Devices that stayed anomalous; open ones first.", links=rack_link, scores=["peak"]))
        .with_panel(panels.table("Racks", _RACKS, "Every rack, worst first.", span=24, height=10, links=rack_link, scores=["score"],
                                 units={"util_pct": "percent", "power": "watt", "hottest_gpu": "celsius", "flow_lpm": "flowlpm", "delta_t": "celsius"}))
        .with_panel(panels.graph("PUE", over_time("avg(pue) AS pue", 60), "none", "Rolling minute."))
        .with_panel(panels.graph("Coolant heat over rack power", f"SELECT $__timeInterval(ts) AS time, rack, avg(heat_balance) AS ratio FROM {DB}.rack_windows "
                                 "FINAL WHERE $__timeFilter(ts) AND site IN ($site) AND window_s = 60 AND rack IN (SELECT rack FROM "
                                 f"{DB}.rack_windows WHERE $__timeFilter(ts) AND window_s = 60 GROUP BY rack "
                                 "ORDER BY max(abs(heat_balance - 0.94)) DESC LIMIT 12) "
                                 "GROUP BY time, rack ORDER BY time, rack", "none", "The twelve racks furthest from 0.94, rolling minute."))
    )
