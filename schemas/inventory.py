"""The inventory: what ought to be there, what other systems call it, and what feeds what. Each row is valid in time."""

from __future__ import annotations

import pyarrow as pa

from schemas.derived_stream import Derived, declare

_TS = pa.timestamp("ms", "UTC")
_F = pa.float32()
_S = pa.string()

#: Where an asset stands in its life: only an active one is expected to report.
STATES = ("active", "maintenance", "retired")
#: The networks that edges belong to.
NETWORKS = ("contains", "power", "fluid", "fabric")
#: `origin` of what a telemetry source saw itself, in contrast to what somebody declared.
SEEN = "seen"
#: `origin` of what an operator declared by command.
OPERATOR = "operator"

#: Columns that say from when to when a row is valid; `valid_to` 1970 is without end.
_VALID = (("valid_from", _TS), ("valid_to", _TS))

ASSET = declare(
    Derived(
        "asset",
        "A device, rack or node that an inventory knows, and its place.",
        (
            ("seen", _TS),
            ("site", _S),
            ("asset", _S),  # the board's UUID, serial or asset id; its name where it has none
            ("kind", _S),  # a kind of the catalogue, or site, hall, row, rack, node, breaker, ...
            ("model", _S),
            ("serial", _S),
            ("hall", _S),
            ("row", _S),
            ("rack", _S),
            ("slot", _S),
            ("node", _S),
            ("device", _S),  # its name at that place
            ("origin", _S),  # seen, csv, netbox, dsx, synthetic, operator
            ("state", _S),  # one of STATES
            ("reason", _S),
            *_VALID,
        ),
        ("site", "asset", "origin", "valid_from"),
        topic="events.asset",
        table="assets",
        partitions=1,
        dated="valid_from",
        tier="kept",
        keep_h=-1,
    )
)

NAME = declare(
    Derived(
        "name",
        "What another system calls an asset.",
        (
            ("seen", _TS),
            ("site", _S),
            ("system", _S),  # dcgm, nvml, pci, slurm, kubernetes, redfish, netbox, dsx, bmc, ...
            ("name", _S),
            ("asset", _S),
            ("origin", _S),
            *_VALID,
        ),
        ("site", "system", "name", "origin", "valid_from"),
        topic="events.name",
        table="names",
        partitions=1,
        dated="valid_from",
        tier="kept",
        keep_h=-1,
    )
)

EDGE = declare(
    Derived(
        "edge",
        "What feeds, cools, contains or connects what.",
        (
            ("seen", _TS),
            ("site", _S),
            ("network", _S),  # one of NETWORKS
            ("upstream", _S),
            ("downstream", _S),
            ("capacity_w", _F),  # NaN: not known
            ("redundancy", _S),  # feeds of one name stand in for each other; empty: it cannot be missed
            ("origin", _S),
            *_VALID,
        ),
        ("site", "network", "upstream", "downstream", "origin", "valid_from"),
        topic="events.edge",
        table="edges",
        partitions=1,
        dated="valid_from",
        tier="kept",
        keep_h=-1,
    )
)

REACH = declare(
    Derived(
        "reach",
        "Everything behind a breaker, feed, CDU, rack or node: lost with it, or left without redundancy.",
        (
            ("made", _TS),  # rows of the newest moment of a site are valid
            ("site", _S),
            ("upstream", _S),
            ("downstream", _S),
            ("depth", pa.uint32()),
            ("lost", pa.uint8()),  # 1: lost with it; 0: a redundant feed is left
        ),
        ("site", "upstream", "downstream"),
        topic="events.reach",
        table="reach",
        partitions=1,
        dated="made",
        tier="kept",
        keep_h=-1,
    )
)
