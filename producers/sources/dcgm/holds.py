"""What the jobs of a page hold: boards, and how much of each. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from producers.sources.dcgm.page import ScrapedBoard
from producers.sources.label_jobs import LabelHold

#: Compute slices of a board that MIG divides (NVIDIA's MIG user guide).
_SLICES, _SLICES_OF = 7, {"A30": 4}


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
