"""A parcel: what is handed to Kafka in one piece, a message or a finished batch of them, with what there is to count
when it has arrived.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class OutgoingMessage:
    """`value` is a message (`messages` 0) or the compressed records of a batch for `partition`. `rows` of `kind`, each
    with `metrics`
    metrics, up to `ts_ms`; `kind` is empty for what is no telemetry."""

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

    def label(self) -> dict[str, Any]:
        """Everything but the value, for JSON."""
        said = asdict(self)
        del said["value"]
        return {**said, "key": self.key.hex()}

    @classmethod
    def of(cls, label: Mapping[str, Any], value: bytes) -> OutgoingMessage:
        return cls(**{**label, "key": bytes.fromhex(label["key"]), "value": value})
