"""What Slurm has done since the last poll: dumps in, events out. Pure: time is handed in.

A hold is a job's on one node. It opens with the dump that has it and closes once, when a dump no longer has it so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from producers.emission import Event
from producers.sources.slurm.dump import JobRecord, NodeHold, NodeRecord, SlurmDump
from producers.sources.slurm.places import NodePlaces
from schemas.derived_stream import Derived
from schemas.jobs import ALLOCATION, JOB, NODE_STATE, REPEAT_S, STALE_S

#: The state of a job that left Slurm between two polls: how it ended is not known.
LOST = "UNKNOWN"

_MOST_ROWS = 5_000  # in one message
_NEEDS_CARE = ("drain", "down", "fail", "maint", "error")


@dataclass(frozen=True, slots=True)
class OpenHold:
    """A job's hold on one node as it was emitted: `since` is when Slurm has it begin, `started` when this one does."""

    job: str
    hold: NodeHold
    first_rank: int
    since: int
    started: int

    def is_same(self, other: OpenHold) -> bool:
        """Whether the other, of a later dump, goes on with this one."""
        return (self.hold, self.first_rank, self.since) == (other.hold, other.first_rank, other.since)


class SlurmScheduler:
    """The jobs, holds and nodes of the last dump. `every_s`: seconds between polls, for the time of repetitions."""

    def __init__(self, site: str, places: NodePlaces | None = None, every_s: float = 10.0) -> None:
        self._site, self._places = site, places or NodePlaces()
        self._repeat_ms = max(0, round((REPEAT_S - every_s) * 1000))
        self._jobs: dict[str, JobRecord] = {}
        self._nodes: dict[str, tuple[NodeRecord, int]] = {}
        self._open: dict[tuple[str, str], OpenHold] = {}
        self._closed: dict[tuple[str, str], int] = {}  # of jobs that Slurm still has: when their last hold there ended
        self._repeated_ms: int | None = None
        self._answered_ms: int | None = None

    @property
    def open_holds(self) -> Mapping[tuple[str, str], OpenHold]:
        """By job and node, Slurm's name."""
        return self._open

    def update(self, dump: SlurmDump, now_ms: int) -> list[Event]:
        """Returns the changes since the dump before; every `REPEAT_S` also all that is as it was. Ends come first."""
        repeat, self._answered_ms = self._repeats(now_ms), now_ms
        ended, begun = self._compare_holds(dump, now_ms)
        jobs = self._compare_jobs(dump, now_ms)
        nodes = self._compare_nodes(dump, now_ms)
        rows = [self._allocation(hold, now_ms, end) for hold, end in ended]
        rows += [self._allocation(h, now_ms) for h in (self._open.values() if repeat else begun)]
        if repeat:
            changed = {job.job for job in jobs}
            jobs += [j for j in self._jobs.values() if not j.ended and j.job not in changed]
            nodes = list(self._nodes.values())
        return [
            *_events(ALLOCATION, rows),
            *_events(JOB, [self._job(job, now_ms) for job in jobs]),
            *_events(NODE_STATE, [self._node(*node, now_ms) for node in nodes]),
        ]

    def unanswered(self, now_ms: int) -> list[Event]:
        """Returns what is known, when it is time to repeat it: a Slurm that gives no answer has ended nothing. After
        `STALE_S` nothing is repeated.
        """
        if self._answered_ms is None or now_ms - self._answered_ms >= STALE_S * 1000 or not self._repeats(now_ms):
            return []
        return _events(ALLOCATION, [self._allocation(hold, now_ms) for hold in self._open.values()])

    def _repeats(self, now_ms: int) -> bool:
        if self._repeated_ms is not None and now_ms - self._repeated_ms <= self._repeat_ms:
            return False
        self._repeated_ms = now_ms
        return True

    def _compare_holds(self, dump: SlurmDump, now_ms: int) -> tuple[list[tuple[OpenHold, int]], list[OpenHold]]:
        """(hold and its end, of those that ended), (those that began)."""
        found = {(hold.job, hold.hold.node): hold for job in dump.jobs.values() for hold in _holds(job, now_ms)}
        ended, begun = [], []
        for key, old in list(self._open.items()):
            new = found.get(key)
            if new is not None and old.is_same(new):
                continue
            if new is None and old.job not in dump.jobs and not dump.whole:
                continue
            end = _end(old, dump.jobs.get(old.job), now_ms)
            ended.append((old, end))
            del self._open[key]
            self._closed[key] = end
        for key, new in found.items():
            if key in self._open:
                continue
            # a hold that changed without a word of Slurm's begins with its change: the old beginning is another row's
            self._open[key] = replace(new, started=max(new.started, self._closed.get(key, 0)))
            begun.append(self._open[key])
        for key in [key for key in self._closed if key[0] not in dump.jobs]:
            del self._closed[key]
        return ended, begun

    def _compare_jobs(self, dump: SlurmDump, now_ms: int) -> list[JobRecord]:
        changed = []
        for name, job in dump.jobs.items():
            old = self._jobs.get(name)
            if job.ended and old is not None and old.submitted == job.submitted:
                job = replace(job, gpus=old.gpus or job.gpus)  # noqa: PLW2901 - what it held, Slurm forgets at its end
            if job != old:
                changed.append(job)
            self._jobs[name] = job
        for name in [name for name in self._jobs if name not in dump.jobs and dump.whole]:
            lost = self._jobs.pop(name)
            if not lost.ended:
                changed.append(replace(lost, state=LOST, reason="left Slurm between two polls", ended=now_ms))
        return changed

    def _compare_nodes(self, dump: SlurmDump, now_ms: int) -> list[tuple[NodeRecord, int]]:
        """Nodes whose record changed, with the time since when the state is as it is."""
        changed = []
        for name, node in dump.nodes.items():
            old = self._nodes.get(name)
            if old is not None and old[0] == node:
                continue
            since = old[1] if old else now_ms
            if old is None or (old[0].state, old[0].reason, old[0].changed) != (node.state, node.reason, node.changed):
                known = node.changed and any(word in node.state for word in _NEEDS_CARE)
                is_new = old is None or old[0].changed != node.changed
                since = min(node.changed, now_ms) if known and is_new else now_ms
            self._nodes[name] = (node, since)
            changed.append((node, since))
        for name in [name for name in self._nodes if name not in dump.nodes]:
            del self._nodes[name]
        return changed

    def _allocation(self, open_hold: OpenHold, now_ms: int, ended: int = 0) -> dict[str, Any]:
        rack, node = self._places.of(open_hold.hold.node)
        return {
            "seen": now_ms,
            "site": self._site,
            "scheduler": "slurm",
            "job": open_hold.job,
            "rack": rack,
            "node": node,
            "devices": [f"{node}-GPU{index}" for index in open_hold.hold.indices],
            "share": open_hold.hold.share,
            "first_rank": open_hold.first_rank,
            "started": open_hold.started,
            "ended": ended,
        }

    def _job(self, job: JobRecord, now_ms: int) -> dict[str, Any]:
        same = ("cluster", "job", "user", "account", "name", "partition", "state", "reason", "submitted")
        counts = {name: getattr(job, name) for name in (*same, "started", "ended", "nodes", "gpus")}
        return {"seen": now_ms, "site": self._site, "scheduler": "slurm", **counts}

    def _node(self, record: NodeRecord, since: int, now_ms: int) -> dict[str, Any]:
        rack, node = self._places.of(record.node)
        return {
            "seen": now_ms,
            "site": self._site,
            "scheduler": "slurm",
            "rack": rack,
            "node": node,
            "state": record.state,
            "reason": record.reason,
            "since": since,
            "gpus": record.gpus,
            "gpus_used": record.gpus_used,
        }


def _holds(job: JobRecord, now_ms: int) -> Iterable[OpenHold]:
    rank, since = 0, job.since or now_ms
    for hold in job.holds:
        yield OpenHold(job.job, hold, rank, job.since, since)
        rank += hold.count


def _end(old: OpenHold, job: JobRecord | None, now_ms: int) -> int:
    """When a hold ended: as Slurm has it, else now. A job that is queued again is submitted again; one that is resumed
    or resized begins again.
    """
    known = (job.submitted, job.until, job.since) if job is not None else ()
    return next((moment for moment in known if old.started < moment <= now_ms), max(now_ms, old.started + 1))


def _events(stream: Derived, rows: list[dict[str, Any]]) -> list[Event]:
    return [Event(stream, stream.build_rows(rows[at : at + _MOST_ROWS])) for at in range(0, len(rows), _MOST_ROWS)]
