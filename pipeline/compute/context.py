"""What all engines of a worker share: the inventory, who holds what, and what feeds what."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from pipeline.compute.allocations import Allocations
from pipeline.compute.devices import Devices
from pipeline.compute.inventory import Asset, Inventory
from schemas.derived_stream import Derived, columns_of
from schemas.inventory import ASSET, EDGE
from schemas.jobs import ALLOCATION

_EdgeKey = tuple[str, str, str, str, str, int]


class Context:
    """Fed from the topics of `schemas.topics.CONTEXT` while engines run; each asks for what it has not seen yet."""

    def __init__(self) -> None:
        self.inventory = Inventory()
        self.allocations = Allocations()
        self._edges: dict[_EdgeKey, dict[str, Any]] = {}
        self.edges_version = 0
        #: (site, node) -> rack, as telemetry has it: a scheduler knows nodes, not racks
        self.racks: dict[tuple[str, str], str] = {}

    def apply(self, stream: Derived, batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
        """Takes rows of one of its streams; yields rows of QUALITY where they contradict what is known."""
        if stream is ALLOCATION:
            self.allocations.apply(batch)
        elif stream is EDGE:
            self._take_edges(batch)
        elif stream is ASSET:
            for asset, field in self.inventory.differences(self.inventory.apply(batch)):
                yield _difference(asset, field)

    def edges(self, at_ms: int) -> list[dict[str, Any]]:
        """Returns the edges that are valid, as rows of EDGE with times in ms."""
        return [
            edge
            for edge in self._edges.values()
            if edge["valid_from"] <= at_ms and (not edge["valid_to"] or edge["valid_to"] > at_ms)
        ]

    def note_racks(self, devices: Devices) -> None:
        """Takes over which rack each node of these devices is in."""
        names = (devices.columns[n] for n in ("site", "node", "rack"))
        self.racks.update({(site, node): rack for site, node, rack in zip(*names, strict=True) if node})

    def _take_edges(self, batch: pa.RecordBatch) -> None:
        names = batch.schema.names
        for values in zip(*columns_of(batch, *names), strict=True):
            edge = dict(zip(names, values, strict=True))
            key = (
                edge["site"],
                edge["network"],
                edge["upstream"],
                edge["downstream"],
                edge["origin"],
                edge["valid_from"],
            )
            before = self._edges.get(key)
            if before is None or any(before[name] != edge[name] for name in ("redundancy", "valid_to")):
                self.edges_version += 1
            self._edges[key] = edge


def _difference(asset: Asset, field: str) -> dict[str, Any]:
    return {
        "ts": asset.valid_from,
        "kind": asset.kind,
        "site": asset.site,
        "rack": asset.rack,
        "metric": field,
        "reason": "inventory-differs",
        "count": 1,
    }
