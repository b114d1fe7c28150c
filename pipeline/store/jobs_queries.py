"""Named queries about jobs: what runs, what jobs hold and use, and how the nodes are."""

from __future__ import annotations

from pipeline.store import holds
from pipeline.store.question import GPUS, HELD_NOW, KNOWN_GPUS, NEWEST, NamedQuery
from pipeline.store.select import Select
from schemas.tables import DATABASE

_DAY = f"{NEWEST} - INTERVAL 1 DAY"
OPEN = "toYear({0}) = 1970"

#: GPUs of a node, for holds of whole nodes.
_OF_NODE = f"(SELECT site, node, count() AS gpus FROM {KNOWN_GPUS} GROUP BY site, node)"


def held_gpus(*where: str) -> str:
    """Holds with `gpus`, how many each is: its share of one, or of all of its node."""
    return Select(
        ("h.*", "h.share * if(h.device = '', n.gpus, 1) AS gpus"),
        f"{Select(('*',), f'{DATABASE}.held', where).subquery()} AS h LEFT JOIN {_OF_NODE} AS n "
        "ON h.site = n.site AND h.node = n.node",
    ).subquery()


def holdings(*where: str) -> str:
    """A row a job: what it holds now, or held last."""
    return Select(
        (
            *("site", "job", "any(scheduler) AS scheduler", "min(started) AS since", "max(until) AS until_all"),
            "max(open) AS running",
            "if(running, sumIf(gpus, open = 1), sum(gpus)) AS gpus",
            *("uniqExact(node) AS nodes", "uniqExact(rack) AS racks"),
        ),
        held_gpus(*where),
        group=("site", "job"),
    ).subquery()


def known(*where: str) -> str:
    """The newest row of every job that its scheduler names."""
    source = Select(("*",), f"{DATABASE}.jobs FINAL", where, order=("seen DESC",), limit="1 BY site, job")
    return source.subquery()


_MINUTES = f"{DATABASE}.job_windows FINAL"
_NOW = Select(
    (
        *("w.site AS site", "w.job AS job", "sum(w.heard) AS heard", "sum(w.idle) AS idle"),
        "sum(w.power_w) AS power_w",
        "sum(w.util_pct_mean * w.heard) / sumIf(w.heard, isNotNull(w.util_pct_mean)) AS util_pct",
    ),
    Select(
        ("*",),
        _MINUTES,
        ("window_s = 60", f"ts > {NEWEST} - INTERVAL 180 SECOND"),
        order=("ts DESC",),
        limit="1 BY site, job, rack",
    ).subquery()
    + " AS w",
    group=("w.site", "w.job"),
).subquery()


def totals(*where: str) -> str:
    """A row a job: its energy, GPU hours and utilization over all its time."""
    return Select(
        (
            *("site", "job", "sum(energy_j) / 3.6e6 AS kwh", "sum(gpus) / 60 AS gpu_h", "sum(idle) / 60 AS idle_gpu_h"),
            "sum(util_pct_mean * heard) / sumIf(heard, isNotNull(util_pct_mean)) AS util_pct",
        ),
        _MINUTES,
        ("window_s = 60", *where),
        group=("site", "job"),
    ).subquery()


_RECENT = (f"until > {_DAY}",)
_LIVING = (f"({OPEN.format('ended')} OR ended > {_DAY})",)
_KEYS = (
    f"(SELECT site, job FROM {DATABASE}.held WHERE {_RECENT[0]} UNION DISTINCT "
    f"SELECT site, job FROM {DATABASE}.jobs FINAL WHERE {_LIVING[0]})"
)
_FIRST = f"(SELECT min(started) FROM {DATABASE}.held WHERE {_RECENT[0]})"

