"""Jobs: what each gets done, what it costs, and which GPU slows it down."""

from __future__ import annotations

from dashboards import panels, variables
from dashboards.board import Board
from dashboards.links import TO_GPU, TO_JOB, TO_RACK
from dashboards.sql import DEVICE_SET, NOW, SITE, device_sets, frames, rolled_frames, same_devices
from dashboards.variables import IN_JOB
from schemas.thresholds import STRAGGLER_SHARE

_NAMED = device_sets("rack, node, device, model, job")


def summed(column: str) -> str:
    """Returns a frame's array with 0 where nothing was measured, to be added up; a frame may lack the metric."""
    return f"arrayMap(v -> if(isNaN(v), 0, v), arrayResize({column}, rows, nan))"


def by_job(source: str, where: str, sums: dict[str, str]) -> str:
    """Sums by device of every frame first, device by device after that: a fleet's jobs for the price of its racks.

    `sums`: name -> metric column. Gives job, rack, device, each sum over the number of moments that the rack was seen,
    and that number as `samples`. A device has several rows where its frame's members changed: their sums add up to its
    mean.
    """
    inner = ", ".join(f"sumForEach({summed(column)}) AS {name}" for name, column in sums.items())
    joined = ", ".join(f"f.{name} AS one_{name}" for name in sums)
    outer = ", ".join(f"one_{name} / samples AS {name}" for name in sums)
    return (
        f"SELECT name_job AS job, name_rack AS rack, name_device AS device, moments AS samples, {outer} FROM "
        "(SELECT *, uniqExactMerge(seen) OVER "
        "(PARTITION BY site, place) AS moments FROM (SELECT site, rack AS place, "
        f"{DEVICE_SET}, uniqExactState(ts) AS seen, {inner} FROM {source} WHERE {where} "
        f"AND {SITE} GROUP BY site, place, {DEVICE_SET})) AS f INNER JOIN {_NAMED} AS i ON "
        f"{same_devices('f', 'i')} ARRAY JOIN i.job AS name_job, i.rack AS name_rack, "
        f"i.device AS name_device, {joined}"
    )


_NOW = by_job(
    f"{frames('gpu', '10s')} FINAL",
    NOW,
    {"util": "util_pct_mean", "power": "power_w_mean", "tensor": "tensor_active_mean", "sm": "sm_active_mean"},
)
#: A GPU against the middle of its job's GPUs in its rack.
STRAGGLERS = (
    "SELECT job, rack, device, active, typical, active / typical AS share, utilization, power_w FROM (SELECT "
    "*, quantileExact(0.5)(active) OVER "
    "(PARTITION BY job, rack) AS typical FROM (SELECT job, rack, device, sum(sm) AS active, sum(util) AS "
    "utilization, sum(power) AS power_w FROM "
    f"({_NOW}) WHERE job != '' AND {IN_JOB} GROUP BY job, rack, device)) WHERE typical > 0.1 AND active > 0 "
    f"AND active < {STRAGGLER_SHARE:g} * "
    f"typical ORDER BY share, device LIMIT 50"
)

_LIST = (
    "SELECT job, uniqExact(rack) AS racks, uniqExact(rack, device) AS gpus, sum(util) / gpus AS utilization, "
    "sum(tensor) / gpus AS tensor_active, "
    f"sum(power) AS draws, draws / gpus AS per_gpu FROM ({_NOW}) WHERE job != '' AND {IN_JOB} GROUP BY job "
    "ORDER BY draws DESC LIMIT 200"
)

_ENERGY = (
    "SELECT job, sum(energy * samples) / 3.6e6 AS used FROM "
    f"({by_job(rolled_frames('gpu'), '$__timeFilter(ts)', {'energy': 'energy_j_inc'})}) "
    f"WHERE job != '' AND {IN_JOB} GROUP BY job ORDER BY used DESC LIMIT 20"
)


#: A row for each job of a frame, with the places of its devices in the frame's arrays.
_MEMBERS = device_sets(
    "arrayJoin(arrayDistinct(arrayFilter(j -> j != '', job))) AS name, arrayMap(j -> j = name, job) AS mine"
)


