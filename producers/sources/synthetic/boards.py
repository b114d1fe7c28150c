"""Who the devices of a synthetic site are: a UUID for each GPU, a serial for what else has a plate of its own."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

import pyarrow as pa


class Boards:
    """Boards of one factory: the same for the same site, seed and place. `spare` counts the boards that a place had."""

    def __init__(self, site: str, seed: int) -> None:
        self._factory = f"{site}/{seed}"

    def uuid(self, place: str, spare: int = 0) -> str:
        """Returns a GPU's UUID as NVML writes it, `GPU-xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`."""
        h = self._digest(place, spare)
        return f"GPU-{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"

    def serial(self, place: str, spare: int = 0) -> str:
        return f"SN{self._digest(place, spare)[:14].upper()}"

    def uuids(self, places: pa.Array) -> pa.Array:
        return _strings(self.uuid(place) for place in places.to_pylist())

    def serials(self, places: pa.Array) -> pa.Array:
        return _strings(self.serial(place) for place in places.to_pylist())

    def _digest(self, place: str, spare: int) -> str:
        return blake2b(f"{self._factory}/{place}/{spare}".encode(), digest_size=16).hexdigest()


def _strings(values: Iterable[str]) -> pa.Array:
    return pa.array(list(values), pa.string())
