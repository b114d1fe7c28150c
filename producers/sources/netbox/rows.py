"""NetBox's objects as rows of the inventory. Pure.

https://netboxlabs.com/docs/netbox/integrations/rest-api
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping

from producers.sources.declared import ASSET_KINDS, AssetRow, DeclaredRow, NameRow, contained
from producers.sources.netbox.feeds import equipment, supply
from producers.sources.netbox.objects import Dump, KnownNames, NetboxObjectFields, objects
from producers.sources.source import SourceError

#: Collection -> more of its query.
COLLECTIONS: Mapping[str, str] = {
    "sites": "",
    "locations": "",
    "racks": "",
    "devices": "",
    "inventory-items": "&role=gpu",
    "power-panels": "",
    "power-feeds": "",
    "power-ports": "",
    "cooling-sources": "",
    "cooling-feeds": "",
    "cables": "",
}
NEEDED = ("racks", "devices")

#: The first that is found in a device's role or type gives its kind.
_KINDS = (
    ("nvswitch", r"nv-?(link|switch)"),
    ("switch", r"switch|leaf|spine|router"),
    ("cdu", r"\bcdu|coolant|cooling-dist"),
    ("shelf", r"shelf"),
    ("pdu", r"pdu|rpp|power-dist"),
    ("ups", r"\bups\b"),
    ("busway", r"busway|busbar"),
    ("meter", r"meter"),
    ("chiller", r"chiller"),
    ("pump", r"pump"),
    ("node", r"gpu|compute|node|server|host|tray|hgx|dgx"),
)
_MOST_GPUS = 1000


def rows_of(dump: Dump, site: str = "") -> list[DeclaredRow]:
    """Returns the rows of a NetBox. `site` picks the site of that name, or names the only one. Raises SourceError."""
    return _Reading(dump, _sites(dump, site)).rows()


def _sites(dump: Dump, site: str) -> dict[int, str]:
    """Returns our names of NetBox's sites that are read, by their number."""
    found = {s.id: s.text("slug") or s.name for s in objects(dump, "sites")}
    names = {s.id: s.name for s in objects(dump, "sites")}
    if not site:
        return found
    chosen = {n: site for n, slug in found.items() if site in (slug, names[n])}
    if not chosen and len(found) > 1:
        raise SourceError(f"NetBox has no site {site!r}: it has {', '.join(sorted(found.values()))}; name one, or none")
    return chosen or dict.fromkeys(found, site)


