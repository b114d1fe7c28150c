"""The declared alert rules, each for one thing that an operator must act on, and those of the detector's rules."""

from __future__ import annotations

from dashboards.alerts.detected import by_cause, detected, kinds_of, quoted, without_readings
from dashboards.alerts.rule import PER_DEVICE, PER_RACK, PER_SITE, AlertRule
from dashboards.holds import holds, with_job
from dashboards.sql import (
    COOLING_10S,
    DEAD_LETTERS,
    GPU_10S,
    RACK_WINDOWS,
    SCORES,
    SITE_WINDOWS,
    off_balance,
    provisioned_w,
    stored,
)
from schemas import thresholds
from schemas.thresholds import HEAT_BALANCE, LPM_PER_KW_LEAST, PEERS_LEAST, STRAGGLER_SHARE, WINDOW_COVERAGE

#: GPUs whose readings mean nothing: silent or frozen ones raise that alert and no other.
_WITHOUT_READINGS = (
    f"SELECT device FROM {SCORES} WHERE $__timeFilter(ts) AND cause IN ({quoted(without_readings('gpu'))})"
)


def _gpus(**measures: str) -> str:
    """Each GPU's measures, the median of the first over its job's GPUs in its rack, and their number as `peers`."""
    first, columns = next(iter(measures)), ", ".join(f"{sql} AS {name}" for name, sql in measures.items())
    each = (
        f"SELECT site, rack, device, argMax(node, ts) AS node, argMax(board, ts) AS board, {columns} FROM {GPU_10S} "
        f"WHERE $__timeFilter(ts) AND device NOT IN ({_WITHOUT_READINGS}) GROUP BY site, rack, device"
    )
    return (
        f"SELECT *, quantileExact(0.5)({first}) OVER (PARTITION BY site, rack, job) AS median, count() OVER (PARTITION "
        f"BY site, rack, job) AS peers FROM ({with_job(each, holds(site='1 = 1'))})"
    )


def _latest(kind: str, column: str, where: str) -> str:
    return (
        f"SELECT site, rack, device, argMax({column}, ts) AS value FROM {stored(f'{kind}_10s')} WHERE "
        f"$__timeFilter(ts) AND {where} GROUP BY site, rack, device"
    )


_LATE = (
    f"SELECT site, dateDiff('second', max(ts), $__toTime) AS value FROM {SITE_WINDOWS} WHERE "
    "$__timeFilter(ts) AND window_s = 10 GROUP BY site"
)

