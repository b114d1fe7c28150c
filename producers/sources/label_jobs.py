"""Jobs that are known only by labels on telemetry: what is held now, as streams of allocations and jobs. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from producers.emission import Event
from schemas.jobs import ALLOCATION, JOB, LABELS, REPEAT_S


@dataclass(frozen=True, slots=True)
class LabelHold:
    """A job's hold on devices of one node: their names, and its share of them (1/n where n jobs share each)."""

    job: str
    rack: str
    node: str
    devices: tuple[str, ...]
    share: float = 1.0


@dataclass(slots=True)
class _LabelJob:
    """A job that is held somewhere: since when, and by (endpoint, node) how many devices."""

    started: int
    devices: dict[tuple[str, str], int]


class LabelJobs:
    """Follows the jobs that endpoints' labels name. A job starts when it is first seen, and ends when none of its
    endpoints shows it; an endpoint that gives nothing is not handed in, and its jobs go on.

    A change of a job's devices or share on a node ends that hold and starts another.
    """

    def __init__(self, site: str) -> None:
        self._site = site
        self._holds: dict[str, dict[LabelHold, int]] = {}  # endpoint -> hold -> since when
        self._jobs: dict[str, _LabelJob] = {}
        self._repeated: int | None = None

    def update(self, endpoint: str, holds: Iterable[LabelHold], ts_ms: int) -> list[Event]:
        """Returns the news of one read of an endpoint: holds that ended and started, and their jobs."""
        before, now = self._holds.get(endpoint, {}), dict.fromkeys(holds, ts_ms)
        if before.keys() == now.keys():
            return []
        ended = {hold: since for hold, since in before.items() if hold not in now}
        started = [hold for hold in now if hold not in before]
        self._holds[endpoint] = {hold: before.get(hold, ts_ms) for hold in now}
        rows = [self._allocation(hold, since, ts_ms, ts_ms) for hold, since in ended.items()]
        rows += [self._allocation(hold, ts_ms, 0, ts_ms) for hold in started]
        jobs = [self._note(endpoint, job, ts_ms) for job in dict.fromkeys(h.job for h in (*ended, *started))]
        return [_event(rows), Event(JOB, JOB.build_rows(jobs))]

    def repeat(self, ts_ms: int) -> list[Event]:
        """Returns all current allocations when it is REPEAT_S since the last time, else nothing."""
        if self._repeated is None:
            self._repeated = ts_ms
        if ts_ms - self._repeated < REPEAT_S * 1000:
            return []
        self._repeated = ts_ms
        rows = [self._allocation(hold, since, 0, ts_ms) for of in self._holds.values() for hold, since in of.items()]
        return [_event(rows)] if rows else []

    def _note(self, endpoint: str, name: str, ts_ms: int) -> dict[str, Any]:
        """Returns the job's row after a change at this endpoint; forgets the job with its last device."""
        job = self._jobs.setdefault(name, _LabelJob(ts_ms, {}))
        job.devices = {where: n for where, n in job.devices.items() if where[0] != endpoint}
        here: defaultdict[tuple[str, str], int] = defaultdict(int)
        for hold in self._holds[endpoint]:
            if hold.job == name:
                here[endpoint, hold.node] += len(hold.devices)
        job.devices |= here
        is_over = not job.devices
        if is_over:
            del self._jobs[name]
        return {
            "seen": ts_ms,
            "site": self._site,
            "scheduler": LABELS,
            "cluster": "",
            "job": name,
            "user": "",
            "account": "",
            "name": "",
            "partition": "",
            "state": "ENDED" if is_over else "RUNNING",
            "reason": "",
            "submitted": job.started,
            "started": job.started,
            "ended": ts_ms if is_over else 0,
            "nodes": len({node for _, node in job.devices}),
            "gpus": sum(job.devices.values()),
        }

    def _allocation(self, hold: LabelHold, started: int, ended: int, ts_ms: int) -> dict[str, Any]:
        return {
            "seen": ts_ms,
            "site": self._site,
            "scheduler": LABELS,
            "job": hold.job,
            "rack": hold.rack,
            "node": hold.node,
            "devices": list(hold.devices),
            "share": hold.share,
            "first_rank": 0,
            "started": started,
            "ended": ended,
        }


def _event(rows: list[dict[str, Any]]) -> Event:
    return Event(ALLOCATION, ALLOCATION.build_rows(rows))
