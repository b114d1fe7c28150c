"""Kafka topics: their names, what they carry, and how many partitions they want."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.catalogue import KINDS
from schemas.derived import DERIVED

#: Telemetry topics share a partition count, so that a rack's frames of all kinds meet on one worker.
PARTITIONS = 4
DEAD_LETTERS = "dead-letters"

_NAMES = {
    "window": "rollups.window",
    "part": "rollups.part",
    "rack": "rollups.rack",
    "site": "rollups.site",
    "score": "scores",
    "incident": "incidents",
    "label": "events.label",
    "quality": "events.quality",
}


@dataclass(frozen=True, slots=True)
class Topic:
    """`carries` is a kind of frame, a derived stream, or `dead-letters`; `partitions` 0 means as many as asked for."""

    name: str
    carries: str
    partitions: int = 0


def telemetry(kind: str) -> str:
    return f"telemetry.{kind}"


def derived(name: str) -> str:
    """The topic of a derived stream: `rollup_gpu` travels on `rollups.gpu`."""
    return _NAMES.get(name) or name.replace("rollup_", "rollups.")


TOPICS: dict[str, Topic] = {
    t.name: t
    for t in (
        *(Topic(telemetry(kind), kind) for kind in KINDS),
        *(
            Topic(derived(name), name, 1 if name in ("part", "rack", "site", "incident", "label", "quality") else 0)
            for name in DERIVED
        ),
        Topic(DEAD_LETTERS, DEAD_LETTERS, 1),
    )
}