DECLARED = (
    by_cause(
        "gpu-lost",
        "A GPU is lost",
        "critical",
        "{device} has stopped reporting, or reports an error that needs a reset",
        "A known GPU has given no sample for 60 s, or its driver reports an XID or memory error that needs a reset.",
        kinds_of("gpu-lost"),
        back_s=300,
    ),
    AlertRule(
        "gpu-hot",
        "A GPU runs hotter than its peers",
        "warning",
        "{device} is {value:.0f} K above its peers: the GPUs of the same job in its rack",
        f"Its die has been more than {thresholds.HOTTER_THAN_PEERS_K:g} K above the median of the GPUs of the same job "
        "in the same rack, for a minute.",
        PER_DEVICE,
        f"SELECT site, rack, device, temp - median AS value FROM ({_gpus(temp='avg(temp_c_mean)')}) WHERE "
        f"peers >= {PEERS_LEAST}",
        thresholds.HOTTER_THAN_PEERS_K,
        board="gpu",
    ),
    AlertRule(
        "gpu-throttled",
        "A GPU is throttled by hardware",
        "warning",
        "{device} is throttled by its hardware (power brake, hardware or thermal slowdown)",
        "DCGM's clock event reasons show a hardware slowdown, a hardware thermal slowdown or a power brake "
        "(0x8, 0x40, 0x80), for a minute.",
        PER_DEVICE,
        "SELECT site, rack, device, avg(bitAnd(toUInt32(ifNull(clock_event_reasons_max, 0)), "
        f"{thresholds.THROTTLE_HW}) > 0) AS value FROM {GPU_10S} WHERE $__timeFilter(ts) AND device NOT IN "
        f"({_WITHOUT_READINGS}) GROUP BY site, rack, device",
        thresholds.THROTTLED_SHARE,
        board="gpu",
    ),
    AlertRule(
        "gpu-straggler",
        "A GPU slows its job down",
        "warning",
        "{device} does {value:.0%} less than its job's other GPUs",
        f"Its SM activity has been below {STRAGGLER_SHARE:.0%} of the median of its job's GPUs in its rack for a "
        "minute and a half, and it works: one that idles in its job is on the jobs board.",
        PER_DEVICE,
        "SELECT site, rack, device, 1 - active / median AS value FROM "
        f"({_gpus(active='avg(sm_active_mean)', util='avg(util_pct_mean)')}) WHERE peers >= {PEERS_LEAST} AND median > "
        f"{thresholds.JOB_ACTIVE_LEAST:g} AND ifNull(util, 100) >= {thresholds.IDLE_PCT:g}",
        1 - STRAGGLER_SHARE,
        board="gpu",
        back_s=90,
    ),
    by_cause(
        "gpu-frozen",
        "A GPU's readings are frozen",
        "warning",
        "{device} repeats the same readings: its exporter or driver hangs",
        "The energy counter does not move while power is drawn.",
        kinds_of("gpu-frozen"),
        limit=thresholds.SCORE_NOTICE,
    ),
    AlertRule(
        "coolant-flow",
        "A rack gets too little coolant",
        "critical",
        "{rack} gets {value:.2f} L/min per kW",
        f"Less than {LPM_PER_KW_LEAST:g} L/min per kW for a minute, in a rack that draws more than "
        f"{thresholds.RACK_WORKS_SHARE:.0%} of its provisioned power.",
        PER_RACK,
        f"SELECT site, rack, min(flow_lpm / rack_power_w) * 1000 AS value FROM {RACK_WINDOWS} WHERE "
        f"$__timeFilter(ts) AND window_s = 60 AND coverage >= {WINDOW_COVERAGE:g} AND rack_power_w > "
        f"{thresholds.RACK_WORKS_SHARE:g} * ifNull({provisioned_w()}, 0) AND flow_lpm IS NOT NULL GROUP BY site, rack",
        LPM_PER_KW_LEAST,
        above=False,
        back_s=180,
    ),
    AlertRule(
        "cdu-pump",
        "A CDU has lost a pump",
        "critical",
        "{device} runs {value:.0f} pump less than within the last hour",
        "A CDU has fewer pumps running than at some time within the last hour.",
        PER_DEVICE,
        "SELECT site, rack, device, max(pumps_running_max) - argMax(pumps_running_max, ts) AS value FROM "
        f"{COOLING_10S} WHERE $__timeFilter(ts) AND model = 'cdu' AND pumps_running_max IS NOT NULL "
        "GROUP BY site, rack, device",
        0,
        back_s=3600,
        board="cooling",
    ),
    AlertRule(
        "leak",
        "Coolant leaks",
        "critical",
        "{device}: its leak sensor is wet",
        "A rack's or CDU's leak sensor has been wet for 30 s.",
        PER_DEVICE,
        _latest("cooling", "leak_max", "leak_max IS NOT NULL"),
        0,
        for_s=30,
        board="cooling",
    ),
    AlertRule(
        "heat-balance",
        "Coolant heat does not match rack power",
        "warning",
        f"{{rack}}: coolant heat over rack power is {{value:.2f}} away from {HEAT_BALANCE:g}",
        f"Coolant heat over the rack meter's power has been more than {thresholds.HEAT_BALANCE_OFF:g} away from "
        f"{HEAT_BALANCE:g} for a minute.",
        PER_RACK,
        f"SELECT site, rack, {off_balance('argMax(heat_balance, ts)')} AS value FROM {RACK_WINDOWS} WHERE "
        f"$__timeFilter(ts) AND window_s = 60 AND coverage >= {WINDOW_COVERAGE:g} AND heat_balance IS NOT NULL GROUP "
        "BY site, rack",
        thresholds.HEAT_BALANCE_OFF,
    ),
    AlertRule(
        "psu-loss",
        "A power shelf has lost a supply",
        "warning",
        "{device}: {value:.0f} power supply has failed",
        "A shelf reports a failed supply, for a minute.",
        PER_DEVICE,
        _latest("power", "psu_failed_max", "model = 'power-shelf' AND psu_failed_max IS NOT NULL"),
        0,
        board="power",
    ),
    AlertRule(
        "telemetry-late",
        "Telemetry is late or has stopped",
        "critical",
        "{site}: the newest data is {value:.0f} s old",
        f"The newest windows of a site are more than {2 * thresholds.FRESH_LATE_S:g} s old.",
        PER_SITE,
        _LATE,
        2 * thresholds.FRESH_LATE_S,
        back_s=900,
        board="health",
        silence_is_bad=True,
    ),
    AlertRule(
        "dead-letters",
        "Messages are dead-lettered",
        "warning",
        "{value:.0f} messages were dead-lettered in the last five minutes; the newest: {reason}",
        "Messages could not be read, or were refused by the store, within the last five minutes.",
        ("reason",),
        f"SELECT argMax(reason, ts) AS reason, count() AS value FROM {DEAD_LETTERS} FINAL WHERE $__timeFilter(ts)",
        0,
        back_s=300,
        board="health",
    ),
)


def all_rules() -> tuple[AlertRule, ...]:
    """Returns the declared alert rules, and one for each further alert that a detector rule raises."""
    return (*DECLARED, *detected({rule.name for rule in DECLARED}))
