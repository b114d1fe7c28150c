"""What the stream consumes, by name; importable without faust."""

from schemas import topics
from schemas.catalogue import KINDS

TELEMETRY = tuple(topics.telemetry(kind) for kind in KINDS)
PART_TOPIC = topics.derived("part")
CONSUMED = (*TELEMETRY, PART_TOPIC)
