"""Which endpoint a device's name belongs to. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from producers.sources.dcgm.page import ScrapedBoard


@dataclass(frozen=True, slots=True)
class NameClash:
    """Another endpoint, by its place in the configuration, has this name for another board."""

    endpoint: int
    device: str


class NameClaims:
    """The names that endpoints gave in the last `lasting_ms`. Of two endpoints that give one name to different boards
    the one that is configured first has it. Boards without a UUID never clash.
    """

    def __init__(self, lasting_ms: int) -> None:
        self._lasting_ms = lasting_ms
        self._claims: dict[tuple[str, str], tuple[int, str, int]] = {}  # (rack, device) -> endpoint, UUID, ms

    def claim(self, endpoint: int, boards: Iterable[ScrapedBoard], ts_ms: int) -> NameClash | None:
        """Takes the names for this endpoint, all or none: returns the first that an earlier one has."""
        named = [((b.rack, b.device), b.uuid) for b in boards if b.uuid]
        for name, uuid in named:
            owner, other, at = self._claims.get(name, (endpoint, uuid, ts_ms))
            if owner < endpoint and other != uuid and ts_ms - at <= self._lasting_ms:
                return NameClash(owner, name[1])
        self._claims |= {name: (endpoint, uuid, ts_ms) for name, uuid in named}
        return None
