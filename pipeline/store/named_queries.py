"""Named queries: what an operator asks most, as SQL over the store.

Each answers for the newest moment that is stored.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.store.select import Select
from schemas.catalogue import KINDS
from schemas.tables import DATABASE
from schemas.thresholds import HEAT_BALANCE, HEAT_BALANCE_OFF, WINDOW_COVERAGE


@dataclass(frozen=True, slots=True)
class NamedQuery:
    """`{limit}` in the SQL is how many rows."""

    name: str
    help: str
    sql: str
    nothing: str = "nothing of the kind is stored yet (windows close about 15 s after a factory starts)"


#: Seconds back from the newest scores that count as now.
RECENT_S = 30


def latest(table: str, window_s: int) -> str:
    """The newest row of every site (and rack) within a minute of the newest of all: partitions do not close in step."""
    where = f"window_s = {window_s}"
    per = "site, rack" if table == "rack_windows" else "site"
    return (
        f"(SELECT * FROM {DATABASE}.{table} FINAL WHERE {where} AND ts > (SELECT max(ts) FROM "
        f"{DATABASE}.{table} WHERE {where}) "
        f"- INTERVAL 60 SECOND ORDER BY ts DESC LIMIT 1 BY {per})"
    )


def worst_devices(now: str, limit: str) -> Select:
    """The most anomalous devices of the half minute before `now` (SQL): device, rack, kind, worst, why, is, should_be,
    seen.
    """
    return Select(
        (
            "device",
            "rack",
            "kind",
            "round(max(score), 3) AS worst",
            "argMax(cause, score) AS why",
            "round(argMax(value, score), 2) AS is",
            "round(argMax(expected, score), 2) AS should_be",
            "max(ts) AS seen",
        ),
        f"{DATABASE}.scores",
        (f"ts > {now} - INTERVAL {RECENT_S} SECOND",),
        ("kind", "rack", "device"),
        order=("worst DESC", "device"),
        limit=limit,
    )


def _stored(kind: str) -> str:
    """One kind's rows, devices, time span and bytes."""
    frames = f"{DATABASE}.{kind}_frames"
    seen = Select(("who",), frames).subquery()
    devices = Select(
        ("uniqExact(site, place, name)",),
        f"{DATABASE}.identities ARRAY JOIN rack AS place, device AS name",
        (f"who IN {seen}",),
    )
    size = Select(
        ("sum(bytes_on_disk)",),
        "system.parts",
        (f"database = '{DATABASE}'", f"table = '{kind}_frames'", "active"),
    )
    return Select(
        (
            f"'{kind}' AS kind",
            "sum(rows) AS rows",
            f"{devices.subquery()} AS devices",
            "min(ts) AS first",
            "max(ts) AS last",
            f"{size.subquery()} AS bytes",
        ),
        frames,
    ).sql()


_RACKS, _SITES = latest("rack_windows", 60), latest("site_windows", 60)
_GPUS = (
    f"(SELECT * FROM {DATABASE}.gpu_10s WHERE ts > (SELECT max(ts) FROM {DATABASE}.gpu_10s) - INTERVAL 30 SECOND "
    "ORDER BY ts DESC LIMIT 1 BY site, rack, device)"
)