def over(expression: str, name: str, column: str) -> str:
    """A value for each job over time, of `total` (summed over a rack's members), `known` (how many had a value) and
    `moments` of that rack.
    """
    each = (
        f"arraySum(arrayMap((v, m) -> if(m AND NOT isNaN(v), v, 0), f.{column}, j.mine)) AS sum_one, "
        "arrayCount((v, m) -> m AND NOT isNaN(v), "
        f"f.{column}, j.mine) AS known_one"
    )
    members = (
        f"(SELECT ts, rack AS place, {DEVICE_SET}, {column} FROM {rolled_frames('gpu')} WHERE $__timeFilter(ts) "
        f"AND {SITE} AND notEmpty({column}))"
    )
    return (
        f"SELECT time, job, {expression} AS {name} FROM (SELECT time, place, job, sum(sum_one) AS total, "
        "sum(known_one) AS known, uniqExact(ts) AS "
        "moments FROM (SELECT $__timeInterval(f.ts) AS time, f.ts AS ts, f.place AS place, j.name AS job, "
        f"{each} FROM {members} AS f INNER JOIN "
        f"{_MEMBERS} AS j ON {same_devices('f', 'j')}) WHERE {IN_JOB} GROUP BY time, place, job) "
        "GROUP BY time, job ORDER BY time, job LIMIT 40000"
    )


def board() -> Board:
    """Key figures; work and power by job; energy; stragglers."""
    shown = (
        panels.stat(
            "Jobs",
            f"SELECT uniqExact(job) AS jobs, uniqExact(device) AS GPUs FROM ({_NOW}) WHERE job != '' AND {IN_JOB}",
            "none",
            "Jobs that have GPUs now, and their GPUs.",
            span=6,
            decimals=0,
        ),
        panels.stat(
            "Without a job",
            f"SELECT uniqExact(device) AS value FROM ({_NOW}) WHERE job = ''",
            "none",
            "GPUs that report and belong to no job.",
            span=4,
            decimals=0,
        ),
        panels.stat(
            "Stragglers",
            f"SELECT count() AS value FROM ({STRAGGLERS})",
            "none",
            f"GPUs that do less than {STRAGGLER_SHARE:.0%} of their job's "
            f"typical work in their rack: a synchronous job waits for each.",
            panels.ANY,
            span=4,
            decimals=0,
        ),
        panels.bars(
            "Utilization by job",
            f"SELECT job, sum(util) / uniqExact(rack, device) AS utilization FROM ({_NOW}) WHERE job != '' AND "
            f"{IN_JOB} GROUP "
            f"BY job ORDER BY utilization, job LIMIT 8",
            "percent",
            "Mean over the job's GPUs, newest minutes; the eight lowest.",
            span=10,
            height=4,
            high=100,
            decimals=0,
        ),
        panels.graph(
            "SM activity by job",
            over("sum(total) / nullIf(sum(known), 0)", "active", "sm_active_mean"),
            "percentunit",
            "Share of time with work on the SMs, mean over the job's GPUs. Dips at equal distances are checkpoints.",
            low=0,
            high=1,
        ),
        panels.graph(
            "Tensor activity by job",
            over("sum(total) / nullIf(sum(known), 0)", "tensor", "tensor_active_mean"),
            "percentunit",
            "How much of the time tensor pipes work: the work that a training job is run for.",
            low=0,
        ),
        panels.graph(
            "Power by job",
            over("sum(total / moments)", "power", "power_w_mean"),
            "watt",
            "GPU power of all the job's GPUs.",
            low=0,
        ),
        panels.bars(
            "Energy by job",
            _ENERGY,
            "kwatth",
            "GPU energy over the time range, from the GPUs' own counters.",
            span=12,
            decimals=2,
        ),
        panels.table(
            "All jobs",
            _LIST,
            "Jobs by what they draw now.",
            links={"job": TO_JOB},
            units={"utilization": "percent", "tensor_active": "percentunit", "draws": "watt", "per_gpu": "watt"},
            decimals={"utilization": 1, "tensor_active": 1, "draws": 1, "per_gpu": 0},
        ),
        panels.table(
            "Stragglers by GPU",
            STRAGGLERS,
            "GPUs far below their job's typical activity in the same rack, newest minutes.",
            empty="no straggler",
            links={
                "device": TO_GPU.replace("${__data.fields.site}", "${site}"),
                "rack": TO_RACK.replace("${__data.fields.site}", "${site}"),
            },
            units={
                "active": "percentunit",
                "typical": "percentunit",
                "share": "percentunit",
                "utilization": "percent",
                "power_w": "watt",
            },
            decimals={"utilization": 0, "power_w": 0},
        ),
    )
    return Board(
        "jobs",
        60,
        "what a job gets done, what it costs, which GPU slows it down",
        "What each job gets done, what it draws, and which GPU slows it down.",
        shown,
        (variables.site(), variables.job(), *variables.tiers("rolled")),
        incidents=f"{SITE} AND {IN_JOB} AND job != ''",
        pictures=(("jobs", "jobs.png"),),
    )
