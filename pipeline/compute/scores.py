"""Anomaly scores: each device against its peers and its own past, 0 (normal) to 1 (certain), with the cause.

Pure numpy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.compute import stats
from pipeline.compute.groups import Groups
from schemas.arrays import Bools, Floats
from schemas.metric import Metric
from schemas.thresholds import PEERS_LEAST

LEAST_HISTORY = 4  # panes
#: Scores below this are not published: the device is as it usually is.
PUBLISH_FROM = 0.05


@dataclass(slots=True)
class Scored:
    """Per device: score 0 to 1, its cause ("" is none; a metric or a rule by name), the cause's value, the value
    expected, both z. `cause` is an object array of str, the others float64.
    """

    score: Floats
    cause: Floats
    value: Floats
    expected: Floats
    z_self: Floats
    z_peer: Floats

    @staticmethod
    def none(devices: int) -> Scored:
        nan = np.full(devices, np.nan)
        cause = np.full(devices, "", object)
        return Scored(np.zeros(devices), cause, nan.copy(), nan.copy(), nan.copy(), nan.copy())

    def raise_to(self, where: Bools, score: float, cause: str, value: Floats, expected: float) -> None:
        """Sets a higher score for the devices of a certain finding."""
        self.override(where & (self.score < score), score, cause, value, expected)

    def override(self, where: Bools, score: float, cause: str, value: Floats, expected: float) -> None:
        """Sets the score of these devices, whatever it was: their readings mean nothing else."""
        self.score[where], self.cause[where] = score, cause
        self.value[where], self.expected[where] = value[where], expected
        self.z_self[where] = self.z_peer[where] = np.nan


def evidence(z: Floats) -> Floats:
    """Maps z to 0..1: nothing up to 3.5 sigmas, 0.5 near 7, 0.9 near 10; unknown is nothing."""
    beyond = np.maximum(np.nan_to_num(z, nan=0.0) - 3.5, 0.0) / 4.2
    return np.asarray(1.0 - np.exp(-(beyond**2)))


def combine(z_self: Floats, z_peer: Floats) -> Floats:
    """Peers decide where there are any, since a job that changes phase changes every GPU's past but no GPU's peers.

    The past adds up to 15 %; a device without peers is judged by its past alone.
    """
    own, peers = evidence(z_self), evidence(z_peer)
    return np.where(np.isnan(z_peer), own, peers * (0.85 + 0.15 * own))


def score(metrics: Sequence[Metric], current: Floats, baseline: tuple[Floats, Floats], groups: Groups) -> Scored:
    """Scores one pane.

    `metrics`: the k scored ones; `current`: float[k, devices] pane means; `baseline`: median and robust sigma of each
    device's past, float[k, devices], NaN where unknown; `groups`: each device's peers.
    """
    result = Scored.none(current.shape[1])
    centre, sigma = baseline
    for k, metric in enumerate(metrics):
        vote = metric.score
        assert vote is not None
        values = current[k]
        peer_centre, peer_sigma = stats.group_robust(values, groups, PEERS_LEAST)
        z_peer = stats.z(values, peer_centre, peer_sigma, vote.floor, vote.direction)
        z_self = np.full_like(values, np.nan)
        if vote.self_history:
            z_self = stats.z(values, centre[k], sigma[k], vote.floor, vote.direction)
        strength = vote.weight * combine(z_self, z_peer)
        better = strength > result.score
        for array, new in (
            (result.score, strength),
            (result.value, values),
            (result.z_self, z_self),
            (result.z_peer, z_peer),
            (result.expected, np.where(np.isnan(peer_centre), centre[k], peer_centre)),
        ):
            array[better] = new[better]
        result.cause[better] = metric.name
    return result
