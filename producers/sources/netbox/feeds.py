"""What feeds what in a NetBox: power panels, feeds and ports, cooling, cables of the fabric. Pure."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping

from producers.sources.declared import UNKNOWN_W, AssetRow, EdgeRow
from producers.sources.netbox.objects import Dump, KnownNames, NetboxObjectFields, objects

#: Collection -> the kind that its objects become, and the collection and field of what they belong to.
_EQUIPMENT = {
    "power-panels": ("panel", "", ""),
    "power-feeds": ("feed", "power-panels", "power_panel"),
    "cooling-sources": ("plant", "", ""),
    "cooling-feeds": ("loop", "cooling-sources", "cooling_source"),
}
_REDUNDANCY = "gigawatch_redundancy"

#: (site, asset), empty where it is not known.
_End = tuple[str, str]


def equipment(
    dump: Dump, sites: Mapping[int, str], known: KnownNames, places: Mapping[int, tuple[str, str]]
) -> Iterator[AssetRow]:
    """Yields panels, feeds and cooling as assets, and gives them their names in `known`. A feed is at the site of its
    panel; a name that several panels' feeds have, such as `Feed A`, becomes `PANEL/Feed A`.
    """
    for collection, (kind, above, field) in _EQUIPMENT.items():
        for thing in objects(dump, collection):
            over_site, over = known.of(above, thing.to(field))
            site = over_site if above else sites.get(thing.to("site").id, "")
            if not site:
                continue
            hall, row = places.get(thing.to("location").id, ("", ""))
            name = known.give(site, collection, thing, kind, over or hall)
            state, reason = thing.state
            yield AssetRow(
                site=site,
                asset=name,
                kind=kind,
                hall=hall,
                row=row,
                device=name,
                state=state,
                reason=reason,
                since=thing.changed_ms,
            )


def supply(dump: Dump, known: KnownNames) -> list[EdgeRow]:
    """Returns the edges of a NetBox whose ends are all known; of several between the same ends the first."""
    found: dict[tuple[str, ...], EdgeRow] = {}
    for part in (_power_feeds, _power_ports, _cooling, _fabric):
        for edge in part(dump, known):
            if edge.upstream and edge.downstream and edge.upstream != edge.downstream:
                found.setdefault(edge.key, edge)
    return list(found.values())


def capacity_w(feed: NetboxObjectFields) -> float:
    """Returns what a power feed can give, W: as NetBox reckons it, with its permissible utilization in per cent."""
    volts, amperes = abs(feed.number("voltage")), feed.number("amperage")
    factor = math.sqrt(3) if feed.choice("phase") == "three-phase" else 1.0
    watts = volts * amperes * factor * (feed.number("max_utilization") or 100) / 100
    return round(watts) if watts else UNKNOWN_W


def _edge(network: str, up: _End, down: _End, at_ms: int, redundancy: str = "", capacity: float = UNKNOWN_W) -> EdgeRow:
    return EdgeRow(
        site=down[0],
        network=network,
        upstream=up[1],
        downstream=down[1],
        capacity_w=capacity,
        redundancy=redundancy,
        since=at_ms,
    )


def _power_feeds(dump: Dump, known: KnownNames) -> Iterator[EdgeRow]:
    """Panel to feed, and feed to the rack that it names. A rack's primary and redundant feeds stand in for each other
    unless the custom field states a redundancy.
    """
    types: dict[int, set[str]] = defaultdict(set)
    for feed in objects(dump, "power-feeds"):
        types[feed.to("rack").id].add(feed.choice("type"))
    for feed in objects(dump, "power-feeds"):
        here, watts = known.of("power-feeds", feed), capacity_w(feed)
        yield _edge("power", known.of("power-panels", feed.to("power_panel")), here, feed.changed_ms, "", watts)
        both = types[feed.to("rack").id] >= {"primary", "redundant"}
        redundancy = feed.custom(_REDUNDANCY) or ("feeds" if both else "")
        yield _edge("power", here, known.of("racks", feed.to("rack")), feed.changed_ms, redundancy, watts)


def _power_ports(dump: Dump, known: KnownNames) -> Iterator[EdgeRow]:
    """What a device's power ports are connected to: a feed, or the device of an outlet. Ports of one device that lead
    to several stand in for each other unless the custom field states a redundancy.
    """
    ports: dict[int, list[tuple[_End, NetboxObjectFields]]] = defaultdict(list)
    for port in objects(dump, "power-ports"):
        if port.raw.get("connected_endpoints_reachable") is False:
            continue
        kind = port.text("connected_endpoints_type")
        for far in port.each("connected_endpoints"):
            found = known.of("power-feeds", far) if kind == "dcim.powerfeed" else known.of("devices", far.to("device"))
            if found[1]:
                ports[port.to("device").id].append((found, port))
    for upstreams in ports.values():
        several = len({end for end, _ in upstreams}) > 1
        for end, port in upstreams:
            redundancy = port.custom(_REDUNDANCY) or ("ports" if several else "")
            watts = port.number("maximum_draw") or UNKNOWN_W
            yield _edge("power", end, known.of("devices", port.to("device")), port.changed_ms, redundancy, watts)


def _cooling(dump: Dump, known: KnownNames) -> Iterator[EdgeRow]:
    """Source to feed, and feed to the rack that it names."""
    for feed in objects(dump, "cooling-feeds"):
        here = known.of("cooling-feeds", feed)
        yield _edge("fluid", known.of("cooling-sources", feed.to("cooling_source")), here, feed.changed_ms)
        rack = known.of("racks", feed.to("rack"))
        yield _edge("fluid", here, rack, feed.changed_ms, feed.custom(_REDUNDANCY))


def _fabric(dump: Dump, known: KnownNames) -> Iterator[EdgeRow]:
    """Connected cables between interfaces of two devices: a switch is upstream of what is none, else end A of end B."""
    for cable in objects(dump, "cables"):
        if cable.choice("status") not in ("connected", ""):
            continue
        ends = [
            known.of("devices", termination.to("object").to("device"))
            for side in ("a_terminations", "b_terminations")
            for termination in cable.each(side)
            if termination.text("object_type") == "dcim.interface"
        ]
        if len(ends) == 2:
            ends.sort(key=lambda end: known.kinds.get(end) not in ("switch", "nvswitch"))
            yield _edge("fabric", ends[0], ends[1], cable.changed_ms, f"to {ends[1][1]}")