JOBS = NamedQuery(
    "jobs",
    "Jobs now and of the last day: GPUs that they hold, that are heard and that idle; utilization, power, energy.",
    Select(
        (
            *("k.site AS site", "k.job AS job", "j.user AS user", "j.name AS name"),
            "multiIf(j.state != '', j.state, h.running = 1, 'RUNNING', h.job != '', 'ENDED', '') AS state",
            "round(h.gpus, 2) AS gpus",
            "if(h.running = 1, w.heard, NULL) AS heard",
            "if(h.running = 1, w.idle, NULL) AS idle",
            "round(if(h.running = 1, w.util_pct, t.util_pct), 1) AS util_pct",
            "round(if(h.running = 1, w.power_w, NULL) / 1000, 2) AS power_kw",
            "round(t.kwh, 3) AS kwh",
            f"multiIf(h.job != '', h.since, {OPEN.format('j.started')}, j.submitted, j.started) AS since",
            "if(h.job = '' OR h.running = 1, NULL, h.until_all) AS until",
        ),
        f"{_KEYS} AS k LEFT JOIN {holdings(*_RECENT)} AS h ON k.site = h.site AND k.job = h.job "
        f"LEFT JOIN {known()} AS j ON k.site = j.site AND k.job = j.job "
        f"LEFT JOIN {_NOW} AS w ON k.site = w.site AND k.job = w.job "
        f"LEFT JOIN {totals(f'(site, job) IN {_KEYS}', f'ts >= {_FIRST}')} AS t ON k.site = t.site AND k.job = t.job",
        order=("h.running DESC", "power_kw DESC NULLS LAST", "since DESC", "job"),
        limit="{limit}",
    ).sql(),
    "no job of the last day is stored: a scheduler's source emits them (slurm, kubernetes, or labels of an exporter)",
)

#: The newest state of every node that a scheduler names.
STATES = Select(
    ("*",),
    f"{DATABASE}.node_states FINAL",
    order=("since DESC", "seen DESC"),
    limit="1 BY site, scheduler, node",
).subquery()

NODES = NamedQuery(
    "nodes",
    "Nodes as their scheduler has them, those out of service first, with the reason.",
    Select(
        ("site", "rack", "node", "scheduler", "state", "reason", "since", "gpus", "gpus_used"),
        STATES,
        order=("match(state, 'down|drain|maint|fail|error|cordon') DESC", "site", "rack", "node"),
        limit="{limit}",
    ).sql(),
    "no scheduler has named its nodes",
)

BUSIEST = NamedQuery(
    "busiest",
    "The busiest jobs over the newest 10 s: GPUs, utilization, power.",
    Select(
        (
            "if(job = '', '(no job)', job) AS job",
            "uniqExact(site, rack, device, board) AS gpus",
            "uniqExact(site, rack) AS racks",
            "round(avg(util_pct_mean), 1) AS util_pct",
            "round(avg(tensor_active_mean), 3) AS tensor_active",
            "round(sum(power_w_mean * share) / 1000, 1) AS power_kw",
        ),
        holds.with_jobs(GPUS, HELD_NOW, 10, keep=True),
        group=("job",),
        order=("power_kw DESC", "job"),
        limit="{limit}",
    ).sql(),
)

ENERGY = NamedQuery(
    "energy",
    "Energy by job over everything stored, from the counters, with the GPU-hours that it held and that idled.",
    Select(
        (
            *("job", "round(max(most), 2) AS gpus", "round(sum(energy) / 3.6e6, 3) AS kwh"),
            *("round(sum(held_h), 2) AS gpu_h", "round(sum(idle_h), 2) AS idle_gpu_h"),
            *("min(first) AS since", "max(last) AS until"),
        ),
        Select(
            (
                *("site", "job", "ts", "sum(gpus) AS most", "sum(energy_j) AS energy", "sum(gpus) / 60 AS held_h"),
                *("sum(idle) / 60 AS idle_h", "min(ts) - INTERVAL 60 SECOND AS first", "max(ts) AS last"),
            ),
            _MINUTES,
            ("window_s = 60",),
            ("site", "job", "ts"),
        ).subquery(),
        group=("job",),
        order=("kwh DESC", "job"),
        limit="{limit}",
    ).sql(),
    "no minute of a job is stored yet",
)
