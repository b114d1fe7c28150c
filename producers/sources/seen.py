"""What a source has seen: boards at their places, and what systems call them, as inventory. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from producers.emission import Event
from schemas.inventory import ASSET, NAME, SEEN


@dataclass(frozen=True, slots=True)
class Sighting:
    """A device as a source sees it. `asset` is its UUID, serial or asset id, its name where it has none.

    `names`: (system, name) of each system that calls it something, such as ("pci", "n1/00000000:01:00.0").
    """

    asset: str
    kind: str
    model: str = ""
    rack: str = ""
    node: str = ""
    device: str = ""
    serial: str = ""
    names: tuple[tuple[str, str], ...] = ()


class SeenAssets:
    """Follows sightings. A source hands one in at first sight and when anything of it changes, not at every sample."""

    def __init__(self, site: str) -> None:
        self._site = site
        self._assets: dict[str, tuple[Sighting, int]] = {}  # since when it is so, ms
        self._names: dict[tuple[str, str], tuple[str, int]] = {}  # its asset, since when

    def update(self, sightings: Iterable[Sighting], ts_ms: int) -> list[Event]:
        """Returns rows of what is new: where a place or name was another before, that one once more with its end."""
        assets: list[dict[str, Any]] = []
        names: list[dict[str, Any]] = []
        for sighting in sightings:
            place = replace(sighting, names=())
            known = self._assets.get(sighting.asset)
            if known is not None and replace(known[0], names=()) == place:
                since = known[1]
            else:
                if known is not None and known[1] != ts_ms:  # at one instant the new row replaces the old one
                    assets.append(self._asset(known[0], known[1], ts_ms))
                assets.append(self._asset(sighting, ts_ms, 0))
                since = ts_ms
            gone = set(known[0].names) - set(sighting.names) if known is not None else set[tuple[str, str]]()
            names += [row for key in sorted(gone) for row in self._drop(key, sighting.asset, ts_ms)]
            for key in sighting.names:
                names += self._call(key, sighting.asset, ts_ms)
            self._assets[sighting.asset] = sighting, since
        return _events(assets, names)

    def close(self, asset: str, ts_ms: int) -> list[Event]:
        """Returns the end of an asset that turned out to be another, nothing where it was never seen."""
        known = self._assets.pop(asset, None)
        if known is None:
            return []
        names = [row for key in known[0].names for row in self._drop(key, asset, ts_ms)]
        return _events([self._asset(*known, ts_ms)], names)

    def _call(self, key: tuple[str, str], asset: str, ts_ms: int) -> list[dict[str, Any]]:
        """Rows of a name that the asset has now; a name that another had goes over to it."""
        known = self._names.get(key)
        if known is not None and known[0] == asset:
            return []
        self._names[key] = asset, ts_ms
        new = self._name(key, asset, ts_ms, 0)
        # at one instant the new row stands under the old one's key, and replaces it
        return [new] if known is None or known[1] == ts_ms else [self._name(key, *known, ts_ms), new]

    def _drop(self, key: tuple[str, str], asset: str, ts_ms: int) -> list[dict[str, Any]]:
        """Rows of a name that the asset has no longer; nothing where another has it already."""
        known = self._names.get(key)
        if known is None or known[0] != asset:
            return []
        del self._names[key]
        return [self._name(key, *known, ts_ms)]

    def _asset(self, sighting: Sighting, since: int, until: int) -> dict[str, Any]:
        return {
            "seen": until or since,
            "site": self._site,
            "asset": sighting.asset,
            "kind": sighting.kind,
            "model": sighting.model,
            "serial": sighting.serial,
            "hall": "",
            "row": "",
            "rack": sighting.rack,
            "slot": "",
            "node": sighting.node,
            "device": sighting.device,
            "origin": SEEN,
            "state": "active",
            "reason": "",
            "valid_from": since,
            "valid_to": until,
        }

    def _name(self, key: tuple[str, str], asset: str, since: int, until: int) -> dict[str, Any]:
        return {
            "seen": until or since,
            "site": self._site,
            "system": key[0],
            "name": key[1],
            "asset": asset,
            "origin": SEEN,
            "valid_from": since,
            "valid_to": until,
        }


def _events(assets: list[dict[str, Any]], names: list[dict[str, Any]]) -> list[Event]:
    return [Event(stream, stream.build_rows(rows)) for stream, rows in ((ASSET, assets), (NAME, names)) if rows]
