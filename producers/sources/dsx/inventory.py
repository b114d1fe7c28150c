"""What DSX metadata states of the building: equipment, its names, and what serves what. Pure.

`servesId` lists what an object serves, towards the rack; `associateId` names the object that a point is part of (such a
point has no id of its own); `rackLocationId` is the rack. NVIDIA DSX Exchange, BMS 1.0 (`bms.yaml`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from producers.emission import Event
from producers.sources.declared import AssetRow, DeclaredRow, DeclaredRows, EdgeRow, NameRow, contained

#: objectType -> the kind that it is here, and the network by which it serves others.
TYPES = {
    "PowerMeter": ("meter", "power"),
    "UPS": ("ups", "power"),
    "ATS": ("ats", "power"),
    "BESS": ("bess", "power"),
    "Breaker": ("breaker", "power"),
    "Generator": ("generator", "power"),
    "Shunt": ("breaker", "power"),
    "Rack": ("rack", ""),
    "CDU": ("cdu", "fluid"),
    "Chiller": ("chiller", "fluid"),
    "CoolingTower": ("tower", "fluid"),
    "HX": ("hx", "fluid"),
    "Pump": ("pump", "fluid"),
    "Tank": ("tank", "fluid"),
    "Valve": ("valve", "fluid"),
    "AHU": ("ahu", "fluid"),
    "CRAC": ("crac", "fluid"),
    "CRAH": ("crah", "fluid"),
    "Damper": ("damper", "fluid"),
    "Fan": ("fan", "fluid"),
    "Sensor": ("sensor", ""),
    "GenericObject": ("other", ""),
}
SYSTEM = "dsx"


class DsxInventory:
    """Takes metadata messages in any order and gives the rows that follow from all of them. `site` replaces the one
    that the tag path begins with. A point whose metadata is emptied states nothing any more.
    """

    def __init__(self, site: str = "") -> None:
        self._site = site
        self._stated: dict[str, list[DeclaredRow]] = {}
        self._rows = DeclaredRows(SYSTEM)
        self._changed = False

    def note(self, topic: str, payload: str, now_ms: int) -> None:
        """Takes one message; what is no metadata, or not in the form of the contract, states nothing."""
        parts = topic.split("/")
        if len(parts) < 7 or parts[:2] != ["BMS", "v1"] or parts[3] != "Metadata":
            return
        try:
            body = json.loads(payload) if payload else {}
        except (ValueError, RecursionError):
            return
        if not isinstance(body, dict):
            return
        rows = list(_rows(parts, body, self._site or "/".join(parts[6:8]), now_ms))
        tag = "/".join(parts[4:])
        if rows != self._stated.get(tag, []):
            self._stated[tag], self._changed = rows, True

    def events(self, now_ms: int) -> Iterator[Event]:
        """Yields what is new, has changed, or is gone since the last call."""
        if not self._changed:
            return
        self._changed = False
        rows = {row.key: row for stated in reversed(self._stated.values()) for row in stated}
        inside = contained(row for row in rows.values() if isinstance(row, AssetRow))
        yield from self._rows.update([*rows.values(), *inside], now_ms)


def _rows(parts: list[str], meta: Mapping[str, object], site: str, now_ms: int) -> Iterator[DeclaredRow]:
    kind, network = TYPES.get(parts[4], ("", ""))
    if not kind:
        return  # System: a heartbeat
    rack = _text(meta, "rackLocationId") or _text(meta, "rackID")
    own = rack if kind == "rack" else _text(meta, "objectId")
    part_of = _text(meta, "associateId")
    if not own:
        if part_of:
            path = "/".join(parts[6:])
            yield NameRow(site=site, system=SYSTEM, name=path, asset=part_of, since=now_ms)
        return
    device = "" if kind == "rack" else own
    yield AssetRow(site=site, asset=own, kind=kind, rack=rack, device=device, since=now_ms)
    shown = _text(meta, "rackLocationName" if kind == "rack" else "objectName")
    for name in dict.fromkeys((own, shown)):
        if name:
            yield NameRow(site=site, system=SYSTEM, name=name, asset=own, since=now_ms)
    served = meta.get("servesId")
    for each in served if isinstance(served, list) and network else []:
        if isinstance(each, str) and each.strip() and each.strip() != own:
            yield EdgeRow(site=site, network=network, upstream=own, downstream=each.strip(), since=now_ms)


def _text(meta: Mapping[str, object], field: str) -> str:
    value = meta.get(field)
    return value.strip() if isinstance(value, str) else ""
