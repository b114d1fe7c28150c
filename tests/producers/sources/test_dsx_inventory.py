"""What DSX metadata states of the building: racks, equipment, names, and who serves whom."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from producers.emission import Event
from producers.sources.dsx.inventory import DsxInventory
from producers.sources.replay.source import DsxReplay
from schemas.reach import reach
from tests.conftest import DATA

NOW = 1_750_000_000_000
METER = "PowerMeter/ActivePower/nv/t/pod/TAP-1/info/activePower/value"
RACK = "Rack/RackPower/nv/t/pod/RK02/pwr/value"
VALVE = "Valve/ValvePosition/nv/t/pod/RK02/valve/value"


def note(inventory: DsxInventory, topic: str, now_ms: int = NOW, **body: object) -> None:
    inventory.note(f"BMS/v1/PUB/Metadata/{topic}", json.dumps(body), now_ms)


def rows(events: list[Event], stream: str) -> list[dict[str, Any]]:
    return [row for e in events if e.derived.name == stream for row in e.batch.to_pylist()]


def edges(events: list[Event]) -> set[tuple[str, str, str]]:
    return {(r["network"], r["upstream"], r["downstream"]) for r in rows(events, "edge")}


def test_metadata_becomes_assets_names_and_edges() -> None:
    inventory = DsxInventory()
    note(inventory, METER, objectId="TAP-1", objectName="Tap 1", servesId=["RK02", "RK03", 7, ""])
    note(inventory, RACK, rackLocationId="RK02", rackLocationName="Rack 2")
    events = list(inventory.events(NOW))
    assert {(r["site"], r["asset"], r["kind"], r["rack"], r["device"], r["origin"]) for r in rows(events, "asset")} == {
        ("nv/t", "TAP-1", "meter", "", "TAP-1", "dsx"),
        ("nv/t", "RK02", "rack", "RK02", "", "dsx"),
    }
    assert edges(events) == {("power", "TAP-1", "RK02"), ("power", "TAP-1", "RK03")}
    assert {(r["system"], r["name"], r["asset"]) for r in rows(events, "name")} == {
        ("dsx", "TAP-1", "TAP-1"),
        ("dsx", "Tap 1", "TAP-1"),
        ("dsx", "RK02", "RK02"),
        ("dsx", "Rack 2", "RK02"),
    }


def test_a_point_that_is_part_of_another_object_is_a_name_of_that_object() -> None:
    inventory = DsxInventory("iad-1")
    note(inventory, VALVE, associateId="RK02")
    (row,) = rows(list(inventory.events(NOW)), "name")
    assert (row["site"], row["name"], row["asset"]) == ("iad-1", "nv/t/pod/RK02/valve/value", "RK02")


def test_what_is_republished_emits_nothing_and_what_changes_ends_the_row_before() -> None:
    inventory = DsxInventory()
    note(inventory, METER, objectId="TAP-1", servesId=["RK02", "RK03"])
    list(inventory.events(NOW))
    note(inventory, METER, NOW + 100_000, objectId="TAP-1", servesId=["RK02", "RK03"])
    assert list(inventory.events(NOW + 100_000)) == []
    note(inventory, METER, NOW + 200_000, objectId="TAP-1", servesId=["RK02", "RK04"])
    changed = rows(list(inventory.events(NOW + 200_000)), "edge")
    assert [(r["downstream"], r["valid_to"].timestamp() > 0) for r in changed] == [("RK04", False), ("RK03", True)]
    inventory.note(f"BMS/v1/PUB/Metadata/{METER}", "", NOW + 300_000)  # MQTT's way to take a retained message away
    assert {r["downstream"] for r in rows(list(inventory.events(NOW + 300_000)), "edge")} == {"RK02", "RK04"}


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        ("BMS/v1/PUB/Value/PowerMeter/ActivePower/nv/t/x", '{"value": 1}'),
        ("BMS/v1/PUB/Metadata/PowerMeter/ActivePower/nv/t/x", "{"),
        ("BMS/v1/PUB/Metadata/PowerMeter/ActivePower/nv/t/x", "[1]"),
        ("BMS/v1/PUB/Metadata/PowerMeter/ActivePower/nv/t/x", '{"objectId": 5, "servesId": "RK02"}'),
        ("BMS/v1/PUB/Metadata/System/HeartbeatTimestampBms/nv/t/x", '{"objectId": "BMS"}'),
        ("BMS/v1/PUB/Metadata", "{}"),
        ("other", "{}"),
    ],
)
def test_what_is_no_metadata_of_equipment_states_nothing(topic: str, payload: str) -> None:
    inventory = DsxInventory()
    inventory.note(topic, payload, NOW)
    assert list(inventory.events(NOW)) == []


async def replayed(path: Path) -> list[Event]:
    return [e async for e in DsxReplay(path, 1.0, 0.0).emissions() if isinstance(e, Event)]


async def test_the_sample_trace_states_its_racks() -> None:
    events = await replayed(DATA / "dsx_sample.csv")
    assert {(r["asset"], r["kind"], r["site"]) for r in rows(events, "asset")} == {
        ("R0001", "rack", "gigawatch/sample"),
        ("R0002", "rack", "gigawatch/sample"),
    }


async def test_nvidias_trace_states_its_power_path_and_its_cdu(recorded: Path) -> None:
    events = await replayed(recorded / "dsx" / "dsx_exemplar.csv")
    assert Counter(r["kind"] for r in rows(events, "asset")) == {"rack": 6, "meter": 4, "cdu": 1, "sensor": 1}
    found = edges(events)
    # two buses of six taps each, two taps of one rack, a CDU of ten racks
    assert len(found) == 2 * 6 + 2 + 10
    closure = reach([(network, up, down, "") for network, up, down in found]).pairs()
    assert closure["C-E-BUS-E1", "Pod1C-E05"] == (2, True)
    assert sum(up == "C-F00-CDU-05" for up, _ in closure) == 10
    parts = {r["name"]: r["asset"] for r in rows(events, "name") if "/" in r["name"]}
    assert Counter(parts.values())["C-E05-TAP-E2"] == 1  # the shunt trip of that tap
    assert len(parts) == 15  # and ten points of the valves of five racks


async def test_an_integrations_point_states_its_rack_too(recorded: Path) -> None:
    events = await replayed(recorded / "field" / "dsx_integration_topics.csv")
    assert {r["asset"] for r in rows(events, "asset")} == {"RK01", "RK02"}
