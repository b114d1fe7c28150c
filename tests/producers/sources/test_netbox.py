"""NetBox's objects as rows: places, states, names, GPUs, and what feeds what."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from producers.sources.declared import AssetRow, DeclaredRow, EdgeRow, NameRow
from producers.sources.netbox.feeds import capacity_w
from producers.sources.netbox.objects import NetboxObjectFields
from producers.sources.netbox.rows import rows_of
from producers.sources.source import SourceError
from schemas.reach import reach
from tests.conftest import DATA

FOLDER = DATA / "netbox"
CHANGED = 1_793_520_000_123  # 2026-11-01T08:00:00.123Z


def hall() -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = json.loads((FOLDER / "hall.json").read_text())
    return found


def assets(rows: list[DeclaredRow]) -> dict[str, AssetRow]:
    return {row.asset: row for row in rows if isinstance(row, AssetRow)}


def edges(rows: list[DeclaredRow], network: str) -> dict[tuple[str, str], EdgeRow]:
    return {(r.upstream, r.downstream): r for r in rows if isinstance(r, EdgeRow) and r.network == network}


def test_a_recorded_hall_of_gb300_is_racks_trays_and_gpus() -> None:
    pages = {
        name: [o for page in sorted((FOLDER / "simhall").glob(f"{name}*.json")) for o in _results(page.read_text())]
        for name in ("sites", "racks", "devices", "cables")
    }
    rows = rows_of(pages)
    found = assets(rows)
    # 18 trays of 4 GPUs (config_context has gpu_count), two leaf switches, one rack
    assert Counter(row.kind for row in found.values()) == {"rack": 1, "node": 18, "gpu": 72, "switch": 2}
    tray = found["node18"]
    assert (tray.site, tray.rack, tray.slot, tray.serial, tray.model, tray.state) == (
        *("hall-b", "12", "U19", "SN-N18-943528"),
        *("GB300 NVL72 compute tray", "active"),
    )
    assert found["node18-GPU3"].node == "node18"
    assert set(edges(rows, "fabric")) == {("leaf3", "node1"), ("leaf4", "node1")}  # of the four cables recorded
    assert edges(rows, "power") == {}
    assert ("12", "node1") in edges(rows, "contains")


def _results(text: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(text)["results"]
    return found


def test_places_come_from_locations_and_names_from_custom_fields() -> None:
    found = assets(rows_of(hall()))
    node, renamed = found["R0001-N01"], found["R0001-N02"]
    assert (node.site, node.hall, node.row, node.rack, node.slot, node.node) == (
        *("iad-1", "H1", "1", "R0001"),
        *("U12", "R0001-N01"),
    )
    assert (renamed.serial, renamed.kind, renamed.since) == ("N-2", "node", CHANGED)
    # a second rack of one name bears its hall too; what has no name is known as NetBox shows it
    assert found["H1/R0001"].state == "retired"
    assert found["Thing (42)"].kind == "other"
    assert found["MDB-B/Feed 1"].kind == "feed"


@pytest.mark.parametrize(
    ("asset", "state", "reason"),
    [
        ("R0001", "active", ""),
        ("R0002", "maintenance", "NetBox: planned"),
        ("H1/R0001", "retired", "NetBox: deprecated"),
        ("R0001-N02", "maintenance", "NetBox: offline"),
        ("R0001-N02-GPU0", "maintenance", "NetBox: offline"),
        ("R0001-PDU-B", "retired", "NetBox: decommissioning"),
        ("Feed 2", "maintenance", "NetBox: offline"),
        ("CDU-05", "active", ""),
    ],
)
def test_a_status_becomes_a_state(asset: str, state: str, reason: str) -> None:
    row = assets(rows_of(hall()))[asset]
    assert (row.state, row.reason) == (state, reason)


def test_gpus_are_inventory_items_or_a_count() -> None:
    gpus = {row.asset: row for row in assets(rows_of(hall())).values() if row.kind == "gpu"}
    assert set(gpus) == {"GPU-aaaa", "R0001-N01-GPU1", *(f"R0001-N02-GPU{i}" for i in range(4))}
    assert (gpus["GPU-aaaa"].device, gpus["GPU-aaaa"].serial) == ("R0001-N01-GPU0", "165012300001")
    assert (gpus["GPU-aaaa"].model, gpus["GPU-aaaa"].rack) == ("GB200", "R0001")


def test_netboxs_own_names_are_names_of_the_asset() -> None:
    names = {(r.system, r.name): r.asset for r in rows_of(hall()) if isinstance(r, NameRow)}
    assert {name: names["netbox", name] for name in ("devices/22", "r1n2.mgmt", "A-0001", "F-11", "racks/13")} == {
        "devices/22": "R0001-N02",
        "r1n2.mgmt": "R0001-N02",
        "A-0001": "R0001-N01",
        "F-11": "R0001",
        "racks/13": "H1/R0001",
    }


def test_power_goes_from_panels_over_feeds_and_outlets_to_nodes() -> None:
    power = edges(rows_of(hall()), "power")
    assert {pair: edge.redundancy for pair, edge in power.items()} == {
        ("MDB-A", "Feed 1"): "",
        ("MDB-B", "MDB-B/Feed 1"): "",
        ("MDB-A", "Feed 2"): "",
        ("Feed 1", "R0001"): "feeds",
        ("MDB-B/Feed 1", "R0001"): "feeds",
        ("Feed 2", "R0002"): "",
        ("Feed 1", "R0001-PDU-A"): "",
        ("MDB-B/Feed 1", "R0001-PDU-B"): "",
        ("R0001-PDU-A", "R0001-N01"): "ports",
        ("R0001-PDU-B", "R0001-N01"): "ports",
        ("R0001-PDU-A", "R0001-N02"): "",  # its other cable is planned
    }
    assert power["R0001-PDU-A", "R0001-N01"].capacity_w == 6000
    fluid = edges(rows_of(hall()), "fluid")
    assert set(fluid) == {("CDU-05", "Loop 5"), ("Loop 5", "R0001")}
    assert set(edges(rows_of(hall()), "fabric")) == {("leaf-1", "R0001-N01")}


@pytest.mark.parametrize(
    ("fields", "watts"),
    [
        ({"phase": {"value": "three-phase"}, "voltage": 415, "amperage": 60, "max_utilization": 80}, 34502),
        ({"phase": "single-phase", "voltage": -48, "amperage": 100, "max_utilization": 100}, 4800),
        ({"voltage": 230, "amperage": 16}, 3680),
    ],
)
def test_a_feeds_capacity_is_volts_amperes_and_its_limit(fields: dict[str, Any], watts: float) -> None:
    assert capacity_w(NetboxObjectFields(fields)) == watts


def test_the_closure_of_a_netbox_shows_who_is_lost_with_a_panel() -> None:
    """Panel A goes: its feed and PDU A with it; R0001 and N01 have panel B; N02 has PDU A alone."""
    links = [(r.network, r.upstream, r.downstream, r.redundancy) for r in rows_of(hall()) if isinstance(r, EdgeRow)]
    behind = {down: lost for (up, down), (_, lost) in reach(links).pairs().items() if up == "MDB-A"}
    assert {name for name, lost in behind.items() if lost} >= {"Feed 1", "Feed 2", "R0001-PDU-A", "R0002", "R0001-N02"}
    assert (behind["R0001"], behind["R0001-N01"]) == (False, False)


def test_a_site_is_picked_by_its_name_or_given_to_the_only_one() -> None:
    assert {r.site for r in rows_of(hall(), "iad-1")} == {"iad-1"}
    assert {r.site for r in rows_of(hall(), "elsewhere")} == {"elsewhere"}
    two = hall() | {"sites": [*hall()["sites"], {"id": 8, "name": "FRA 1", "slug": "fra-1"}]}
    assert {r.site for r in rows_of(two, "IAD 1")} == {"IAD 1"}
    assert rows_of(two, "fra-1") == []
    with pytest.raises(SourceError, match="NetBox has no site 'nowhere': it has fra-1, iad-1"):
        rows_of(two, "nowhere")


@pytest.mark.parametrize("collection", hall())
@pytest.mark.parametrize("broken", [{}, {"id": "x"}, {"id": 5, "name": 7, "site": [], "device": "?", "status": None}])
def test_an_object_of_another_form_does_no_harm(collection: str, broken: dict[str, Any]) -> None:
    dump = hall()
    before = {row.key for row in rows_of(dump)}
    dump[collection] = [*dump[collection], broken]
    assert {row.key for row in rows_of(dump)} >= before
