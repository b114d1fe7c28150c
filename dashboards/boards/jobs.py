"""Jobs: what each holds, gets done and costs, which GPUs idle in it or slow it down, and the states of nodes."""

from __future__ import annotations

from dashboards import panels, variables
from dashboards.board import Board
from dashboards.links import TO_GPU, TO_JOB, TO_RACK
from dashboards.queries import jobs
from dashboards.sql import SITE
from dashboards.variables import IN_JOB
from schemas.thresholds import IDLE_PCT, STRAGGLER_SHARE

#: What a panel shows where no source of jobs runs.
_NO_JOB = "no job holds GPUs in this time range"


def board() -> Board:
    """Key figures; all jobs; work, power and energy by job; idle GPUs and stragglers; nodes."""
    shown = (
        panels.stat(
            "Jobs",
            jobs.TOTALS,
            "none",
            "Running jobs of the choice, the GPUs that they hold, those of them that report, and those that idle "
            f"(utilization below {IDLE_PCT:g} %), newest minute. Allocated but not heard: lost or silent GPUs.",
            span=10,
            decimals=0,
            colours={"jobs": "text", "allocated": "blue", "heard": "green", "idle": "orange"},
        ),
        panels.stat(
            "Without a job",
            jobs.FREE,
            "none",
            "GPUs that report and that nobody holds: free for the next job, or in nodes that the scheduler has taken "
            "out.",
            span=3,
            decimals=0,
        ),
        panels.stat(
            "Stragglers",
            f"SELECT count() AS value FROM ({jobs.STRAGGLERS})",
            "none",
            f"GPUs that do less than {STRAGGLER_SHARE:.0%} of their job's typical work in their rack: a synchronous "
            "job waits for each.",
            panels.ANY,
            span=3,
            decimals=0,
        ),
        panels.bars(
            "Least used jobs",
            jobs.LEAST_USED,
            "percent",
            "GPU utilization, mean over all GPUs that the job holds and that report, newest minute; the eight lowest.",
            span=8,
            height=4,
            high=100,
            decimals=0,
            empty=_NO_JOB,
        ),
        panels.table(
            "All jobs",
            jobs.LIST,
            "Jobs that held GPUs in the range. Allocated, heard and idle GPUs and draw: the newest minute, empty for a "
            "job that is over. Utilization, tensor activity, energy, GPU-hours and idle GPU-hours: over the range.",
            span=24,
            height=9,
            links={"job": TO_JOB},
            hidden=["site"],
            units={
                "utilization": "percent",
                "tensor_active": "percentunit",
                "draws": "watt",
                "energy": "kwatth",
            },
            colours={"idle": (("green", None), ("yellow", 1))},
            decimals={
                "allocated": 0,
                "heard": 0,
                "idle": 0,
                "utilization": 0,
                "tensor_active": 0,
                "draws": 1,
                "energy": 1,
                "gpu_hours": 1,
                "idle_hours": 1,
            },
            empty=_NO_JOB,
        ),
        panels.graph(
            "Utilization by job",
            jobs.over("avg(util) AS utilization"),
            "percent",
            "Mean over the job's GPUs, the twenty largest jobs. A job that waits keeps its GPUs busy: compare with the "
            "tensor activity.",
            low=0,
            high=100,
            span=8,
            empty=_NO_JOB,
        ),
        panels.graph(
            "Tensor activity by job",
            jobs.over("avg(tensor) AS tensor"),
            "percentunit",
            "How much of the time tensor pipes work: the work that a training job is run for. Dips at equal distances "
            "are checkpoints.",
            low=0,
            span=8,
            empty=_NO_JOB,
        ),
        panels.graph(
            "Power by job",
            jobs.over("avg(watts) AS power"),
            "watt",
            "Power of all GPUs that the job holds; its share of a GPU that several jobs share.",
            low=0,
            span=8,
            empty=_NO_JOB,
        ),
        panels.graph(
            "Idle GPUs by job",
            jobs.over("avg(idle) AS idle"),
            "none",
            f"GPUs that a job holds and that idle (utilization below {IDLE_PCT:g} %), the twenty largest jobs. A job "
            "that holds GPUs without use keeps others waiting.",
            low=0,
            span=12,
            height=7,
            empty=_NO_JOB,
        ),
        panels.bars(
            "Energy by job",
            jobs.ENERGY,
            "kwatth",
            "GPU energy over the time range, from the GPUs' own counters, while the job held them.",
            span=12,
            height=7,
            decimals=2,
            empty=_NO_JOB,
        ),
        panels.table(
            "Stragglers by rank",
            jobs.STRAGGLERS,
            "GPUs far below the typical SM activity of their job in the same rack, newest minutes, with their rank in "
            "the "
            "job. What each costs: (typical - own) / typical x the job's GPUs, in GPU-hours an hour (which is GPUs), "
            "since all ranks wait for the slowest.",
            empty="no straggler",
            span=12,
            height=7,
            links={"device": TO_GPU, "rack": TO_RACK, "job": TO_JOB},
            hidden=["site"],
            units={
                "active": "percentunit",
                "typical": "percentunit",
                "share": "percentunit",
                "utilization": "percent",
                "power": "watt",
            },
            decimals={"rank": 0, "costs_gpus": 1, "active": 0, "typical": 0, "share": 0, "utilization": 0, "power": 0},
        ),
        panels.table(
            "Held but idle",
            jobs.IDLE,
            f"GPUs that a job holds and whose utilization is below {IDLE_PCT:g} %, by node, newest minutes: a process "
            "that has died, or more GPUs than the job can use. Ask its user.",
            empty="none: every GPU that is held works",
            span=12,
            height=7,
            links={"rack": TO_RACK, "job": TO_JOB},
            hidden=["site"],
            units={"power": "watt"},
            decimals={"power": 0},
        ),
        panels.table(
            "Nodes",
            jobs.NODES,
            "The scheduler's word on nodes: first all that are drained, down, failed or in maintenance, with the "
            "reason that somebody gave, then those of the chosen jobs.",
            span=24,
            height=9,
            links={"rack": TO_RACK},
            hidden=["site"],
            decimals={"gpus": 0, "gpus_used": 0},
            empty="no scheduler has named a node's state",
        ),
    )
    return Board(
        "jobs",
        60,
        "what a job holds, gets done and costs; which GPU idles in it or slows it down",
        "What each job holds, gets done and draws, which GPUs idle in it or slow it down, and the states of nodes.",
        shown,
        (variables.site(), variables.job()),
        incidents=f"{SITE} AND {IN_JOB} AND job != ''",
        pictures=(("jobs", "jobs.png"),),
    )
