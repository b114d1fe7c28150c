"""The hall of a synthetic site: rows of racks, what feeds each with power and coolant, and what contains what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from producers.sources.synthetic.topology import RACKS_PER_CDU, Topology

HALL = "H1"
UTILITY, SWITCHGEAR, COOLING_PLANT = "UTILITY", "SWGR-1", "cooling-plant"
UPS = ("UPS-A", "UPS-B")
FEEDS = ("A", "B")
#: Feeds of one rack that stand in for each other: either carries it alone (2N).
REDUNDANT = "ab"
HEADROOM = 1.25


@dataclass(frozen=True, slots=True)
class HallEdge:
    """`capacity_w` NaN: not known; `redundancy` empty: `downstream` cannot miss it."""

    network: str
    upstream: str
    downstream: str
    capacity_w: float = float("nan")
    redundancy: str = ""


def row_names(topology: Topology) -> list[str]:
    """Returns the rows, each of RACKS_PER_CDU racks behind one CDU and a pair of PDUs."""
    return [f"ROW-{row + 1:03d}" for row in range(topology.cdus)]


def pdu_names(topology: Topology) -> list[str]:
    return [f"PDU-{row + 1:03d}-{feed}" for row in range(topology.cdus) for feed in FEEDS]


def edges(topology: Topology) -> Iterator[HallEdge]:
    """Yields hall > row > rack > node; utility > switchgear > UPS > PDU A and B a row > rack; plant > CDU > rack.

    Names are those of places, so that they outlive the devices there.
    """
    racks, rows, cdus, nodes = topology.rack_names(), row_names(topology), topology.cdu_names(), topology.node_names()
    a_rack = len(nodes) // len(racks)
    rack_w = HEADROOM * topology.design.max_power_w
    site_w = rack_w * len(racks)
    yield HallEdge("power", UTILITY, SWITCHGEAR, site_w)
    for ups in UPS:
        yield HallEdge("power", SWITCHGEAR, ups, site_w)
    for row, name in enumerate(rows):
        of_row = racks[row * RACKS_PER_CDU : (row + 1) * RACKS_PER_CDU]
        yield HallEdge("contains", HALL, name)
        yield HallEdge("fluid", COOLING_PLANT, cdus[row])
        pdus = [f"PDU-{row + 1:03d}-{feed}" for feed in FEEDS]
        for ups, pdu in zip(UPS, pdus, strict=True):
            yield HallEdge("power", ups, pdu, rack_w * len(of_row))
        for rack in of_row:
            yield HallEdge("contains", name, rack)
            yield HallEdge("fluid", cdus[row], rack)
            for pdu in pdus:
                yield HallEdge("power", pdu, rack, rack_w, REDUNDANT)
    for number, node in enumerate(nodes):
        yield HallEdge("contains", racks[number // a_rack], node)