QUESTIONS: dict[str, NamedQuery] = {
    q.name: q
    for q in (
        NamedQuery(
            "heat-balance",
            "Does each loaded rack's coolant carry away what its meter reads? Healthy: 0.92 to 0.96.",
            "SELECT site, rack, round(rack_power_w / 1000, 2) AS power_kw, round(heat_w / 1000, 2) AS heat_kw, "
            "round(flow_lpm, 1) AS flow_lpm, "
            "round(return_temp_c - supply_temp_c, 2) AS delta_t_k, round(heat_balance, 3) AS heat_balance, "
            f"multiIf(coverage < {WINDOW_COVERAGE:g}, 'window not full yet', abs(heat_balance - {HEAT_BALANCE:g}) > "
            f"{HEAT_BALANCE_OFF:g}, 'does not close', "
            "'closes') AS verdict "
            f"FROM {_RACKS} WHERE heat_balance IS NOT NULL "
            f"ORDER BY abs(heat_balance - {HEAT_BALANCE:g}) DESC, rack LIMIT {{limit}}",
        ),
        NamedQuery(
            "hottest",
            "The hottest GPUs over the newest 10 s.",
            "SELECT device, model, job, round(temp_c_mean, 1) AS temp_c, round(mem_temp_c_max, 1) AS "
            "mem_temp_c, round(temp_margin_c_mean, 1) AS "
            "margin_c, round(power_w_mean, 1) AS power_w, round(sm_clock_mhz_mean) AS sm_clock_mhz "
            f"FROM {_GPUS} ORDER BY temp_c_mean DESC, device LIMIT {{limit}}",
        ),
        NamedQuery(
            "busiest",
            "The busiest jobs over the newest 10 s: GPUs, utilization, power.",
            "SELECT if(job = '', '(no job)', job) AS job, uniqExact(device) AS gpus, uniqExact(rack) AS racks, "
            "round(avg(util_pct_mean), 1) AS util_pct, "
            "round(avg(tensor_active_mean), 3) AS tensor_active, round(sum(power_w_mean) / 1000, 1) AS power_kw "
            f"FROM {_GPUS} GROUP BY job ORDER BY power_kw DESC LIMIT {{limit}}",
        ),
        NamedQuery(
            "power",
            "Power of GPUs, CPUs and the rest, by rack, over the newest minute.",
            "SELECT site, rack, model, gpus, round(rack_power_w / 1000, 2) AS rack_kw, round(gpu_power_w / "
            "1000, 2) AS gpus_kw, "
            "round(node_power_w / 1000, 2) AS cpus_dpus_kw, round((rack_power_w - gpu_power_w - node_power_w) "
            "/ 1000, 2) AS rest_kw, "
            "round(gpu_power_w / nullIf(rack_power_w, 0), 3) AS gpu_share "
            f"FROM {_RACKS} ORDER BY rack_power_w DESC, rack LIMIT {{limit}}",
        ),
        NamedQuery(
            "pue",
            "Site power and PUE over the newest minute.",
            "SELECT site, ts, racks, gpus, round(util_pct_mean, 1) AS util_pct, round(it_power_w / 1e6, 3) AS it_mw, "
            "round(facility_power_w / 1e6, 3) AS facility_mw, round(cooling_power_w / 1e6, 3) AS cooling_mw, "
            "round(pue, 3) AS pue, "
            "round(heat_balance, 3) AS heat_balance "
            f"FROM {_SITES} ORDER BY site LIMIT {{limit}}",
        ),
        NamedQuery(
            "worst",
            "The most anomalous devices of the newest 30 s, with the cause.",
            worst_devices(f"(SELECT max(ts) FROM {DATABASE}.scores)", "{limit}").sql(),
            "no device is anomalous",
        ),
        NamedQuery(
            "incidents",
            "Open incidents, newest first, then closed ones.",
            "SELECT opened, if(open = 1, 'open', 'closed') AS state, kind, device, rack, job, cause, "
            "round(peak, 3) AS peak, "
            "if(open = 1, NULL, closed) AS closed "
            f"FROM {DATABASE}.incidents FINAL ORDER BY open DESC, opened DESC LIMIT {{limit}}",
            "no incident is stored",
        ),
        NamedQuery(
            "energy",
            "Energy by job over everything stored, from the counters.",
            "SELECT if(job = '', '(no job)', job) AS job, uniqExact(device) AS gpus, round(sum(energy_j_inc) / "
            "3.6e6, 3) AS kwh, "
            "min(ts) AS since, max(ts) AS until "
            f"FROM {DATABASE}.gpu_10s GROUP BY job ORDER BY kwh DESC LIMIT {{limit}}",
        ),
        NamedQuery(
            "silent",
            "Racks that report fewer GPUs than expected.",
            "SELECT site, rack, gpus, gpus_expected, gpus_expected - gpus AS silent, ts FROM "
            f"{latest('rack_windows', 10)} "
            "WHERE gpus < gpus_expected "
            "ORDER BY silent DESC, rack LIMIT {limit}",
            "every expected GPU reports",
        ),
        NamedQuery(
            "stored",
            "What is stored: rows, devices, time span and bytes by kind.",
            "SELECT * FROM (" + " UNION ALL ".join(map(_stored, KINDS)) + ") ORDER BY kind LIMIT {limit}",
        ),
    )
}
