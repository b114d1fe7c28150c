"""Power: from the feed to the rack, how fast it changes, and the headroom."""

from __future__ import annotations

from dashboards import blast, panels, variables
from dashboards.board import Board
from dashboards.links import TO_RACK
from dashboards.sql import (
    IN_ROW,
    NOW,
    POWER_10S,
    POWER_RAW,
    RACK_WINDOWS,
    ROW,
    SITE,
    provisioned_w,
    racks_now,
    rolled,
    site_over,
    sites_now,
    tiered,
)
from schemas.thresholds import LOAD_HIGH

_METERS = f"WHERE $__timeFilter(ts) AND {SITE} AND model = 'rack-meter' AND {IN_ROW}"
_OVER = f"FROM {RACK_WINDOWS} WHERE $__timeFilter(ts) AND {SITE} AND {IN_ROW} AND window_s = $window"
_RACKS = racks_now(60, IN_ROW)
#: Every sample of the part of the range that the panel shows: what one second can show. The newest moments, of which
#: not all meters are stored yet, are left out: they would look like a power cut.
_EVERY = (
    "SELECT ts, power FROM (SELECT ts, sum(power_w_mean) AS power, count() AS meters, max(meters) OVER () AS "
    f"most FROM {POWER_RAW} WHERE "
    f"$__timeFilter(ts) AND {SITE} AND model = 'rack-meter' AND {IN_ROW} GROUP BY ts) WHERE meters >= 0.9 * most"
)
#: The number of racks at each moment or interval, and the most in the range.
_WHOLE = "count() AS racks, max(racks) OVER () AS most"
ALIASING = (
    "A sample a second shows swings slower than half a hertz. Training swings at 0.2 to 3 Hz (arXiv "
    "2508.14318): faster ones fold back and look "
    "slow. Judge their size here, not their pace."
)

_HEADROOM = (
    f"SELECT {ROW} AS row, count() AS racks, sum({provisioned_w()}) AS provisioned, sum(rack_power_w) AS now, "
    "sum(highest) AS highest, provisioned "
    f"- highest AS headroom, now / provisioned AS of_provisioned FROM {_RACKS} AS r LEFT JOIN (SELECT site, "
    "rack, max(rack_power_w) AS highest "
    f"{_OVER} GROUP BY site, rack) AS p USING (site, rack) GROUP BY row ORDER BY headroom, row LIMIT 200"
)

_BREAKERS = (
    f"SELECT rack, avg(current_a_mean) / avg(current_limit_a_mean) AS load FROM {POWER_10S} WHERE {NOW} AND "
    f"{SITE} AND model = 'rack-meter' AND "
    f"{IN_ROW} AND current_limit_a_mean > 0 GROUP BY rack ORDER BY load DESC, rack LIMIT 12"
)


def meters(columns: str) -> str:
    return f"SELECT $__timeInterval(ts) AS time, {columns} FROM {tiered('power')} {_METERS} GROUP BY time ORDER BY time"


