"""What one poll of Slurm gives: jobs with their holds, and nodes with their state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class NodeHold:
    """What a job holds on one node, by Slurm's name: `indices` of its GPUs, none for all of them, and the share.

    Not `exact`: Slurm gives a count and no indices, so all GPUs of the node carry their part of it.
    """

    node: str
    indices: tuple[int, ...]
    count: int
    share: float = 1.0
    exact: bool = True


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job of one dump; times in ms, 0: not yet. `since` and `until` are its hold's, which a suspension or a new size
    splits; equal are jobs whose row is, whatever they hold.
    """

    job: str
    state: str
    cluster: str = ""
    user: str = ""
    account: str = ""
    name: str = ""
    partition: str = ""
    reason: str = ""
    submitted: int = 0
    started: int = 0
    ended: int = 0
    since: int = field(default=0, compare=False)
    until: int = field(default=0, compare=False)
    nodes: int = 0
    gpus: int = 0
    holds: tuple[NodeHold, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """A node of one dump. `changed`: when its reason was given, ms, 0: unknown."""

    node: str
    state: str
    reason: str = ""
    changed: int = 0
    gpus: int = 0
    gpus_used: int = 0


@dataclass(frozen=True, slots=True)
class SlurmDump:
    """All jobs and nodes at one moment, and the records that could not be read, by reason.

    With a job among those the dump is not `whole`: that a job is not in it does not show that it ended.
    """

    jobs: Mapping[str, JobRecord]
    nodes: Mapping[str, NodeRecord]
    refused: Counter[str] = field(default_factory=Counter)

    @property
    def whole(self) -> bool:
        return not any(reason.startswith("job") for reason in self.refused)

    @property
    def inexact(self) -> list[str]:
        """Nodes, by Slurm's name, on which a job holds GPUs of which only the number is known."""
        return sorted({hold.node for job in self.jobs.values() for hold in job.holds if not hold.exact})
