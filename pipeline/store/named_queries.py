"""Named queries: what an operator asks most, as SQL over the store.

Each answers for the newest moment that is stored.
"""

from __future__ import annotations

from pipeline.store import holds, places
from pipeline.store.blast_radius import BLAST_RADIUS
from pipeline.store.inventory_queries import ASSETS, PLACE, SILENT
from pipeline.store.job_detail import JOB
from pipeline.store.jobs_queries import BUSIEST, ENERGY, JOBS, NODES
from pipeline.store.question import GPUS, HELD_NOW, RECENT_S, NamedQuery, latest
from pipeline.store.select import Select
from schemas.catalogue import KINDS
from schemas.tables import DATABASE
from schemas.thresholds import HEAT_BALANCE, HEAT_BALANCE_OFF, WINDOW_COVERAGE


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
            "argMax(cause, (score, ts, cause)) AS why",
            "round(argMax(value, (score, ts, cause)), 2) AS is",
            "round(argMax(expected, (score, ts, cause)), 2) AS should_be",
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
        (f"uniqExact(site, {places.UNIT})",),
        f"{DATABASE}.identities ARRAY JOIN rack, device, board",
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
            f"FROM {holds.with_holder(GPUS, HELD_NOW, 10)} ORDER BY temp_c_mean DESC, device LIMIT {{limit}}",
        ),
        BUSIEST,
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
        ENERGY,
        JOBS,
        JOB,
        NODES,
        SILENT,
        BLAST_RADIUS,
        ASSETS,
        PLACE,
        NamedQuery(
            "stored",
            "What is stored: rows, devices, time span and bytes by kind.",
            "SELECT * FROM (" + " UNION ALL ".join(map(_stored, KINDS)) + ") ORDER BY kind LIMIT {limit}",
        ),
    )
}
