"""Five gigawatts, simulated: how evenly keys fall on partitions, and how long windows lag after a rebalance.

Pure numpy.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from aiokafka.partitioner import murmur2

from pipeline.compute.timing import HORIZON_MS
from schemas.arrays import Ints

GPUS_PER_GW = 500_000
GPUS_PER_RACK = 72
#: What a worker replays of a partition that is new to it: the horizon, and what the committed offset lags behind it.
REPLAY_S = HORIZON_MS / 1000 + 20


def spread(racks: int, partitions: int, site: str = "site-1") -> Ints:
    """Returns int64[partitions]: racks a partition, by Kafka's own hash of our keys (`site/rack`)."""
    keys = (f"{site}/R{n + 1:04d}".encode() for n in range(racks))
    return np.bincount([(murmur2(key) & 0x7FFFFFFF) % partitions for key in keys], minlength=partitions)


@dataclass(frozen=True, slots=True)
class Skew:
    """Of one partition count and one number of workers: the fullest partition and worker, as multiples of the mean."""

    partitions: int
    workers: int
    partition: float
    worker: float


def skew(gigawatts: float, partitions: int, workers: int) -> Skew:
    """Partitions are dealt to workers in turn, as the round-robin assignor does."""
    racks = spread(int(gigawatts * GPUS_PER_GW) // GPUS_PER_RACK, partitions)
    loads = np.bincount(np.arange(partitions) % workers, weights=racks, minlength=workers)
    return Skew(partitions, workers, float(racks.max() / racks.mean()), float(loads.max() / loads.mean()))


@dataclass(frozen=True, slots=True)
class Recovery:
    """After one of `workers` dies: seconds until the group has rebalanced, and until the last worker has caught up."""

    workers: int
    load: float
    noticed_s: float
    caught_up_s: float


def recovery(workers: int, load: float, *, noticed_s: float = 9.0, step_s: float = 0.5) -> Recovery:
    """Simulates it in steps of `step_s`. `load` is a worker's share of its capacity before.

    The dead worker's partitions go to all others, which keep the state of their own (see `Worker.assign`) and replay
    REPLAY_S of the new ones. No worker reads during `noticed_s`: session time-out and rebalance.
    """
    share = load * workers / (workers - 1)
    if share >= 1:
        return Recovery(workers, load, noticed_s, float("inf"))
    #: worker-seconds of work that wait: own backlog, and the replay of the partitions taken over
    backlog = noticed_s * share + REPLAY_S * load / (workers - 1)
    passed = noticed_s
    while backlog > 0:
        backlog -= (1 - share) * step_s
        passed += step_s
    return Recovery(workers, load, noticed_s, passed)


def tables() -> Iterator[tuple[str, tuple[str, ...], list[tuple[str, ...]]]]:
    """Yields (title, headers, rows) for the terminal and for docs/scale.md."""
    yield (
        "Skew at 5 GW (34,722 racks)",
        ("partitions", "workers", "fullest partition", "fullest worker"),
        [
            (str(s.partitions), str(s.workers), f"{s.partition:.2f} x mean", f"{s.worker:.2f} x mean")
            for p, w in ((64, 8), (128, 16), (256, 16), (512, 16), (1024, 16), (1024, 32))
            for s in [skew(5, p, w)]
        ],
    )
    yield (
        "A worker dies",
        ("workers", "load before", "caught up after"),
        [
            (
                str(w),
                f"{load:.0%}",
                "never: the others are full" if r.caught_up_s == float("inf") else f"{r.caught_up_s:.0f} s",
            )
            for w in (4, 8, 16, 32)
            for load in (0.5, 0.7, 0.85, 0.95)
            for r in [recovery(w, load)]
        ],
    )
