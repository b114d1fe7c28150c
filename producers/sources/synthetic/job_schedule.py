"""The synthetic plant's scheduler: which job holds which nodes. Deterministic for a seed and the ticks."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from producers.sources.synthetic.node_list import NodeList
from schemas.arrays import Bools, Floats, Ints

NOBODY = -1
#: So many racks that infer see their jobs end and others begin every few minutes.
LIVING_RACKS = 8
#: What a living rack does in turn, and for how long at least and at most, s; none: it stands idle.
TURNS = (("infer", 240, 480), ("", 20, 40), ("batch", 180, 360), ("", 20, 40))
#: A node that `--job-changes` hands to a batch job comes back after so long, s.
BATCH_S = (120, 600)


@dataclass(frozen=True, slots=True)
class PlantJob:
    """A job by its number; `kind` is train, infer or batch. `nodes` and `gpus` are those that it began with."""

    number: int
    name: str
    kind: str
    started_ms: int
    nodes: int
    gpus: int

    @property
    def level(self) -> float:
        """The activity of a batch job's GPUs, 0 to 1; NaN: as the plant's demand of that rack has it."""
        return 0.62 + 0.3 * (self.number * 0.618 % 1) if self.kind == "batch" else math.nan


@dataclass(frozen=True, slots=True)
class EndedHold:
    """A job's hold on one node, which ended."""

    job: PlantJob
    node: int
    rank: int
    started_ms: int
    ended_ms: int


@dataclass(slots=True)
class JobChanges:
    """What changed since the last look: jobs that began or ended, with their end or 0; holds that ended; nodes that
    have another holder.
    """

    jobs: list[tuple[PlantJob, int]]
    ended: list[EndedHold]
    nodes: set[int]