def board() -> Board:
    """Key figures; feeds and meters; pace and swings; rows, breakers, shelves."""
    shown = (
        panels.stat(
            "Facility",
            f"SELECT sum(facility_power_w) AS value FROM {sites_now()}",
            "watt",
            "Utility meters, newest minute.",
            span=4,
            decimals=2,
        ),
        panels.stat(
            "IT",
            f"SELECT sum(rack_power_w) AS value FROM {_RACKS}",
            "watt",
            "Rack meters of the chosen rows, newest minute.",
            span=4,
            decimals=2,
        ),
        panels.stat(
            "Provisioned",
            f"SELECT sum({provisioned_w()}) AS value FROM {_RACKS}",
            "watt",
            "Provisioned power of these racks: all parts at TDP, from the hardware catalogue.",
            span=4,
            decimals=2,
        ),
        panels.stat(
            "Overhead",
            f"SELECT sum(facility_power_w) - sum(it_power_w) AS value FROM {sites_now()}",
            "watt",
            "Cooling, distribution and everything else that is not IT.",
            span=4,
            decimals=2,
        ),
        panels.stat(
            "Steepest ramp",
            "SELECT max(abs(power - before)) * 6 AS value FROM (SELECT ts, power, lagInFrame(power) OVER "
            "(ORDER BY ts) AS before, "
            f"row_number() OVER (ORDER BY ts) AS n FROM (SELECT ts, sum(rack_power_w) AS power, {_WHOLE} FROM "
            f"{RACK_WINDOWS} FINAL WHERE ts > "
            f"$__toTime - INTERVAL 15 MINUTE AND ts <= $__toTime AND {SITE} AND {IN_ROW} AND window_s = 10 "
            "GROUP BY ts) WHERE racks >= 0.9 * most) "
            f"WHERE n > 1",
            "watt",
            "Largest change from one 10 s mean to the next in the last quarter hour, a minute's worth. Utilities limit "
            "ramps; ask yours.",
            span=4,
            decimals=2,
        ),
        panels.stat(
            "Swing",
            f"SELECT max(power) - min(power) AS value FROM ({_EVERY})",
            "watt",
            f"Highest minus lowest second of the last five minutes. {ALIASING}",
            span=4,
            decimals=2,
            last="5m",
        ),
        panels.graph(
            "Feeds and meters",
            site_over(
                "avg(facility_power_w) AS facility, avg(it_power_w) AS IT, avg(gpu_power_w) AS GPUs, "
                "avg(cooling_power_w) AS cooling"
            ),
            "watt",
            "From the utility meter down: facility, racks, GPUs; cooling beside them.",
            low=0,
        ),
        panels.graph(
            "By row",
            f"SELECT time, row, sum(power) AS power FROM (SELECT $__timeInterval(ts) AS time, {ROW} AS row, "
            "rack, avg(rack_power_w) AS "
            f"power {_OVER} GROUP BY time, row, rack) GROUP BY time, row ORDER BY time, row LIMIT 40000",
            "watt",
            "Racks by row.",
            low=0,
        ),
        panels.graph(
            "Every second",
            f"SELECT ts AS time, power AS racks FROM ({_EVERY}) ORDER BY time",
            "watt",
            f"Sum of the rack meters at each sample of the last five minutes of the range. {ALIASING}",
            span=12,
            last="5m",
        ),
        panels.graph(
            "Swing above the mean",
            "SELECT $__timeInterval(ts) AS time, rack, avg(power_w_max - power_w_mean) AS swing FROM "
            f"{rolled('power')} "
            f"{_METERS} AND rack IN (SELECT rack FROM {POWER_10S} WHERE {NOW} AND {SITE} AND model = "
            f"'rack-meter' AND {IN_ROW} GROUP BY rack "
            f"ORDER BY avg(power_w_max - power_w_mean) DESC LIMIT 12) GROUP BY time, rack ORDER BY time, rack",
            "watt",
            f"Highest sample minus mean of each interval, the twelve racks that swing most. {ALIASING}",
            low=0,
        ),
        panels.graph(
            "Ramp",
            "SELECT time, (power - lagInFrame(power, 1, power) OVER (ORDER BY time)) / $__interval_s * 60 AS "
            "ramp FROM (SELECT time, "
            f"sum(p) AS power, {_WHOLE} FROM (SELECT $__timeInterval(ts) AS time, rack, avg(rack_power_w) AS p "
            f"{_OVER} GROUP BY time, rack) GROUP "
            f"BY time) WHERE racks >= 0.9 * most ORDER BY time",
            "watt",
            "Change of the racks' power a minute, from interval to interval. Spikes "
            "are jobs that start, stop or checkpoint.",
            span=8,
        ),
        panels.bars(
            "Breaker load",
            _BREAKERS,
            "percentunit",
            f"Current over the breaker's rating, the twelve highest. Above {LOAD_HIGH:.0%} is more than a "
            f"continuous load should be.",
            panels.LOADS,
            high=1,
            decimals=0,
        ),
        panels.graph(
            "Voltage and frequency",
            meters("avg(voltage_v_mean) AS voltage, avg(frequency_hz_mean) AS frequency"),
            panels.unit("power", "voltage_v"),
            "Means over the rack meters. Frequency leaves 60 Hz (or 50) when the grid is unstable.",
            span=8,
            units={"frequency": "hertz"},
        ),
        panels.table(
            "Capacity by row",
            _HEADROOM,
            "Headroom: provisioned minus each rack's highest in the range. A row with little is full; one with much "
            "strands power.",
            height=9,
            units={
                "provisioned": "watt",
                "now": "watt",
                "highest": "watt",
                "headroom": "watt",
                "of_provisioned": "percentunit",
            },
            colours={"of_provisioned": panels.LOADS},
            decimals={"provisioned": 1, "now": 1, "highest": 1, "headroom": 1},
        ),
        panels.graph(
            "Shelves out of step",
            f"SELECT $__timeInterval(ts) AS time, rack, (max(power_w_mean) - min(power_w_mean)) / max(power_w_mean) AS "
            f"apart FROM {rolled('power')} WHERE $__timeFilter(ts) AND {SITE} AND {IN_ROW} AND model = "
            "'power-shelf' AND rack IN (SELECT rack FROM "
            f"{POWER_10S} WHERE {NOW} AND {SITE} AND {IN_ROW} AND model = 'power-shelf' GROUP BY rack ORDER "
            "BY max(power_w_mean) / "
            f"min(power_w_mean) DESC LIMIT 12) GROUP BY time, rack ORDER BY time, rack",
            "percentunit",
            "Strongest minus weakest shelf of a rack, the twelve widest. Shelves share evenly; one that lost a "
            "supply gives a sixth less.",
            low=0,
            height=9,
        ),
        *blast.shown("a feed, UPS, PDU or breaker"),
        panels.table(
            "Power supplies",
            f"SELECT site, device, rack, argMax(psu_count_max, ts) AS fitted, argMax(psu_failed_max, ts) AS failed, "
            f"argMax(temp_c_max, ts) AS hottest, argMax(power_w_mean, ts) AS power FROM {POWER_10S} WHERE "
            f"{NOW} AND {SITE} AND {IN_ROW} AND "
            f"model = 'power-shelf' GROUP BY site, device, rack ORDER BY failed DESC, hottest DESC, device LIMIT 20",
            "Shelves with failed supplies first, then the hottest.",
            span=24,
            links={"rack": TO_RACK},
            hidden=["site"],
            units={"power": "watt", "hottest": "celsius"},
            colours={"failed": panels.ANY},
            decimals={"hottest": 0, "fitted": 0, "failed": 0},
        ),
    )
    return Board(
        "power",
        40,
        "feeds, meters, ramps, swings, what is left by row",
        "Feeds, meters and shelves; ramps and swings; capacity by row.",
        shown,
        (variables.site(), variables.row(), blast.element("power"), *variables.tiers("tier", "rolled", "window")),
        incidents=f"{SITE} AND kind = 'power'",
        pictures=(("power", "power.png"),),
    )
