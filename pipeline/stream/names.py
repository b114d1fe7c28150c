"""The topics that the stream consumes; importable without faust."""

from schemas import topics
from schemas.catalogue import KINDS

TELEMETRY = tuple(topics.telemetry(kind) for kind in KINDS)
PART_TOPIC = topics.derived("part")
CONSUMED = (*TELEMETRY, PART_TOPIC)
