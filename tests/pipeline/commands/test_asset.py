"""`gigawatch asset`: times, who a name is, what is listed; and an operator's word through a real broker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from click.testing import CliRunner
from clickhouse_connect.driver.client import Client

from pipeline import kafka
from pipeline.cli import gigawatch
from pipeline.commands import asset_log
from pipeline.commands.asset_log import Declaration
from pipeline.store.assets import ASSETS_NOW, KNOWN_AS
from pipeline.store.client import open_folder
from pipeline.store.migrate import migrate
from pipeline.terminal.moment import moment_ms
from producers.sources.declared import AssetRow, events
from schemas.derived import decode
from schemas.inventory import ASSET
from tests.pipeline.sink.test_array_rows import rack, store

NOW = 1_795_000_000_000  # 2026-11-18T11:06:40Z
HOUR = 3_600_000


@pytest.mark.parametrize(
    ("text", "after_ms"),
    [
        ("2h", 2 * HOUR),
        ("+2h", 2 * HOUR),
        ("1h30m", 90 * 60_000),
        ("-15m", -15 * 60_000),
        ("0.5d", 12 * HOUR),
        ("1w", 168 * HOUR),
        ("2026-11-18T11:06:40", 0),
        ("2026-11-18T13:06:40+01:00", HOUR),
        ("2026-11-18T11:06:41Z", 1000),
    ],
)
def test_a_moment_is_iso_or_a_span_from_now(text: str, after_ms: int) -> None:
    assert moment_ms(text, NOW) == NOW + after_ms


@pytest.mark.parametrize("text", ["", "soon", "2", "h", "2x", "2026-13-01", "1960-01-01", "0001-01-01", "--2h"])
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no time: give 2026|before 1970"):
        moment_ms(text, NOW)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    (tmp_path / "clickhouse").mkdir()
    made = open_folder(tmp_path)
    migrate(made)
    made.database = "gigawatch"
    yield made
    made.close()


def insert(client: Client, *rows: AssetRow | Declaration) -> None:
    for n, row in enumerate(rows):
        if isinstance(row, Declaration):
            batch = ASSET.build_rows([row.columns()])
        else:
            (event,) = events([row], "csv", int(time.time() * 1000))
            batch = event.batch
        offset = int(client.query("SELECT count() FROM assets").result_rows[0][0])
        body = batch.to_pylist()[0] | {"kafka_offset": offset + n}
        names = [name for name in body if name in ASSET.names]
        client.insert("assets", [[body[name] for name in names]], column_names=names)


def known(client: Client, name: str, site: str = "") -> list[dict[str, Any]]:
    return [dict(r) for r in client.query(KNOWN_AS, parameters={"name": name, "site": site}).named_results()]


def now(client: Client, place: str = "", state: str = "") -> dict[str, tuple[str, str, str]]:
    """Returns (state, by, reason) by asset."""
    given = {"place": place, "state": state, "limit": 100}
    rows = client.query(ASSETS_NOW, parameters=given).named_results()
    return {r["asset"]: (r["state"], r["by"], r["reason"]) for r in rows}


def gpu(n: int, **more: Any) -> AssetRow:
    fields: dict[str, Any] = {
        "kind": "gpu",
        "rack": "R1",
        "node": "R1-N1",
        "device": f"R1-N1-GPU{n}",
        "valid_from": 1000,
    } | more
    return AssetRow(site="s", asset=f"UUID-{n}", **fields)


def operator(name: str, state: str = "maintenance", **more: Any) -> Declaration:
    fields: dict[str, Any] = {"site": "s", "reason": "pump", "seen": 2000, "valid_from": 2000} | more
    return Declaration(asset=name, state=state, **fields)


def test_a_name_is_a_rack_a_node_a_device_or_a_board(client: Client) -> None:
    place: dict[str, Any] = {"model": "GB200", "rack": "R1"}
    insert(client, AssetRow(site="s", asset="R1", kind="rack", valid_from=1000, **place), gpu(0, model="GB200"))
    assert known(client, "R1") == [{"site": "s", "kind": "rack", "node": "", "device": "", **place}]
    board = {"site": "s", "kind": "gpu", "node": "R1-N1", "device": "R1-N1-GPU0", **place}
    assert known(client, "UUID-0") == known(client, "R1-N1-GPU0") == [board]
    assert known(client, "UUID-0", "elsewhere") == []
    assert known(client, "R2") == []


def test_a_name_that_was_only_heard_is_known_too(client: Client) -> None:
    store(client, "gpu", [rack("R7", ["R7-GPU0", "R7-GPU1"], temp_c=[59.0, 60.0])])
    assert [(k["site"], k["kind"], k["rack"]) for k in known(client, "R7")] == [("s", "rack", "R7")]
    assert [(k["kind"], k["rack"], k["node"]) for k in known(client, "n")] == [("node", "R7", "n")]
    assert [(k["rack"], k["node"], k["device"]) for k in known(client, "R7-GPU1")] == [("R7", "n", "R7-GPU1")]


def test_a_name_of_two_sites_is_known_at_both(client: Client) -> None:
    for site in ("a", "b"):
        insert(client, AssetRow(site=site, asset="R1", kind="rack", rack="R1", valid_from=1000))
    assert [k["site"] for k in known(client, "R1")] == ["a", "b"]
    assert [k["site"] for k in known(client, "R1", "b")] == ["b"]


def test_an_operators_word_on_a_rack_holds_for_what_is_in_it(client: Client) -> None:
    insert(client, gpu(0), gpu(1, rack="R2", node="R2-N1"), operator("R1"))
    assert now(client) == {
        "R1": ("maintenance", "operator", "pump"),
        "UUID-0": ("maintenance", "operator", "pump"),
        "UUID-1": ("active", "csv", ""),
    }
    assert set(now(client, state="active")) == {"UUID-1"}
    assert set(now(client, place="R1")) == {"R1", "UUID-0"}
    assert set(now(client, place="gpu")) == {"UUID-0", "UUID-1"}


def test_a_word_that_has_ended_or_not_begun_does_not_count(client: Client) -> None:
    future = int(time.time() * 1000) + HOUR
    insert(client, gpu(0), operator("UUID-0", valid_to=3000), operator("UUID-0", "retired", valid_from=future))
    assert now(client) == {"UUID-0": ("active", "csv", "")}


def test_an_operators_word_beats_a_newer_file(client: Client) -> None:
    insert(client, operator("UUID-0", "retired"), gpu(0, valid_from=9000), gpu(1, state="maintenance", reason="NB"))
    assert now(client) == {"UUID-0": ("retired", "operator", "pump"), "UUID-1": ("maintenance", "csv", "NB")}


def run(*argv: object) -> tuple[int, str]:
    done = CliRunner().invoke(gigawatch, [str(a) for a in argv])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


def test_assets_of_a_stopped_factory_are_listed(tmp_path: Path) -> None:
    (tmp_path / "clickhouse").mkdir()
    made = open_folder(tmp_path)
    migrate(made)
    made.database = "gigawatch"
    insert(made, gpu(0), operator("R1"))
    made.close()
    code, output = run("asset", "list", "--data-dir", tmp_path, "--state", "maintenance")
    assert code == 0
    head, *lines = output.splitlines()
    assert head.split("\t") == ["site", "kind", "asset", "rack", "node", "device", "state", "by", "until", "reason"]
    assert {line.split("\t")[2] for line in lines} == {"R1", "UUID-0"}
    code, output = run("asset", "list", "nothing-of-that-name", "--data-dir", tmp_path)
    assert "no asset" in output


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (("maintenance", "R1", "--to", "soon"), "'soon' is no time"),
        (("maintenance", "R1", "--from", "2h", "--to", "1h"), "before it begins"),
        (("retire", "R1", "--at", "yesterday"), "'yesterday' is no time"),
        (("retire", " "), "no name given"),
        (("maintenance", "R1"), "no factory runs on"),
        (("restore", "R1"), "or give --broker HOST:PORT"),
        (("maintenance", "R1", "--broker", "127.0.0.1:9"), "To declare without a store, give --site"),
    ],
)
def test_what_cannot_be_declared_is_refused(argv: tuple[str, ...], complaint: str, tmp_path: Path) -> None:
    code, output = run("asset", *argv, "--data-dir", tmp_path / "none")
    assert code == 1
    assert complaint in output


@pytest.mark.service(20)
def test_an_operators_word_goes_to_the_log_and_is_taken_back(broker: str, tmp_path: Path) -> None:
    where = ("--broker", broker, "--data-dir", tmp_path / "none", "--site", "s")
    asyncio.run(others(broker))
    code, output = run("asset", "maintenance", "R1", "--to", "2h", "--reason", "pump swap", *where)
    assert (code, "R1 at s: maintenance from" in output) == (0, True), output
    (row,) = asyncio.run(asset_log.declared(broker, "R1", ""))
    assert (row.state, row.reason, row.valid_to - row.valid_from) == ("maintenance", "pump swap", 2 * HOUR)

    assert run("asset", "retire", "R1", *where)[0] == 0
    first, second = sorted(asyncio.run(asset_log.declared(broker, "R1", "s")), key=lambda r: r.valid_from)
    assert (first.valid_to, second.state, second.valid_to) == (second.valid_from, "retired", 0)

    code, output = run("asset", "restore", "R1", *where)
    assert (code, "1 declaration ended" in output) == (0, True), output
    later = int(time.time() * 1000) + 1
    assert not any(r.lasts(later) for r in asyncio.run(asset_log.declared(broker, "R1", "s")))
    code, output = run("asset", "restore", "R1", *where)
    assert (code, "no operator has declared anything of 'R1'" in output) == (1, True)


async def others(broker: str) -> None:
    """What else is in the topic: another's word on R1, an operator's on R2, and a message that cannot be read."""
    await kafka.ensure_topics(broker)
    producer = AIOKafkaProducer(bootstrap_servers=broker)
    await producer.start()
    (event,) = events([AssetRow(site="s", asset="R1", kind="rack", valid_from=1)], "csv", NOW)
    for value in (ASSET.encode(event.batch), ASSET.encode(ASSET.build_rows([operator("R2").columns()])), b"garbage"):
        await producer.send_and_wait(ASSET.topic, value, partition=0)
    await producer.stop()


def test_a_declaration_is_a_row_of_the_stream() -> None:
    stream, batch = decode(ASSET.encode(ASSET.build_rows([operator("R1", rack="R1", kind="rack").columns()])))
    (row,) = batch.to_pylist()
    assert stream is ASSET
    assert (row["asset"], row["kind"], row["rack"], row["origin"], row["hall"]) == ("R1", "rack", "R1", "operator", "")
