"""Kafka topics: their names, and how many partitions they want."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.catalogue import KINDS
from schemas.derived import DERIVED

#: Telemetry topics share a partition count, so that a rack's frames of all kinds meet on one worker.
PARTITIONS = 4
DEAD_LETTERS = "dead-letters"


@dataclass(frozen=True, slots=True)
class Topic:
    """`partitions` 0 means as many as asked for; `keep_h` hours are kept, -1 for good, 0 as the broker is set."""

    name: str
    partitions: int = 0
    keep_h: int = 0


def telemetry(kind: str) -> str:
    """The topic of a kind's frames."""
    return f"telemetry.{kind}"


def derived(name: str) -> str:
    """The topic of a derived stream."""
    return DERIVED[name].topic


TOPICS: dict[str, Topic] = {
    t.name: t
    for t in (
        *(Topic(telemetry(kind)) for kind in KINDS),
        *(Topic(stream.topic, stream.partitions, stream.keep_h) for stream in DERIVED.values()),
        Topic(DEAD_LETTERS, 1),
    )
}

#: Topics of frames, a kind each.
TELEMETRY = tuple(telemetry(kind) for kind in KINDS)
#: The topic of the racks' shares, which the stream reads back.
PART_TOPIC = derived("part")
#: What every worker reads as a whole, beside the partitions that it has: the inventory and who holds what.
CONTEXT = tuple(derived(name) for name in ("asset", "edge", "allocation"))
#: What the stream consumes.
CONSUMED = (*TELEMETRY, PART_TOPIC)
