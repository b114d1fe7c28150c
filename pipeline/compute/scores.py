"""Anomaly scores: each device against its peers and its own past, 0 (as ever) to 1 (certain), with the cause.

Pure numpy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.compute import stats
from pipeline.compute.groups import Groups
from schemas.arrays import Bools, Floats, Ints
from schemas.metric import Metric

LEAST_PEERS = 4
LEAST_HISTORY = 4  # panes
#: Scores below this are not published: the device is as it always is.
PUBLISH_FROM = 0.05
#: XIDs that need an operator, from NVIDIA's XID catalogue: off the bus, uncontained or unrecovered ECC, row remap
#: failure, NVLink, GSP, micro-controller halt.
SEVERE_XIDS = (48, 62, 64, 74, 79, 92, 95, 119, 120, 140, 143, 158, 171, 172)


@dataclass(slots=True)
class Scored:
    """Per device: score 0 to 1, index of the causing metric (or a negative special), its value, what was expected,
    both z.
    """

    score: Floats
    cause: Ints
    value: Floats
    expected: Floats
    z_self: Floats
    z_peer: Floats

    @staticmethod
    def none(devices: int) -> Scored:
        nan = np.full(devices, np.nan)
        return Scored(np.zeros(devices), np.full(devices, -1), nan.copy(), nan.copy(), nan.copy(), nan.copy())

    def raise_to(self, where: Bools, score: float, cause: int, value: Floats, expected: float) -> None:
        """Sets a higher score for the devices where something certain was seen."""
        self.judge(where & (self.score < score), score, cause, value, expected)

    def judge(self, where: Bools, score: float, cause: int, value: Floats, expected: float) -> None:
        """Sets the score of these devices, whatever it was: their readings say nothing else that is true."""
        self.score[where], self.cause[where] = score, cause
        self.value[where], self.expected[where] = value[where], expected
        self.z_self[where] = self.z_peer[where] = np.nan


def evidence(z: Floats) -> Floats:
    """z to 0..1: nothing up to 3.5 sigmas, 0.5 near 7, 0.9 near 10; unknown is nothing."""
    beyond = np.maximum(np.nan_to_num(z, nan=0.0) - 3.5, 0.0) / 4.2
    return np.asarray(1.0 - np.exp(-(beyond**2)))


def combine(z_self: Floats, z_peer: Floats) -> Floats:
    """Peers decide where there are any, since a job that changes phase changes every GPU's past but no GPU's peers.

    The past adds up to 15 %; a device without peers is judged by its past alone.
    """
    own, peers = evidence(z_self), evidence(z_peer)
    return np.where(np.isnan(z_peer), own, peers * (0.85 + 0.15 * own))


def score(
    metrics: list[tuple[int, Metric]], current: Floats, baseline: tuple[Floats, Floats], groups: Groups
) -> Scored:
    """Scores one pane.

    `metrics`: (index in the catalogue, metric) of the k scored ones; `current`: float[k, devices] pane means;
    `baseline`: median and robust sigma of each device's past, float[k, devices], NaN where unknown; `groups`: each
    device's peers.
    """
    result = Scored.none(current.shape[1])
    centre, sigma = baseline
    for k, (index, metric) in enumerate(metrics):
        rule = metric.score
        assert rule is not None
        values = current[k]
        peer_centre, peer_sigma = stats.group_robust(values, groups, LEAST_PEERS)
        z_peer = stats.z(values, peer_centre, peer_sigma, rule.floor, rule.direction)
        z_self = np.full_like(values, np.nan)
        if rule.self_history:
            z_self = stats.z(values, centre[k], sigma[k], rule.floor, rule.direction)
        strength = rule.weight * combine(z_self, z_peer)
        better = strength > result.score
        for array, new in (
            (result.score, strength),
            (result.value, values),
            (result.z_self, z_self),
            (result.z_peer, z_peer),
            (result.expected, np.where(np.isnan(peer_centre), centre[k], peer_centre)),
        ):
            array[better] = new[better]
        result.cause[better] = index
    return result
