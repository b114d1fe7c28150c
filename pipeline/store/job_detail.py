"""The named query about one job: what it is, its nodes, its GPUs by rank with what each costs it."""

from __future__ import annotations

from itertools import pairwise

from pipeline.store import holds
from pipeline.store.jobs_queries import OPEN, STATES, held_gpus, holdings, known, totals
from pipeline.store.question import KNOWN_GPUS, NEWEST, NamedQuery
from pipeline.store.select import Select, of
from pipeline.store.tiers import TIERS, Tier
from schemas.tables import DATABASE
from schemas.thresholds import IDLE_PCT, JOB_ACTIVE_LEAST, STRAGGLER_SHARE

_THIS = "job = {about:String}"

_HEAD = NamedQuery(
    "job",
    "One job: what it is, its nodes, its GPUs by rank with what each costs it.",
    Select(
        (
            *("k.site AS site", "k.job AS job", "h.scheduler AS scheduler"),
            *of("j", "user", "account", "name", "partition"),
            "multiIf(j.state != '', j.state, h.running = 1, 'RUNNING', 'ENDED') AS state",
            "j.reason AS reason",
            f"if({OPEN.format('j.submitted')}, NULL, j.submitted) AS submitted",
            "if(h.job = '', NULL, h.since) AS started",
            "if(h.job = '' OR h.running = 1, NULL, h.until_all) AS ended",
            *("h.nodes AS nodes", "h.racks AS racks", "round(h.gpus, 2) AS gpus"),
            *("round(t.util_pct, 1) AS util_pct", "round(t.kwh, 3) AS kwh"),
            *("round(t.gpu_h, 2) AS gpu_h", "round(t.idle_gpu_h, 2) AS idle_gpu_h"),
        ),
        f"(SELECT site, job FROM {DATABASE}.held WHERE {_THIS} UNION DISTINCT SELECT site, job FROM {DATABASE}.jobs "
        f"WHERE {_THIS}) AS k LEFT JOIN {holdings(_THIS)} AS h ON k.site = h.site AND k.job = h.job "
        f"LEFT JOIN {known(_THIS)} AS j ON k.site = j.site AND k.job = j.job "
        f"LEFT JOIN {totals(_THIS)} AS t ON k.site = t.site AND k.job = t.job",
        order=("site",),
        limit="{limit}",
    ).sql(),
    "no such job; `gigawatch query jobs` lists those of the last day",
)

_NODES = NamedQuery(
    "nodes of the job",
    "Its nodes",
    Select(
        (
            *("h.site AS site", "max(h.rack) AS rack", "h.node AS node", "round(sum(h.gpus), 2) AS gpus"),
            *("any(s.state) AS node_state", "any(s.reason) AS node_reason"),
            *("min(h.started) AS from", "if(max(h.open) = 1, NULL, max(h.until)) AS until"),
        ),
        f"{held_gpus(_THIS)} AS h LEFT JOIN {STATES} AS s ON h.site = s.site AND h.node = s.node",
        group=("h.site", "h.node"),
        order=("min(h.rank)", "node"),
        limit="{limit}",
    ).sql(),
)

# -- its GPUs, at the end of its time or now ---------------------------------------------------------------------------

_END = f"least((SELECT max(until) FROM {DATABASE}.held WHERE {_THIS}), {NEWEST})"
_AGE = f"dateDiff('second', {_END}, now64(3))"
_ACTIVE = "coalesce(sm_active_mean, util_pct_mean / 100)"
#: Frames of its nodes, and of boards that it names.
_FRAMES = (
    f"who IN (SELECT who FROM {DATABASE}.identities WHERE "
    f"hasAny(node, (SELECT groupUniqArray(node) FROM {DATABASE}.held WHERE {_THIS})) OR "
    f"hasAny(board, (SELECT groupUniqArray(device) FROM {DATABASE}.held WHERE {_THIS})))"
)


def _rows_of(tier: Tier, finer: Tier) -> str:
    """Rows of the ten minutes (of hours the two) before its end, from one tier, where no finer one has them still."""
    kept = [f"{_AGE} < {(tier.ttl_days - 1) * 86_400}"]
    if finer.width_s:
        kept.append(f"{_AGE} >= {(finer.ttl_days - 1) * 86_400}")
    span = max(600, 2 * tier.width_s)
    columns = ("ts", *holds.WHO, "samples", f"{_ACTIVE} AS active", "util_pct_mean", "power_w_mean", "temp_c_max")
    during = (f"ts > {_END} - INTERVAL {span} SECOND", f"ts < {_END} + INTERVAL {tier.width_s} SECOND")
    return Select((*columns, f"{tier.width_s} AS width_s"), tier.view("gpu"), (*kept, *during, _FRAMES)).sql()


