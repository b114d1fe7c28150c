"""What goes to Kafka in one piece: a message or a finished batch of messages, with the counts to add once it is
acknowledged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from schemas import topics
from schemas.codec import encode
from schemas.frame import Frame


@dataclass(frozen=True, slots=True)
class OutgoingMessage:
    """`value` is a message (`messages` 0) or the compressed records of a batch for `partition`; `size` is its bytes
    before compression. It carries `rows` of `kind` with `metrics` metrics each, up to `ts_ms`; `kind` is empty for
    what is no telemetry.
    """

    topic: str
    key: bytes
    value: bytes
    size: int
    messages: int = 0
    partition: int = -1
    kind: str = ""
    rows: int = 0
    metrics: int = 0
    ts_ms: int = 0

    @property
    def count(self) -> int:
        """Kafka messages in it."""
        return self.messages or 1

    def label(self) -> dict[str, Any]:
        """Returns everything but the value, for JSON."""
        label = asdict(self)
        del label["value"]
        return {**label, "key": self.key.hex()}

    @classmethod
    def of(cls, label: Mapping[str, Any], value: bytes) -> OutgoingMessage:
        """Returns the message that `label` was made from. Raises TypeError, KeyError or ValueError for another."""
        return cls(**{**label, "key": bytes.fromhex(label["key"]), "value": value})

    @classmethod
    def of_frame(cls, frame: Frame) -> OutgoingMessage:
        """Returns a frame as one message, keyed by its place."""
        value = encode(frame)
        return cls(
            topics.telemetry(frame.kind),
            frame.key(),
            value,
            len(value),
            kind=frame.kind,
            rows=frame.rows,
            metrics=frame.metrics,
            ts_ms=frame.span()[1],
        )
