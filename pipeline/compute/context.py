"""What all engines of a worker share: the inventory, and who holds what."""

from __future__ import annotations

from pipeline.compute.allocations import Allocations
from pipeline.compute.devices import Devices
from pipeline.compute.inventory import Inventory


class Context:
    """Fed from the topics of `schemas.topics.CONTEXT` while engines run; each asks for what it has not seen yet."""

    def __init__(self) -> None:
        self.inventory = Inventory()
        self.allocations = Allocations()
        #: (site, node) -> rack, as telemetry has it: a scheduler knows nodes, not racks
        self.racks: dict[tuple[str, str], str] = {}

    def note_racks(self, devices: Devices) -> None:
        """Takes over which rack each node of these devices is in."""
        names = (devices.columns[n] for n in ("site", "node", "rack"))
        self.racks.update({(site, node): rack for site, node, rack in zip(*names, strict=True) if node})
