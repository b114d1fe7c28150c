"""The record batches of a device list: which of its messages go to Kafka together, tick after tick."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from producers.emission import DeviceList, SiteTick
from producers.publish.encoder import TickEncoder
from producers.publish.outgoing import OutgoingMessage
from schemas import topics
from schemas.record_batch import cut
from schemas.validation import Counts


class TickBatches:
    """Encodes the ticks of one device list as record batches; `partition_of` gives the partition of a key.

    `places` is (kind, key, first node, rows) of every message. Holds no reference to the device list, so that it can
    be kept for exactly as long as the list is in use.
    """

    def __init__(self, devices: DeviceList, partition_of: Callable[[bytes], int]) -> None:
        self._kind, self._metrics = devices.kind, len(devices.metrics)
        self._encoder = encoder = TickEncoder(devices)
        self._chunks = cut(encoder.keys, encoder.lengths, partition_of)
        self._rows = [int(encoder.sizes[list(chunk.numbers)].sum()) for chunk in self._chunks]
        self.places = [
            (devices.kind, key, node, rows)
            for key, node, rows in zip(encoder.keys, encoder.first_nodes, encoder.sizes.tolist(), strict=True)
        ]

    def messages(self, tick: SiteTick, counts: Counts) -> Iterator[OutgoingMessage]:
        """Yields the tick batch by batch; take them all before the next tick. Invalid values are masked and counted."""
        encoded = self._encoder.encode_in_place(tick, counts)
        topic, last_ms = topics.telemetry(self._kind), tick.last_ms
        for chunk, rows in zip(self._chunks, self._rows, strict=True):
            yield OutgoingMessage(
                topic,
                b"",
                chunk.records(encoded),
                chunk.size,
                len(chunk.numbers),
                chunk.partition,
                self._kind,
                rows,
                self._metrics,
                last_ms,
            )
