"""Which devices of one kind and partition ought to report: what was heard here, and what an inventory declares."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pipeline.compute.devices import Devices
from pipeline.compute.inventory import Inventory
from pipeline.compute.ring import widen
from pipeline.compute.timing import PANE_MS
from schemas.arrays import Bools, Floats

#: A device that is declared may begin to report so long after we begin to look, ms.
GRACE_MS = 60_000


class Expectation:
    """`expected` bool[devices] as of the last `update`. `is_mine`: whether the key of a place belongs
    to this partition.
    """

    def __init__(self, kind: str, devices: Devices, is_mine: Callable[[bytes], bool] | None = None) -> None:
        self._kind, self._devices = kind, devices
        self.is_mine = is_mine
        self.expected: Bools = np.zeros(0, bool)
        self._declared_ms = np.zeros(0)
        self._seen = (-1, -1)
        self._changes_ms = 0
        self._began_ms = 0

    def update(self, end: int, inventory: Inventory) -> None:
        """Follows the inventory and the devices up to `end`, ms."""
        self._began_ms = self._began_ms or end - PANE_MS
        if self._seen != (inventory.version, self._devices.version) or end >= self._changes_ms:
            if self._seen[0] != inventory.version or end >= self._changes_ms:
                self._declare(end, inventory)
                self._changes_ms = inventory.next_change_ms(end)
            self._seen = inventory.version, self._devices.version
            self.expected = inventory.expected(self._kind, self._devices, end)

    def known(self, end: int, first_seen_ms: Floats) -> Bools:
        """Returns bool[devices]: expected to give samples in the whole pane that ends at `end`."""
        declared = widen(self._declared_ms, len(self._devices), np.inf)
        return np.asarray(self.expected & ((first_seen_ms < end - PANE_MS) | (declared <= end - PANE_MS)))

    def _declare(self, end: int, inventory: Inventory) -> None:
        for asset in inventory.declared(self._kind, end):
            key = f"{asset.site}/{asset.rack or asset.device or asset.asset}".encode()
            if self.is_mine is not None and not self.is_mine(key):
                continue
            (row,) = self._devices.declare([asset.identity])
            self._declared_ms = widen(self._declared_ms, len(self._devices), np.inf)
            since = max(asset.valid_from, self._began_ms + GRACE_MS)
            self._declared_ms[row] = min(self._declared_ms[row], since)

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"is_mine": None}
