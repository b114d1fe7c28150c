"""Workloads: what each rack is asked to do, as an activity between 0 (idle) and 1 (all tensor pipes busy)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from schemas.arrays import Floats


@dataclass(frozen=True, slots=True)
class Demand:
    """Per GPU, shape [racks, gpus]: `compute` and `communicate` activity, 0 to 1; `resident` is memory in use, 0 to
    1.
    """

    compute: Floats
    communicate: Floats
    resident: Floats


class Workloads:
    """Assigns racks to jobs: of every ten, six train (in jobs of up to 64 racks), three infer, one idles.

    Training is synchronous: all GPUs of a job share an iteration whose compute and communication phases alternate at
    0.2 to 3 Hz (arXiv 2508.14318), here a period of 1.7 to 4.3 s, with a checkpoint every ten minutes. Sampled at 1 Hz
    the phases alias, as they do in the field. Inference follows a daily curve with a slow random walk per rack.
    """

    def __init__(self, racks: int, gpus: int, rng: np.random.Generator) -> None:
        self._rng = rng
        self.shape = (racks, gpus)
        slot = np.arange(racks) % 10
        self.training = slot < 6
        self.inference = (slot >= 6) & (slot < 9)
        if racks < 10:  # a small plant has them too: mostly training, the last rack infers
            self.training = np.arange(racks) < max(1, racks - 1)
            self.inference = ~self.training
        order = np.cumsum(self.training) - 1
        self.job_index = np.where(self.training, order // min(64, max(2, racks // 4)), -1)
        self.names = [
            f"train-{j + 1:03d}" if t else (f"infer-{r % 7 + 1:03d}" if i else "")
            for r, (t, i, j) in enumerate(zip(self.training, self.inference, self.job_index, strict=True))
        ]
        jobs = int(self.job_index.max(initial=0)) + 1
        self._period = rng.uniform(1.7, 4.3, jobs)
        self._phase = rng.uniform(0, 1, jobs)
        self._compute_share = rng.uniform(0.62, 0.78, jobs)
        self._walk = np.zeros(racks)
        self._idle_rows = self._batch_rows = np.zeros(0, np.int64)
        self._batch_level = np.zeros(0)
        self._skill = rng.normal(1.0, 0.012, self.shape).clip(0.95, 1.05)

    def follow(self, batch_level: Floats) -> None:
        """Makes nodes do other than their rack does, from now on: float[nodes], 0 idles, NaN is as the rack."""
        each = self.shape[0] * self.shape[1] // len(batch_level)
        level = np.repeat(batch_level, each)
        self._idle_rows, self._batch_rows = np.flatnonzero(level == 0), np.flatnonzero(level > 0)
        self._batch_level = level[self._batch_rows]

    def demand(self, t_s: float, dt_s: float) -> Demand:
        """Returns the activity averaged over the tick that ends at `t_s` (seconds since 1970)."""
        rng, (racks, gpus) = self._rng, self.shape
        job = np.maximum(self.job_index, 0)
        steps = np.arange(8) / 8  # the driver averages power over about a tick: integrate the phases over it
        phase = ((t_s - dt_s + np.outer(steps, np.ones(racks)) * dt_s) / self._period[job] + self._phase[job]) % 1.0
        computing = (phase < self._compute_share[job]).mean(axis=0)
        checkpoint = (t_s + 60 * job) % 600 < 6
        train = np.where(checkpoint, 0.06, computing)
        day = 0.55 - 0.35 * np.cos(2 * np.pi * (t_s % 86400) / 86400)
        self._walk = 0.995 * self._walk + rng.normal(0, 0.01, racks)
        infer = (day + self._walk).clip(0.05, 0.95)
        rack = np.where(self.training, train, np.where(self.inference, infer, 0.0))
        own = rng.normal(1.0, 0.01, self.shape) * self._skill
        compute = (rack[:, None] * own).clip(0, 1)
        if self.inference.any():  # requests land unevenly
            compute[self.inference] = (
                compute[self.inference] * rng.normal(1, 0.06, (int(self.inference.sum()), gpus))
            ).clip(0, 1)
        traffic = np.where(
            self.training, np.where(checkpoint, 0.02, 1 - computing), np.where(self.inference, 0.1 * infer, 0.0)
        )
        communicate = traffic[:, None] * np.ones(self.shape)
        resident = np.where(self.training, 0.86, np.where(self.inference, 0.72, 0.01))[:, None] * np.ones(self.shape)
        if len(self._batch_rows) or len(self._idle_rows):
            busy = (self._batch_level * own.ravel()[self._batch_rows]).clip(0, 1)
            for array, batch, idle in ((compute, busy, 0.0), (communicate, 0.1, 0.0), (resident, 0.8, 0.01)):
                flat = array.reshape(-1)
                flat[self._batch_rows], flat[self._idle_rows] = batch, idle
        return Demand(compute, communicate, resident)
