"""Jobs: who holds which boards, and when. Streams that schedulers' sources emit, and the windows made of them."""

from __future__ import annotations

import pyarrow as pa

from schemas.derived_stream import Derived, declare

_TS = pa.timestamp("ms", "UTC")
_F = pa.float32()
_S = pa.string()

#: A source repeats all its allocations at least so often, so that a reader of the last few minutes knows them all, s.
REPEAT_S = 60
#: A hold that its source has not repeated for so long is over: its source is gone, or the end was missed, s.
STALE_S = 5 * REPEAT_S
#: `scheduler` of holds that are known from labels on telemetry alone.
LABELS = "labels"
#: Kinds whose devices are what a scheduler gives away; of every other kind a job has what its nodes have.
GIVEN = ("gpu", "gpu_instance")

ALLOCATION = declare(
    Derived(
        "allocation",
        "A job's hold on the GPUs of one node: from when to when, which, and what share of them.",
        (
            ("seen", _TS),  # when the source saw it so
            ("site", _S),
            ("scheduler", _S),  # slurm, kubernetes, labels, synthetic
            ("job", _S),
            ("rack", _S),  # empty where the source does not know it
            ("node", _S),
            ("devices", pa.list_(_S)),  # device names (`n1-GPU0`) or board UUIDs; empty: all GPUs of the node
            ("share", _F),  # of each: 1, or 1/n where n jobs share a board; divides energy, not utilization
            ("first_rank", pa.uint32()),  # the rank in the job of the first device
            ("started", _TS),
            ("ended", _TS),  # 1970 while it holds them
        ),
        ("site", "scheduler", "job", "node", "started"),
        topic="events.allocation",
        table="allocations",
        partitions=1,
        dated="started",
        tier="1h",
        keep_h=2,
    )
)

JOB = declare(
    Derived(
        "job",
        "A job as its scheduler knows it; the last row counts.",
        (
            ("seen", _TS),
            ("site", _S),
            ("scheduler", _S),
            ("cluster", _S),
            ("job", _S),
            ("user", _S),
            ("account", _S),
            ("name", _S),
            ("partition", _S),
            ("state", _S),  # the scheduler's own word: PENDING, RUNNING, COMPLETED, ...
            ("reason", _S),
            ("submitted", _TS),
            ("started", _TS),  # 1970: not yet
            ("ended", _TS),  # 1970: not yet
            ("nodes", pa.uint32()),
            ("gpus", pa.uint32()),
        ),
        ("site", "scheduler", "job", "submitted"),
        topic="events.job",
        table="jobs",
        partitions=1,
        dated="submitted",
        tier="1h",
        keep_h=24,
    )
)

NODE_STATE = declare(
    Derived(
        "node_state",
        "A node's state in its scheduler, with the reason that an operator gave.",
        (
            ("seen", _TS),
            ("site", _S),
            ("scheduler", _S),
            ("rack", _S),
            ("node", _S),
            ("state", _S),  # lower case, flags after a plus: idle, mixed, allocated, down, idle+drain
            ("reason", _S),
            ("since", _TS),
            ("gpus", pa.uint32()),
            ("gpus_used", pa.uint32()),
        ),
        ("site", "scheduler", "node", "since"),
        topic="events.node_state",
        table="node_states",
        partitions=1,
        dated="since",
        tier="1m",
        keep_h=24,
    )
)

JOB_WINDOW = declare(
    Derived(
        "job_window",
        "A minute of a job in one rack: GPUs that it holds, that are heard and that idle; utilization, power, energy.",
        (
            ("ts", _TS),
            ("window_s", pa.uint32()),
            ("site", _S),
            ("job", _S),
            ("rack", _S),
            ("gpus", _F),  # held, in whole GPUs: shares and parts of the minute add up
            ("heard", pa.uint32()),
            ("idle", pa.uint32()),  # heard, but hardly used
            ("util_pct_mean", _F),
            ("tensor_active_mean", _F),
            ("power_w", _F),
            ("energy_j", pa.float64()),
            ("slowest", _S),  # the device with the least utilization
            ("slowest_util_pct", _F),
        ),
        ("site", "job", "rack", "window_s", "ts"),
        topic="rollups.job",
        table="job_windows",
        tier="1h",
    )
)