class _Reading:
    """One dump, from places down to GPUs."""

    def __init__(self, dump: Dump, sites: Mapping[int, str]) -> None:
        self._dump, self._sites = dump, sites
        self._known = KnownNames()
        self._assets: list[AssetRow] = []
        self._names: list[NameRow] = []
        self._places = self._locations()
        self._racks: dict[int, AssetRow] = {}
        self._nodes: dict[int, AssetRow] = {}

    def rows(self) -> list[DeclaredRow]:
        for rack in objects(self._dump, "racks"):
            self._rack(rack)
        items: dict[int, list[NetboxObjectFields]] = defaultdict(list)
        for item in objects(self._dump, "inventory-items"):
            if "gpu" in (item.to("role").text("slug") or item.name).lower():
                items[item.to("device").id].append(item)
        for device in objects(self._dump, "devices"):
            self._device(device, items.get(device.id, []))
        self._assets += equipment(self._dump, self._sites, self._known, self._places)
        return [*self._assets, *self._names, *supply(self._dump, self._known), *contained(self._assets)]

    def _locations(self) -> dict[int, tuple[str, str]]:
        """Returns (hall, row) of each location: the outermost location is the hall, the innermost the row."""
        parents = {p.id: (p.name, p.to("parent").id) for p in objects(self._dump, "locations")}
        found: dict[int, tuple[str, str]] = {}
        for number in parents:
            chain: list[str] = []
            at, seen = number, set[int]()
            while at in parents and at not in seen:
                seen.add(at)
                name, at = parents[at]
                chain.append(name)
            found[number] = (chain[-1], chain[0] if len(chain) > 1 else "")
        return found

    def _rack(self, rack: NetboxObjectFields) -> None:
        site = self._sites.get(rack.to("site").id)
        if not site:
            return
        hall, row = self._places.get(rack.to("location").id, (rack.to("location").name, ""))
        name = self._known.give(site, "racks", rack, "rack", "/".join(filter(None, (hall, row))))
        state, reason = rack.state
        asset = AssetRow(
            site=site,
            asset=name,
            kind="rack",
            model=rack.to("rack_type").text("model"),
            serial=rack.text("serial"),
            hall=hall,
            row=row,
            rack=name,
            state=state,
            reason=reason,
            since=rack.changed_ms,
        )
        self._racks[rack.id] = asset
        self._take(asset, rack, "racks", rack.text("facility_id"))

    def _device(self, device: NetboxObjectFields, gpus: list[NetboxObjectFields]) -> None:
        site = self._sites.get(device.to("site").id)
        if not site:
            return
        kind = self._kind(device)
        rack = self._racks.get(device.to("rack").id)
        hall, row = self._places.get(device.to("location").id, (device.to("location").name, ""))
        name = self._known.give(site, "devices", device, kind)
        state, reason = device.state
        asset = AssetRow(
            site=site,
            asset=name,
            kind=kind,
            model=device.to("device_type").text("model"),
            serial=device.text("serial"),
            hall=rack.hall if rack else hall,
            row=rack.row if rack else row,
            rack=rack.asset if rack else "",
            slot=f"U{device.number('position'):g}" if device.number("position") else "",
            node=name if kind == "node" else "",
            device="" if kind == "node" else name,
            state=state,
            reason=reason,
            since=device.changed_ms,
        )
        self._take(asset, device, "devices", device.text("asset_tag"))
        if kind == "node":
            self._assets += self._gpus(asset, device, gpus)

    @staticmethod
    def _kind(device: NetboxObjectFields) -> str:
        """Returns the kind by the custom field, by the role (`device_role` before NetBox 4), or by the type."""
        given = device.custom("gigawatch_kind").lower()
        if given in ASSET_KINDS:
            return given
        role = device.to("role").text("slug") or device.to("device_role").text("slug")
        for word in (role, device.to("device_type").text("slug")):
            for kind, pattern in _KINDS:
                if word and re.search(pattern, word.lower()):
                    return kind
        return "other"

    def _gpus(self, node: AssetRow, device: NetboxObjectFields, items: list[NetboxObjectFields]) -> Iterator[AssetRow]:
        """Yields a node's GPUs: its inventory items of the role `gpu`, or as many as `gpu_count` states in a custom
        field or in the configuration context.
        """

        def gpu(name: str, asset: str = "", serial: str = "", model: str = "") -> AssetRow:
            return AssetRow(
                site=node.site,
                asset=asset or name,
                kind="gpu",
                model=model,
                serial=serial,
                hall=node.hall,
                row=node.row,
                rack=node.rack,
                slot=node.slot,
                node=node.node,
                device=name,
                state=node.state,
                reason=node.reason,
                since=node.since,
            )

        for number, item in enumerate(items):
            index = re.search(r"(\d+)$", item.name)
            name = f"{node.node}-GPU{int(index[1]) if index else number}"
            yield gpu(name, item.custom("uuid", "gpu_uuid"), item.text("serial"), item.text("part_id"))
        context = device.to("config_context")
        nested = [context, *(context.to(key) for key in context.raw)]
        count = device.custom("gpu_count", "gpus") or next((t for c in nested if (t := c.text("gpu_count"))), "0")
        if not items and count.isdecimal():
            for number in range(min(int(count), _MOST_GPUS)):
                yield gpu(f"{node.node}-GPU{number}")

    def _take(self, asset: AssetRow, thing: NetboxObjectFields, collection: str, tag: str) -> None:
        """Adds an asset, and NetBox's own names of it: `devices/18`, its name where it is not ours, its tag."""
        self._assets.append(asset)
        own = thing.name if thing.name != asset.asset else ""
        for name in filter(None, (f"{collection}/{thing.id}", own, tag)):
            self._names.append(
                NameRow(site=asset.site, system="netbox", name=name, asset=asset.asset, since=asset.since)
            )
