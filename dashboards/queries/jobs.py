"""SQL of the jobs board: totals from windows of jobs, single GPUs from telemetry joined with who holds them."""

from __future__ import annotations

from dashboards.holds import ALLOCATIONS, JOBS, JOBS_IN_RANGE, JOBS_NOW, KEYS, MINE, holds, keyed, with_job
from dashboards.sql import DEVICE_SET, NOW, SITE, device_sets, frames, same_devices, stored
from dashboards.variables import IN_JOB
from schemas.thresholds import IDLE_PCT, JOB_ACTIVE_LEAST, STRAGGLER_SHARE

JOB_WINDOWS, NODE_STATES = stored("job_windows"), stored("node_states")
#: Of a job, by its GPUs: windows in which it has none replace what was corrected.
_WEIGHED = "sum({0} * gpus) / nullIf(sumIf(gpus, {0} IS NOT NULL), 0)"
_UTIL, _TENSOR = _WEIGHED.format("util_pct_mean"), _WEIGHED.format("tensor_active_mean")


def windows(names: str, when: str = "$__timeFilter(ts)") -> str:
    """Windows of the chosen jobs that are among `names`: windows are ordered by job, so that a job is found without
    reading the others, whenever it ran. FINAL: a window that is made again counts once.
    """
    return (
        f"FROM {JOB_WINDOWS} FINAL WHERE {SITE} AND {IN_JOB} AND job IN ({names}) AND window_s = 60 AND {when} "
        "AND gpus > 0"
    )


#: The newest minute of each running job and rack.
NEWEST = f"(SELECT * {windows(JOBS_NOW, NOW)} ORDER BY ts DESC LIMIT 1 BY site, job, rack)"
TOTALS = f"SELECT uniqExact(job) AS jobs, sum(gpus) AS allocated, sum(heard) AS heard, sum(idle) AS idle FROM {NEWEST}"
#: The largest jobs of the range: more lines than these no graph shows.
_LARGEST = (
    f"SELECT job FROM {ALLOCATIONS} FINAL WHERE {holds('$__fromTime')} AND {IN_JOB} GROUP BY job "
    "ORDER BY sum(greatest(1, length(devices))) DESC, job LIMIT 20"
)


def over(columns: str) -> str:
    """Columns of each of the largest jobs over time, of its `util`, `tensor`, `watts`, `held`, `known` and `idle` GPUs
    in each minute.
    """
    return (
        f"SELECT $__timeInterval(ts) AS time, job, {columns} FROM (SELECT ts, job, {_UTIL} AS util, {_TENSOR} AS "
        "tensor, sum(power_w) AS watts, sum(gpus) AS held, sum(heard) AS known, sum(job_windows.idle) AS idle "
        f"{windows(_LARGEST)} GROUP BY ts, job) GROUP BY time, job ORDER BY time, job LIMIT 40000"
    )


_RANGE = (
    f"SELECT site, job, {_UTIL} AS utilization, {_TENSOR} AS tensor_active, sum(energy_j) / 3.6e6 AS energy, "
    "sum(gpus) / 60 AS gpu_hours, sum(idle) / 60 AS idle_hours, uniqExact(rack) AS racks "
    f"{windows(JOBS_IN_RANGE)} GROUP BY site, job"
)
_NOW = (
    "SELECT site, job, sum(gpus) AS allocated, sum(heard) AS known, sum(idle) AS idles, sum(power_w) AS watts "
    f"FROM {NEWEST} GROUP BY site, job"
)
_KNOWN = (
    f"SELECT site, job, user, account, state, started AS began FROM {JOBS} FINAL WHERE {SITE} AND {IN_JOB} AND "
    f"job IN ({JOBS_IN_RANGE}) ORDER BY submitted DESC, seen DESC LIMIT 1 BY site, job"
)
LIST = (
    "SELECT r.site AS site, r.job AS job, k.user AS user, k.account AS account, k.state AS state, "
    "if(toUnixTimestamp(k.began) = 0, NULL, k.began) AS started, n.allocated AS allocated, n.known AS heard, n.idles "
    "AS idle, r.racks AS racks, r.utilization AS utilization, r.tensor_active AS tensor_active, n.watts AS draws, "
    f"r.energy AS energy, r.gpu_hours AS gpu_hours, r.idle_hours AS idle_hours FROM ({_RANGE}) AS r "
    f"LEFT JOIN ({_NOW}) AS n ON r.site = n.site AND r.job = n.job "
    f"LEFT JOIN ({_KNOWN}) AS k ON r.site = k.site AND r.job = k.job "
    "ORDER BY allocated DESC, gpu_hours DESC, job LIMIT 300 SETTINGS join_use_nulls = 1"
)
ENERGY = f"SELECT job, sum(energy_j) / 3.6e6 AS used {windows(JOBS_IN_RANGE)} GROUP BY job ORDER BY used DESC LIMIT 20"
LEAST_USED = f"SELECT job, {_UTIL} AS utilization FROM {NEWEST} GROUP BY job ORDER BY utilization, job LIMIT 8"


