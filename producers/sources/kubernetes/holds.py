"""Which pod holds which GPUs since when: listings in, rows of `allocation` and `job` out. Pure; time is handed in."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from producers.sources.kubernetes.parse import GpuPod
from schemas.jobs import REPEAT_S

SCHEDULER = "kubernetes"
#: A kubelet that has just started answers before it knows its pods or their devices. An answer without a single GPU
#: where there were some is believed when it has stood for so long.
SETTLE_MS = 30_000

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class PodHold:
    """A pod's hold on devices of one share."""

    job: str
    devices: tuple[str, ...]
    share: float
    first_rank: int


@dataclass(frozen=True, slots=True)
class SeenPod:
    """A pod and when it was first seen, ms."""

    pod: GpuPod
    since: int


class PodHolds:
    """The pods of one node. `update` takes every listing, with times that grow, and returns what to emit: what is new,
    changed or ended, and everything when the last repetition would be older than REPEAT_S at the next poll.

    A hold whose devices or share change ends, and another begins: what a pod held before stays as it was.
    """

    def __init__(self, site: str, node: str, tick_ms: int) -> None:
        self._site, self._node, self._tick_ms = site, node, tick_ms
        self._pods: dict[str, SeenPod] = {}
        self._holds: dict[PodHold, int] = {}  # since when, ms
        self._repeated = 0
        self._empty_since: int | None = None

    def update(self, pods: Sequence[GpuPod], now: int) -> tuple[list[Row], list[Row]]:
        """Returns rows of `allocation` and rows of `job`."""
        gone_at = now
        if pods or not self._pods:
            self._empty_since = None
        else:
            gone_at = self._empty_since = self._empty_since or now
            if now - gone_at < SETTLE_MS:
                return self._repeat(now) if self._is_due(now) else ([], [])
            self._empty_since = None
        changed = self._replace({p.job: p for p in pods}, gone_at, now)
        if not self._is_due(now):
            return changed
        allocations, jobs = self._repeat(now)
        return [r for r in changed[0] if r["ended"]] + allocations, [r for r in changed[1] if r["ended"]] + jobs

    def _replace(self, pods: dict[str, GpuPod], gone_at: int, now: int) -> tuple[list[Row], list[Row]]:
        wanted = set(holds(list(pods.values())))
        allocations = []
        for hold in [h for h in self._holds if h not in wanted]:
            started = self._holds.pop(hold)
            allocations.append(self._allocation(hold, started, max(started, gone_at), now))
        jobs = [self._job(self._pods.pop(job), gone_at, now) for job in [j for j in self._pods if j not in pods]]
        for job, pod in pods.items():
            known = self._pods.get(job)
            if known is None or known.pod != pod:
                self._pods[job] = SeenPod(pod, known.since if known else now)
                jobs.append(self._job(self._pods[job], 0, now))
        for hold in sorted(wanted - self._holds.keys(), key=lambda h: (h.job, h.first_rank)):
            # a key of the stream has one row: a pod's second hold of this moment begins a millisecond later
            taken = {started for other, started in self._holds.items() if other.job == hold.job}
            started = next(ms for ms in range(now, now + len(taken) + 1) if ms not in taken)
            self._holds[hold] = started
            allocations.append(self._allocation(hold, started, 0, now))
        return allocations, jobs

    def _is_due(self, now: int) -> bool:
        return now + self._tick_ms - self._repeated > REPEAT_S * 1000

    def _repeat(self, now: int) -> tuple[list[Row], list[Row]]:
        self._repeated = now
        allocations = [self._allocation(hold, started, 0, now) for hold, started in self._holds.items()]
        return allocations, [self._job(seen, 0, now) for seen in self._pods.values()]

    def _allocation(self, hold: PodHold, started: int, ended: int, now: int) -> Row:
        return {
            "seen": now,
            "site": self._site,
            "scheduler": SCHEDULER,
            "job": hold.job,
            "rack": "",
            "node": self._node,
            "devices": list(hold.devices),
            "share": hold.share,
            "first_rank": hold.first_rank,
            "started": started,
            "ended": ended,
        }

    def _job(self, seen: SeenPod, ended: int, now: int) -> Row:
        pod = seen.pod
        return {
            "seen": now,
            "site": self._site,
            "scheduler": SCHEDULER,
            "cluster": "",
            "job": pod.job,
            "user": pod.namespace,
            "account": pod.namespace,
            "name": pod.name,
            "partition": "",
            "state": "ENDED" if ended else "RUNNING",  # the API does not give whether it succeeded
            "reason": "",
            "submitted": seen.since,
            "started": seen.since,
            "ended": ended,
            "nodes": 1,
            "gpus": len({device.partition("/")[0] for device in pod.devices}),
        }


def holds(pods: Sequence[GpuPod]) -> list[PodHold]:
    """Returns what the pods hold: a hold for each share that a pod has, the whole devices first. A device of n pods is
    held by each with a share of 1/n, in however many containers or replicas.
    """
    users = Counter(device for pod in pods for device in pod.devices)
    found = []
    for pod in pods:
        by_users = defaultdict(list)
        for device in pod.devices:
            by_users[users[device]].append(device)
        rank = 0
        for n, devices in sorted(by_users.items()):
            found.append(PodHold(pod.job, tuple(devices), 1 / n, rank))
            rank += len(devices)
    return found
