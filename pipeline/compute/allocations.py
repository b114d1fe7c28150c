"""Allocations: who holds which boards, and when, as the schedulers' sources report it. Pure; event time only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipeline.compute.timing import END_OF_TIME
from schemas.arrays import Floats, Ints
from schemas.derived_stream import columns_of
from schemas.jobs import STALE_S

STALE_MS = STALE_S * 1000
#: How long a hold that is over is remembered: longer than job windows can still be computed again.
KEEP_MS = 900_000
_MOST_OVER = 4096

_Key = tuple[str, str, str, str, int]  # site, scheduler, job, node, started


@dataclass(frozen=True, slots=True)
class Hold:
    """A job's hold on GPUs of one node: `devices` by name or board, empty for all of the node; `rack` where known."""

    site: str
    job: str
    rack: str
    node: str
    devices: tuple[str, ...]


class Allocations:
    """Holds by number, in arrays: int64[holds] `started`, `ended`, `seen` in ms; float32[holds] `share`; int32[holds]
    `job`, a code of `jobs`. `news` numbers what changed, `generation` changes when numbers do.
    """

    def __init__(self) -> None:
        self._numbers: dict[_Key, int] = {}
        self._codes: dict[str, int] = {}
        self.jobs: list[str] = []
        self.holds: list[Hold] = []
        self._count = 0
        self._times = np.zeros((3, 0), np.int64)
        self._share = np.zeros(0, np.float32)
        self._job = np.zeros(0, np.int32)
        #: (number of the hold, event time from which windows are affected), oldest first
        self.news: list[tuple[int, int]] = []
        self.generation = 0
        self._newest_ms = 0

    def __len__(self) -> int:
        return self._count

    @property
    def share(self) -> Floats:
        return np.asarray(self._share[: self._count])

    @property
    def job(self) -> Ints:
        return np.asarray(self._job[: self._count])

    @property
    def started(self) -> Ints:
        return np.asarray(self._times[0, : self._count])

    def until(self) -> Ints:
        """Returns int64[holds]: the time at which each hold is over, ms; END_OF_TIME never occurs, since a hold that is
        not repeated ends.
        """
        _, ended, seen = self._times[:, : self._count]
        return np.asarray(np.minimum(np.where(ended > 0, ended, END_OF_TIME), seen + STALE_MS))

    def apply(self, batch: pa.RecordBatch) -> None:
        """Takes rows of ALLOCATION, in any order: of one hold the row that was seen last counts."""
        names = ("site", "scheduler", "job", "rack", "node", "devices", "share", "seen", "started", "ended")
        for site, scheduler, job, rack, node, devices, share, seen, started, ended in zip(
            *columns_of(batch, *names), strict=True
        ):
            hold = Hold(site, job, rack, node, tuple(devices))
            self._take((site, scheduler, job, node, started), hold, share, seen, ended)
        self._forget()

    def _take(self, key: _Key, hold: Hold, share: float, seen: int, ended: int) -> None:
        self._newest_ms = max(self._newest_ms, seen)
        number = self._numbers.get(key)
        if number is not None:
            if seen < self._times[2, number]:
                return
            stale = self._times[2, number] + STALE_MS < seen
            if self.holds[number].devices != hold.devices:
                self._times[1, number] = key[-1]  # it never held these: its windows are computed again without it
                self.news.append((number, key[-1]))
                number = None
            else:
                self._times[2, number] = seen
                if self._times[1, number] != ended or stale:
                    before = int(self._times[1, number]) or END_OF_TIME
                    self._times[1, number] = ended
                    self.news.append((number, min(before, ended or END_OF_TIME, seen)))
        if number is None:
            self._add(key, hold, share, seen, ended)

    def _add(self, key: _Key, hold: Hold, share: float, seen: int, ended: int) -> None:
        number = self._count
        if number == len(self._job):
            more = max(1024, number)
            self._times = np.concatenate([self._times, np.zeros((3, more), np.int64)], axis=1)
            self._share = np.concatenate([self._share, np.zeros(more, np.float32)])
            self._job = np.concatenate([self._job, np.zeros(more, np.int32)])
        self._times[:, number] = key[-1], ended, seen
        self._share[number] = share
        code = self._codes.setdefault(hold.job, len(self.jobs))
        if code == len(self.jobs):
            self.jobs.append(hold.job)
        self._job[number] = code
        self.holds.append(hold)
        self._numbers[key] = number
        self._count += 1
        self.news.append((number, key[-1]))

    def _forget(self) -> None:
        """Drops holds that are long over once they are many; what is left gets new numbers."""
        over = self.until() < self._newest_ms - KEEP_MS
        if int(over.sum()) < max(_MOST_OVER, self._count // 2):
            return
        kept = np.flatnonzero(~over)
        at = {int(old): new for new, old in enumerate(kept.tolist())}
        self._times = np.ascontiguousarray(self._times[:, kept])
        self._share = self._share[kept]
        self.holds = [self.holds[i] for i in kept.tolist()]
        self._numbers = {key: at[n] for key, n in self._numbers.items() if n in at}
        self.jobs, self._codes = [], {}
        for hold in self.holds:
            if hold.job not in self._codes:
                self._codes[hold.job] = len(self.jobs)
                self.jobs.append(hold.job)
        self._job = np.array([self._codes[hold.job] for hold in self.holds], np.int32)
        self._count = len(self.holds)
        self.news = []
        self.generation += 1

    def numbered(self) -> Iterator[tuple[int, Hold]]:
        """Yields every hold with its number."""
        return enumerate(self.holds)