_ROWS = f"({' UNION ALL '.join(_rows_of(tier, finer) for finer, tier in pairwise(TIERS))})"
#: A GPU that it holds, as its hold names it: by itself, or within a node that is held whole.
_UNIT = "if({1}, concat({0}, '\\n', device), {0}) AS unit"
_HEARD = Select(
    (
        *("site", "rack", "node", "device", "board", "spans_now[1].5 AS rank", "spans_now[1].6 AS whole"),
        _UNIT.format("spans_now[1].7", "whole"),
        *("samples", "active", "util_pct_mean", "power_w_mean", "temp_c_max"),
    ),
    holds.matched(_ROWS, holds.holds("gpu", _THIS), "r.width_s", "INNER"),
    ("notEmpty(spans_now)",),
).sql()
_LAST = Select(("*",), f"{DATABASE}.held", (_THIS, f"started < {_END}", f"until >= {_END}")).subquery()
_NOTHING = "0 AS samples, NULL AS active, NULL AS util_pct_mean, NULL AS power_w_mean, NULL AS temp_c_max"
_NAMED = (
    f"SELECT site, rack, node, device, '' AS board, rank, 0 AS whole, device AS unit, {_NOTHING} FROM {_LAST} "
    "WHERE device != ''"
)
_OF_NODES = (
    "SELECT k.site AS site, k.rack AS rack, k.node AS node, k.device AS device, if(k.asset = k.device, '', k.asset) AS "
    f"board, h.rank AS rank, 1 AS whole, concat({holds.WHOLE}, k.node, '\\n', k.device) AS unit, {_NOTHING} FROM "
    f"{KNOWN_GPUS} AS k INNER JOIN (SELECT site, node, rank FROM {_LAST} WHERE device = '') AS h "
    "ON k.site = h.site AND k.node = h.node"
)
_PER_GPU = Select(
    (
        *("site", "unit", "max(samples) = 0 AS unheard", "max(whole) AS in_whole", "min(rank) AS first_rank"),
        *(f"argMax({name}, samples) AS its_{name}" for name in ("rack", "node", "device", "board")),
        "sum(active * samples) / sumIf(samples, isNotNull(active)) AS activity",
        "sum(util_pct_mean * samples) / sumIf(samples, isNotNull(util_pct_mean)) AS util_pct",
        "sum(power_w_mean * samples) / sumIf(samples, isNotNull(power_w_mean)) AS power_w",
        "max(temp_c_max) AS temp_c",
    ),
    f"({_HEARD} UNION ALL {_NAMED} UNION ALL {_OF_NODES})",
    group=("site", "unit"),
).subquery()
#: In a node that is held whole ranks count on in the order of names.
_RANK = (
    "first_rank + if(in_whole, row_number() OVER (PARTITION BY site, its_node, in_whole ORDER BY its_device) - 1, 0) "
    "AS rank"
)
_MEDIAN = "quantileExactInclusive(0.5)(activity) OVER (PARTITION BY site) AS median"
_VERDICT = (
    f"multiIf(unheard = 1, 'silent', util_pct < {IDLE_PCT:g}, 'idle', "
    f"median >= {JOB_ACTIVE_LEAST:g} AND activity < {STRAGGLER_SHARE:g} * median, 'drags the job', '')"
)
#: All wait for the slowest: what a GPU lacks to the median, every GPU of the job loses. One that idles loses itself.
_COST = (
    f"multiIf(verdict = 'idle', 1, unheard = 1 OR median < {JOB_ACTIVE_LEAST:g}, NULL, "
    "greatest(0, (median - activity) / median * of_job))"
)

_GPUS = NamedQuery(
    "GPUs of the job",
    "Its GPUs: what each costs the job, in GPU-hours an hour; then by rank",
    Select(
        (
            *("rank", "its_rack AS rack", "its_node AS node", "its_device AS device", "its_board AS board"),
            *("round(util_pct, 1) AS util_pct", "round(activity, 3) AS activity", "round(power_w, 1) AS power_w"),
            *("round(temp_c, 1) AS temp_c", f"{_VERDICT} AS verdict", f"round({_COST}, 3) AS costs_gpu_h"),
        ),
        f"(SELECT *, {_RANK}, {_MEDIAN}, count() OVER (PARTITION BY site) AS of_job FROM {_PER_GPU})",
        order=(
            "verdict = 'drags the job' DESC",
            "costs_gpu_h * (verdict != '') DESC NULLS LAST",
            "unheard DESC",
            "rank",
        ),
        limit="{limit}",
    ).sql(),
)

JOB = NamedQuery(_HEAD.name, _HEAD.help, _HEAD.sql, _HEAD.nothing, "JOB", (_NODES, _GPUS))