class JobSchedule:
    """Jobs on nodes: those that racks begin with (`names`, a name a rack, empty for none), shifts on LIVING_RACKS of
    the racks that infer, and `changes_per_s` nodes a second that pass to a batch job or back. Call `advance` at each
    tick, in order; then `holder`, `since_ms` and `rank` say who holds each node, from when and as which rank.
    """

    def __init__(self, nodes: NodeList, names: Sequence[str], seed: int, changes_per_s: float = 0.0) -> None:
        self.jobs: dict[int, PlantJob] = {}
        self.holder, self.since_ms, self.rank = (np.full(len(nodes), fill, np.int64) for fill in (NOBODY, 0, 0))
        self._nodes, self._names, self._rate = nodes, names, changes_per_s
        self._own, self._own_rank = self.holder.copy(), self.rank.copy()  # what a node goes back to
        self._level = np.full(len(nodes), np.nan)
        self._batch_held = np.zeros(len(nodes), bool)
        self._turn_dice, self._batch_dice = (np.random.default_rng([seed, stream]) for stream in (2, 3))
        self._turns: list[tuple[float, int, int]] = []  # (when, rack, turn of TURNS that begins)
        self._batches: list[tuple[float, int, int]] = []  # (when, job, node)
        self._started_ms: int | None = None
        self._number = self._passed = 0
        self._counts = {"infer": 7, "batch": 0}
        self._changes = JobChanges([], [], set())

    def advance(self, now_ms: int) -> None:
        if self._started_ms is None:
            self._begin(now_ms)
        while self._turns and self._turns[0][0] <= now_ms:
            self._take_turn(*heapq.heappop(self._turns)[1:], now_ms)
        due = int(self._rate * (now_ms - (self._started_ms or 0)) / 1000) - self._passed
        for _ in range(due):
            self._pass_on(now_ms)
        self._passed += due

    def changes(self) -> JobChanges:
        """Returns what changed since the last call."""
        found, self._changes = self._changes, JobChanges([], [], set())
        return found

    def levels(self, idle: Sequence[int] = ()) -> Floats:
        """Returns what each node does: NaN as its rack, 0 nothing, else the activity of its batch job. `idle` nodes do
        nothing, held or not.
        """
        level = np.where(self.holder == NOBODY, 0.0, self._level)
        level[list(idle)] = 0.0
        return level

    def _begin(self, now_ms: int) -> None:
        self._started_ms = now_ms
        by_node = np.array(self._names, object)[self._nodes.rack_number]
        self._changes.nodes = set(range(len(self._nodes)))
        for name in dict.fromkeys(n for n in self._names if n):
            held = by_node == name
            self._own_by(held, self._start(name, name.split("-")[0], held, now_ms), now_ms)
        infer = [rack for rack, name in enumerate(self._names) if name.startswith("infer")]
        for rack in infer[:LIVING_RACKS]:
            heapq.heappush(self._turns, (now_ms + 1000 * self._turn_dice.uniform(180, 480), rack, 1))

    def _take_turn(self, rack: int, turn: int, now_ms: int) -> None:
        """A rack's own job ends, another begins; nodes that are at a batch job come to it later."""
        kind, least, most = TURNS[turn]
        of_rack = self._nodes.rack_number == rack
        before = set(self._own[of_rack].tolist()) - {NOBODY}
        if kind:
            self._counts[kind] += 1
            name = f"batch-{self._counts[kind]:06d}" if kind == "batch" else f"infer-{self._counts[kind]:03d}"
            self._own_by(of_rack, self._start(name, kind, of_rack, now_ms), now_ms)
        else:
            self._own_by(of_rack, NOBODY, now_ms)
        for number in before - set(self._own.tolist()):
            self._end(number, now_ms)
        seconds = self._turn_dice.uniform(least, most)
        heapq.heappush(self._turns, (now_ms + 1000 * seconds, rack, (turn + 1) % len(TURNS)))

    def _pass_on(self, now_ms: int) -> None:
        """One node passes to a batch job of its own, or back when that has run its time."""
        if self._batches and (self._batches[0][0] <= now_ms or 2 * len(self._batches) >= len(self.holder)):
            _, number, node = heapq.heappop(self._batches)
            self._batch_held[node] = False
            self._hold(np.array([node]), int(self._own[node]), self._own_rank[[node]], now_ms)
            self._end(number, now_ms)
            return
        node = int(self._batch_dice.integers(len(self.holder)))
        while self._batch_held[node]:
            node = int(self._batch_dice.integers(len(self.holder)))
        self._counts["batch"] += 1
        only = np.zeros(len(self.holder), bool)
        only[node] = self._batch_held[node] = True
        number = self._start(f"batch-{self._counts['batch']:06d}", "batch", only, now_ms)
        self._hold(np.array([node]), number, np.zeros(1, np.int64), now_ms)
        heapq.heappush(self._batches, (now_ms + 1000 * self._batch_dice.uniform(*BATCH_S), number, node))

    def _own_by(self, which: Bools, number: int, now_ms: int) -> None:
        nodes = np.flatnonzero(which)
        ends = np.cumsum(self._nodes.gpus[nodes])
        self._own[nodes], self._own_rank[nodes] = number, ends - self._nodes.gpus[nodes]
        free = nodes[~self._batch_held[nodes]]
        self._hold(free, number, self._own_rank[free], now_ms)

    def _hold(self, nodes: Ints, number: int, ranks: Ints, now_ms: int) -> None:
        for node in nodes[self.holder[nodes] != NOBODY].tolist():
            job = self.jobs[int(self.holder[node])]
            hold = EndedHold(job, node, int(self.rank[node]), int(self.since_ms[node]), now_ms)
            self._changes.ended.append(hold)
        self.holder[nodes], self.since_ms[nodes], self.rank[nodes] = number, now_ms, ranks
        self._level[nodes] = self.jobs[number].level if number != NOBODY else np.nan
        self._changes.nodes.update(nodes.tolist())

    def _start(self, name: str, kind: str, which: Bools, now_ms: int) -> int:
        self._number += 1
        job = PlantJob(self._number, name, kind, now_ms, int(which.sum()), int(self._nodes.gpus[which].sum()))
        self.jobs[self._number] = job
        self._changes.jobs.append((job, 0))
        return self._number

    def _end(self, number: int, now_ms: int) -> None:
        self._changes.jobs.append((self.jobs.pop(number), now_ms))
