"""SQL of who holds which GPUs: allocations at a moment or in a range, joined with devices by name, board or node."""

from __future__ import annotations

from dashboards.sql import SITE, stored
from schemas.jobs import STALE_S

ALLOCATIONS, JOBS = stored("allocations"), stored("jobs")
#: When a hold is over, as the view `held` has it; there "not repeated" is as of what is stored, here as of the range.
_UNTIL = f"if(ended = toDateTime64(0, 3, 'UTC'), seen + INTERVAL {STALE_S} SECOND, ended)"


def holds(begin: str = "$__toTime", end: str = "$__toTime", site: str = SITE) -> str:
    """The condition of allocations that last at some time from `begin` to `end`; now if neither is given."""
    return f"{site} AND started <= {end} AND {_UNTIL} > {begin}"


#: The names of the jobs that hold GPUs now, and at some time of the range.
JOBS_NOW = f"SELECT job FROM {ALLOCATIONS} FINAL WHERE {holds()}"
JOBS_IN_RANGE = f"SELECT job FROM {ALLOCATIONS} FINAL WHERE {holds('$__fromTime')}"


def keyed(where: str) -> str:
    """A row a device of every allocation: `key` is the device's name, its board, or its node where the job holds all
    GPUs of it.
    """
    return (
        "SELECT site, scheduler, job, rack AS hold_rack, node AS hold_node, started, ended, share, if(place = 0, node, "
        "one) AS key, "
        f"toUInt32(first_rank + greatest(place, 1) - 1) AS rank FROM {ALLOCATIONS} FINAL "
        f"LEFT ARRAY JOIN devices AS one, arrayEnumerate(devices) AS place WHERE {where}"
    )


#: By what a device may be held.
KEYS = "arrayFilter(k -> k != '', arrayDistinct([device, board, node]))"
#: A hold that names its rack is of that rack's devices alone; a board is one wherever it is.
MINE = "(hold_rack = '' OR hold_rack = rack OR key = board)"


def with_job(devices: str, where: str) -> str:
    """Rows of `devices` (site, rack, node, device, board and more), each with the `job` that holds it, empty for none;
    of several the one that began last.
    """
    holder = (
        "SELECT site, key, hold_rack, argMax(job, started) AS job, max(started) AS since FROM "
        f"({keyed(where)}) GROUP BY site, key, hold_rack"
    )
    return (
        f"SELECT * EXCEPT (key, hold_rack, job, since), argMaxIf(h.job, h.since, {MINE}) AS job FROM (SELECT *, "
        f"arrayJoin({KEYS}) AS key FROM ({devices})) AS g LEFT JOIN ({holder}) AS h USING (site, key) GROUP BY ALL"
    )
