"""What the plant's scheduler reports: jobs, who holds which GPUs, and the states of nodes, as event streams."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from producers.emission import Event
from producers.sources.synthetic.job_schedule import NOBODY, EndedHold, JobSchedule, PlantJob
from producers.sources.synthetic.node_list import NodeList
from schemas.arrays import Ints
from schemas.jobs import ALLOCATION, JOB, NODE_STATE, REPEAT_S

SCHEDULER = "synthetic"
#: Who runs what: (user, account) by kind of job.
_OWNERS = {"train": ("ada", "models"), "infer": ("serving", "product"), "batch": ("grace", "research")}
_QUEUED_MS = 30_000


class JobEvents:
    """Events of one schedule: all at the first call, then changes at once and all allocations every REPEAT_S."""

    def __init__(self, nodes: NodeList, schedule: JobSchedule, tick_ms: int) -> None:
        self._nodes, self._schedule, self._tick_ms = nodes, schedule, tick_ms
        self._repeat_ms: int | None = None

    def at(self, now_ms: int) -> list[Event]:
        """Returns the events of the tick to which the schedule was advanced."""
        changes = self._schedule.changes()
        changed = np.array(sorted(changes.nodes), np.int64)
        held = self._schedule.holder != NOBODY
        if self._repeat_ms is None or now_ms + self._tick_ms > self._repeat_ms:
            self._repeat_ms = now_ms + 1000 * REPEAT_S
            current = np.flatnonzero(held)
        else:
            current = changed[held[changed]]
        events = []
        if changes.ended:
            events.append(Event(ALLOCATION, self._ended(changes.ended, now_ms)))
        if len(current):
            events.append(Event(ALLOCATION, self._current(current, now_ms)))
        if changes.jobs:
            events.append(Event(JOB, JOB.build_rows([self._job(*one, now_ms) for one in changes.jobs])))
        if len(changed):
            events.append(Event(NODE_STATE, self._states(changed, now_ms)))
        return events

    def _current(self, nodes: Ints, now_ms: int) -> pa.RecordBatch:
        schedule = self._schedule
        numbers, which = np.unique(schedule.holder[nodes], return_inverse=True)
        names = pa.array([schedule.jobs[n].name for n in numbers.tolist()], pa.string()).take(pa.array(which))
        started = schedule.since_ms[nodes]
        return self._allocations(nodes, names, schedule.rank[nodes], started, np.zeros_like(started), now_ms)

    def _ended(self, holds: Sequence[EndedHold], now_ms: int) -> pa.RecordBatch:
        nodes, ranks, started, ended = (
            np.array(values, np.int64)
            for values in zip(*((h.node, h.rank, h.started_ms, h.ended_ms) for h in holds), strict=True)
        )
        names = pa.array([hold.job.name for hold in holds], pa.string())
        return self._allocations(nodes, names, ranks, started, ended, now_ms)

    def _allocations(
        self, nodes: Ints, jobs: pa.Array, ranks: Ints, started: Ints, ended: Ints, now_ms: int
    ) -> pa.RecordBatch:
        rows, whose = len(nodes), pa.array(nodes)
        return ALLOCATION.build(
            {
                "seen": np.full(rows, now_ms),
                "site": _repeated(self._nodes.site, rows),
                "scheduler": _repeated(SCHEDULER, rows),
                "job": jobs,
                "rack": self._nodes.rack.take(whose),
                "node": self._nodes.node.take(whose),
                "devices": self._nodes.devices.take(whose),
                "share": np.ones(rows),
                "first_rank": ranks,
                "started": started,
                "ended": ended,
            }
        )

    def _states(self, nodes: Ints, now_ms: int) -> pa.RecordBatch:
        rows, whose = len(nodes), pa.array(nodes)
        held, gpus = self._schedule.holder[nodes] != NOBODY, self._nodes.gpus[nodes]
        since = self._schedule.since_ms[nodes]
        return NODE_STATE.build(
            {
                "seen": np.full(rows, now_ms),
                "site": _repeated(self._nodes.site, rows),
                "scheduler": _repeated(SCHEDULER, rows),
                "rack": self._nodes.rack.take(whose),
                "node": self._nodes.node.take(whose),
                "state": pa.array(np.where(held, "allocated", "idle").tolist(), pa.string()),
                "reason": _repeated("", rows),
                "since": np.where(since > 0, since, now_ms),
                "gpus": gpus,
                "gpus_used": np.where(held, gpus, 0),
            }
        )

    def _job(self, job: PlantJob, ended_ms: int, now_ms: int) -> dict[str, object]:
        user, account = _OWNERS[job.kind]
        return {
            "seen": now_ms,
            "site": self._nodes.site,
            "scheduler": SCHEDULER,
            "cluster": self._nodes.site,
            "job": job.name,
            "user": user,
            "account": account,
            "name": {"train": "pretrain", "infer": "serve", "batch": "evaluate"}[job.kind],
            "partition": "gpu",
            "state": "COMPLETED" if ended_ms else "RUNNING",
            "reason": "",
            "submitted": job.started_ms - _QUEUED_MS,
            "started": job.started_ms,
            "ended": ended_ms,
            "nodes": job.nodes,
            "gpus": job.gpus,
        }


def _repeated(value: str, rows: int) -> pa.Array:
    return pa.repeat(pa.scalar(value, pa.string()), rows)