def gpus(sums: dict[str, str]) -> str:
    """Every GPU that reports now: site, rack, node, device, board, and the mean of each of `sums` (name -> metric).

    A rack's frames are summed first, GPU by GPU after that: a fleet's GPUs for the price of its racks. A GPU has
    several rows where its frame's members changed: their sums add up to its mean.
    """
    inner = "".join(f", sumForEach({_summed(column)}) AS {name}" for name, column in sums.items())
    joined = "".join(f", f.{name} AS one_{name}" for name in sums)
    outer = "".join(f", sum(one_{name} / moments) AS {name}" for name in sums)
    named = ("rack", "node", "device", "board")
    return (
        "SELECT site, name_rack AS rack, any(name_node) AS node, name_device AS device, any(name_board) AS "
        f"board{outer} "
        "FROM (SELECT *, uniqExactMerge(seen) OVER (PARTITION BY site, place) AS moments FROM (SELECT site, rack AS "
        f"place, {DEVICE_SET}, uniqExactState(ts) AS seen{inner} FROM {frames('gpu', '10s')} FINAL WHERE {NOW} AND "
        f"{SITE} GROUP BY site, place, {DEVICE_SET})) AS f INNER JOIN {device_sets(', '.join(named))} AS i ON "
        f"{same_devices('f', 'i')} ARRAY JOIN {', '.join(f'i.{n} AS name_{n}' for n in named)}{joined} "
        "GROUP BY site, rack, device"
    )


def _summed(column: str) -> str:
    """A frame's array with 0 where nothing was measured, to be added up; a frame may lack the metric."""
    return f"arrayMap(v -> if(isNaN(v), 0, v), arrayResize({column}, rows, nan))"


_EACH = gpus({"util": "util_pct_mean", "power": "power_w_mean", "sm": "sm_active_mean"})
#: A GPU for each job that holds it, with its rank there.
HELD = (
    "SELECT site, job, rack, device, any(g.node) AS node, any(h.rank) AS rank, any(util) AS util, any(power) AS power, "
    f"any(sm) AS sm FROM (SELECT *, arrayJoin({KEYS}) AS key FROM ({_EACH})) AS g INNER JOIN "
    f"({keyed(f'{holds()} AND {IN_JOB}')}) AS h USING (site, key) WHERE {MINE} GROUP BY site, job, rack, device"
)
#: A GPU against the middle of its job's GPUs in its rack. One that idles works for nobody: it is no straggler.
STRAGGLERS = (
    "SELECT site, job, rank, rack, node, device, sm AS active, typical, active / typical AS share, (typical - active) "
    "/ typical * members AS costs_gpus, util AS utilization, power FROM (SELECT *, quantileExact(0.5)(sm) OVER "
    f"(PARTITION BY site, job, rack) AS typical, count() OVER (PARTITION BY site, job) AS members FROM ({HELD})) WHERE "
    f"typical > {JOB_ACTIVE_LEAST:g} AND active > 0 AND util >= {IDLE_PCT:g} AND active < {STRAGGLER_SHARE:g} * "
    "typical ORDER BY costs_gpus DESC, device LIMIT 50"
)
IDLE = (
    "SELECT site, job, rack, node, count() AS idle, min(rank) AS first_rank, sum(h.power) AS power FROM "
    f"({HELD}) AS h WHERE util < {IDLE_PCT:g} GROUP BY site, job, rack, node ORDER BY idle DESC, job, node LIMIT 100"
)
#: GPUs that report and that nobody holds.
FREE = f"SELECT countIf(job = '') AS value FROM ({with_job(gpus({}), holds())})"
#: States that take a node's GPUs out of service.
_OUT = "match(state, 'down|drain|fail|maint|error|not_responding|unknown')"
NODES = (
    "SELECT s.site AS site, s.node AS node, s.rack AS rack, s.state AS state, s.reason AS reason, s.since AS since, "
    "h.jobs AS jobs, s.gpus AS gpus, s.gpus_used AS gpus_used FROM (SELECT * FROM "
    f"{NODE_STATES} FINAL WHERE {SITE} AND since <= $__toTime ORDER BY since DESC, seen DESC LIMIT 1 BY site, "
    "scheduler, node) AS s LEFT JOIN (SELECT site, node, arrayStringConcat(arraySort(groupUniqArray(8)(job)), ', ') AS "
    f"jobs FROM {ALLOCATIONS} FINAL WHERE {holds()} AND {IN_JOB} GROUP BY site, node) AS h USING (site, node) WHERE "
    f"{_OUT} OR jobs != '' ORDER BY {_OUT} DESC, since DESC, node LIMIT 300"
)
