"""The jobs that dcgm-exporter's labels name, and what they hold. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from producers.sources.label_jobs import LabelHold

if TYPE_CHECKING:
    from producers.sources.dcgm.page import ScrapedBoard

#: (namespace, pod), the first that names a pod counts. What a scraper moved aside comes first: `namespace` and `pod`
#: beside it are then the exporter's own. Last, the exporter's labels until its version 2.
_POD_LABELS = (
    ("exported_namespace", "exported_pod"),
    ("namespace", "pod"),
    ("exported_pod_namespace", "exported_pod_name"),
    ("pod_namespace", "pod_name"),
)


#: Compute slices of a board that MIG divides (NVIDIA's MIG user guide).
_SLICES, _SLICES_OF = 7, {"A30": 4}


def job_of(labels: Mapping[str, str]) -> str:
    """Returns the batch job's id (`hpc_job`), else `NAMESPACE/POD`; empty where no label names one.

    A pod is one job, however many of its containers hold GPUs.
    """
    if job := labels.get("hpc_job"):
        return job
    for namespace, pod in _POD_LABELS:
        if name := labels.get(pod):
            return f"{space}/{name}" if (space := labels.get(namespace)) else name
    return ""


def holds_of(boards: Iterable[ScrapedBoard]) -> list[LabelHold]:
    """Returns one hold for each job and node, in the order of its first board.

    `n` jobs of a board, or of a MIG instance, have 1/n of it each; an instance is as much of its board as its profile
    has slices. The share is the mean over the job's boards of the node.
    """
    shares: dict[tuple[str, str, str], dict[str, float]] = {}  # (job, rack, node) -> device -> share
    for board in boards:
        parts = [(board.jobs, 1.0)] + [(i.jobs, _size(i.profile, board.model)) for i in board.instances.values()]
        for jobs, size in parts:
            for job in jobs:
                held = shares.setdefault((job, board.rack, board.node), {})
                held[board.device] = min(1.0, held.get(board.device, 0.0) + size / len(jobs))
    return [
        LabelHold(job, rack, node, tuple(held), round(sum(held.values()) / len(held), 6))
        for (job, rack, node), held in shares.items()
    ]


def _size(profile: str, model: str) -> float:
    """Returns what share of its board an instance of a profile such as `2g.20gb` is; all of it without a profile."""
    slices = profile.partition("g.")[0]
    most = _SLICES_OF.get(model.partition(" ")[0], _SLICES)
    return min(1.0, int(slices) / most) if slices.isdecimal() and len(slices) < 3 else 1.0
