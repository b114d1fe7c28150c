"""The views `held` and `expected`, on the real engine."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from pipeline.sink.device_sets import DeviceSets
from pipeline.sink.insert import build_body
from pipeline.sink.stored_message import StoredMessage
from pipeline.store.migrate import migrate
from pipeline.store.model_views import EXPECTED, HELD, MODEL_VIEWS
from pipeline.store.tables import TABLES
from schemas.derived_stream import Derived
from schemas.inventory import ASSET
from schemas.jobs import ALLOCATION

NOW = int(time.time()) * 1000
DAY = 86_400_000


@pytest.fixture
def client(empty: Client) -> Client:
    migrate(empty)
    return empty


def put(client: Client, stream: Derived, rows: Sequence[Mapping[str, Any]]) -> None:
    """Stores each row as a message of its own, in this order."""
    table, known = TABLES[stream.table], DeviceSets(by_rack=True)
    for n, row in enumerate(rows):
        message = StoredMessage(stream.build_rows([row]), 0, n, NOW + n)
        client.insert_arrow(f"gigawatch.{table.name}", build_body(table, [message], "log-1", known))


def allocation(job: str, node: str, devices: list[str], **more: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "seen": NOW,
        "site": "s",
        "scheduler": "slurm",
        "job": job,
        "rack": "R1",
        "node": node,
        "devices": devices,
        "share": 1.0,
        "first_rank": 0,
        "started": NOW - DAY,
        "ended": 0,
    }
    return row | more


def asset(name: str, **more: Any) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(ASSET.names, "")
    row |= {"seen": NOW, "site": "s", "asset": name, "kind": "gpu", "rack": "R1", "node": "R1-N1", "origin": "csv"}
    return row | {"device": f"name of {name}", "state": "active", "valid_from": NOW - DAY, "valid_to": 0} | more


def expected(client: Client) -> dict[str, tuple[str, str]]:
    """Asset -> (origin, rack)."""
    found = client.query("SELECT asset, origin, rack, state FROM gigawatch.expected").result_rows
    assert all(row[3] == "active" for row in found)
    assert len({row[0] for row in found}) == len(found), "an asset is there once"
    return {row[0]: (row[1], row[2]) for row in found}


def test_a_hold_shows_each_device_with_its_rank_and_until_when(client: Client) -> None:
    put(
        client,
        ALLOCATION,
        [
            allocation("7", "N1", ["N1-GPU0", "GPU-b"], first_rank=8),
            allocation("7", "N2", [], first_rank=16, share=float("nan"), ended=NOW),
        ],
    )
    found = client.query(f"SELECT {', '.join(HELD)} FROM gigawatch.held ORDER BY rank").result_rows
    first, last, far = (
        dt.datetime.fromtimestamp(ms / 1000, dt.UTC).replace(tzinfo=None) for ms in (NOW - DAY, NOW, 7_258_118_400_000)
    )
    assert far == dt.datetime(2200, 1, 1)
    assert found == [
        ("s", "slurm", "7", "R1", "N1", "N1-GPU0", 1.0, 8, first, far, 1),
        ("s", "slurm", "7", "R1", "N1", "GPU-b", 1.0, 9, first, far, 1),
        ("s", "slurm", "7", "R1", "N2", "", 1.0, 16, first, last, 0),
    ]


def test_a_hold_that_ends_is_no_longer_open_though_nothing_is_merged(client: Client) -> None:
    put(client, ALLOCATION, [allocation("7", "N1", ["a"], seen=NOW + n, ended=NOW if n == 3 else 0) for n in range(4)])
    assert client.query("SELECT device, open FROM gigawatch.held").result_rows == [("a", 0)]


def test_a_hold_that_is_not_repeated_is_over_once_what_is_stored_is_newer(client: Client) -> None:
    put(
        client,
        ALLOCATION,
        [allocation("old", "N1", ["a"], seen=NOW - 301_000), allocation("new", "N1", ["a"], seen=NOW)],
    )
    found = client.query("SELECT job, open, toUnixTimestamp64Milli(until) FROM gigawatch.held ORDER BY job").result_rows
    assert found == [("new", 1, 7_258_118_400_000), ("old", 0, NOW - 1000)]


def test_only_assets_that_report_telemetry_and_are_valid_now_are_expected(client: Client) -> None:
    put(
        client,
        ASSET,
        [
            asset("GPU-a"),
            asset("R1", kind="rack"),
            asset("http://e:9400/metrics", kind="endpoint"),
            asset("retired", state="retired"),
            asset("tomorrow", valid_from=NOW + DAY),
            asset("gone", valid_to=NOW - 1000),
            asset("leaves tomorrow", valid_to=NOW + DAY),
        ],
    )
    assert set(expected(client)) == {"GPU-a", "http://e:9400/metrics", "leaves tomorrow"}


def test_what_is_declared_goes_before_what_was_seen_and_a_later_place_before_an_earlier_one(client: Client) -> None:
    put(
        client,
        ASSET,
        [
            asset("a", rack="R1", origin="seen", valid_from=NOW - 1000),
            asset("a", rack="R2", origin="csv"),
            asset("b", rack="R3", origin="seen"),
            asset("c", rack="R4", origin="csv"),
            asset("c", rack="R5", origin="csv", valid_from=NOW - 1000),
            asset("d", origin="seen"),
            asset("d", origin="netbox", state="maintenance"),
        ],
    )
    assert expected(client) == {"a": ("csv", "R2"), "b": ("seen", "R3"), "c": ("csv", "R5")}


def test_an_operators_word_goes_before_all_also_on_the_rack_or_node(client: Client) -> None:
    word = {"origin": "operator", "kind": "", "rack": "", "node": "", "device": ""}
    put(
        client,
        ASSET,
        [
            asset("own"),
            asset("own", state="maintenance", **word),
            asset("named", device="R1-N1-GPU3"),
            asset("R1-N1-GPU3", state="retired", **word),
            asset("in rack", rack="R7", node="R7-N1"),
            asset("R7", state="maintenance", **word),
            asset("but this one", rack="R7", node="R7-N2"),
            asset("but this one", state="active", **word),
            asset("at node", rack="R8", node="R8-N1"),
            asset("R8-N1", state="maintenance", **word),
            asset("beside it", rack="R8", node="R8-N2"),
            asset("over", rack="R9"),
            asset("over, retired", rack="R9", state="retired"),
            asset("R9", state="maintenance", **word),
            asset("R9", state="active", valid_from=NOW - 1000, **word),
            asset("maintenance is over", node="R1-N9"),
            asset("R1-N9", state="maintenance", valid_to=NOW - 1000, **word),
            asset("back", state="retired"),
            asset("back", state="active", **word),
        ],
    )
    assert expected(client) == {
        "but this one": ("operator", "R7"),
        "beside it": ("csv", "R8"),
        "over": ("csv", "R9"),
        "maintenance is over": ("csv", "R1"),
        "back": ("operator", "R1"),
    }


def test_the_views_show_what_they_state(client: Client) -> None:
    for name, (columns, made) in MODEL_VIEWS.items():
        shown = [str(row[0]) for row in client.query(f"DESCRIBE gigawatch.{name}").result_rows]
        assert shown == list(columns)
        assert f"gigawatch.{name} ON CLUSTER 'prod' AS" in made("prod")
    assert EXPECTED[:2] == ("site", "asset")
    assert MODEL_VIEWS["expected"][1]("prod").count("GLOBAL LEFT ANY JOIN") == 4
