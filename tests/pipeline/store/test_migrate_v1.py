"""A store of version 1, made by the code that kept it: what it held is there in version 2, brought along once."""

from __future__ import annotations

import datetime as dt
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from clickhouse_connect.driver.client import Client

from pipeline.cli import gigawatch
from pipeline.sink.array_rows import frame_table, identities_table
from pipeline.sink.device_sets import DeviceSets
from pipeline.sink.stored_message import StoredMessage
from pipeline.store.client import StoreError
from pipeline.store.migrate import migrate
from pipeline.store.rollup import Roller
from pipeline.store.table import NAMED
from pipeline.store.tables import TABLES
from pipeline.store.views import raw_columns
from schemas.frame import build
from tests.conftest import DATA

#: A whole hour some hours ago: what is older than its table keeps would be dropped.
START_S = int(time.time()) // 3600 * 3600 - 3 * 3600
START = dt.datetime.fromtimestamp(START_S, dt.UTC).replace(tzinfo=None)
VIEWS = ("gpu", "gpu_10s", "gpu_1m", "gpu_1h", "gpu_raw")


@pytest.fixture
def old(empty: Client) -> Client:
    """The store of version 1."""
    for statement in (DATA / "store_v1.sql").read_text().replace("{start}", str(START_S)).split(";\n"):
        if statement.strip():
            empty.command(statement)
    return empty


def columns(client: Client, view: str) -> list[str]:
    return [str(row[0]) for row in client.query(f"DESCRIBE gigawatch.{view}").result_rows]


def test_views_show_boards_and_no_jobs(old: Client) -> None:
    assert all("job" in columns(old, view) for view in ("gpu", "gpu_10s", "gpu_raw"))
    done = migrate(old)
    assert done[-2:] == ["jobs of version 1 are allocations", "store version 2"]
    assert {"added identities.board", "added scores.board", "added incidents.board", "view gpu"} <= set(done)
    for view in VIEWS:
        shown = columns(old, view)
        assert [c for c in shown if c in ("site", "rack", *NAMED)] == ["site", "rack", *NAMED], view
        assert "job" not in shown
    assert columns(old, "gpu_raw") == list(raw_columns("gpu"))
    assert {"board", "job"} <= {*columns(old, "scores")} & {*columns(old, "incidents")}


def test_old_rows_are_read_by_place_with_an_empty_board(old: Client) -> None:
    before = {
        view: old.query(f"SELECT ts, rack, node, device, power_w{stat} FROM gigawatch.{view} ORDER BY ts, device")
        for view, stat in (("gpu", ""), ("gpu_10s", "_mean"), ("gpu_raw", "_mean"))
    }
    migrate(old)
    for view, was in before.items():
        stat = was.column_names[-1]
        now = old.query(f"SELECT ts, rack, node, device, {stat} FROM gigawatch.{view} ORDER BY ts, device").result_rows
        assert now == was.result_rows
        assert len(now) >= 24
        assert old.query(f"SELECT DISTINCT board FROM gigawatch.{view}").result_rows == [("",)]
    assert old.query("SELECT device, job, board, open FROM gigawatch.incidents FINAL").result_rows == [
        ("R0001-N01-GPU0", "train-7", "", 0)
    ]
    assert old.query("SELECT device, job, board, cause FROM gigawatch.scores FINAL").result_rows == [
        ("R0001-N01-GPU0", "train-7", "", "power_w")
    ]


def test_old_jobs_become_allocations_once(old: Client) -> None:
    """`old-1` is in the hours alone; of the others the samples know the second."""
    migrate(old)
    asked = (
        "SELECT job, node, devices, started, ended, scheduler, rack, site, share FROM gigawatch.allocations FINAL "
        "ORDER BY job, node"
    )
    n1, n2 = ["R0001-N01-GPU0", "R0001-N01-GPU1"], ["R0001-N02-GPU0", "R0001-N02-GPU1"]
    second, ago = dt.timedelta(seconds=1), START - dt.timedelta(days=20)
    where = ("labels", "R0001", "s", 1.0)
    held = [
        ("infer-2", "R0001-N02", n2[1:], START + 5 * second, START + 60 * second, *where),
        ("old-1", "R0001-N01", n1, ago, ago + dt.timedelta(hours=3), *where),
        ("train-7", "R0001-N01", n1, START + 5 * second, START + 30 * second, *where),
        ("train-7", "R0001-N02", n2[:1], START + 5 * second, START + 30 * second, *where),
    ]
    assert old.query(asked).result_rows == held
    assert old.query("SELECT count(), sum(open) FROM gigawatch.held WHERE job = 'train-7'").result_rows == [(3, 0)]
    assert migrate(old) == []
    assert old.query("SELECT count() FROM gigawatch.allocations").result_rows == [(4,)]
    old.command("TRUNCATE TABLE gigawatch.store_version")  # killed before it wrote what it had done
    assert migrate(old)[-1] == "store version 2"
    assert old.query(asked).result_rows == held


def test_new_frames_lie_beside_old_ones_and_are_rolled_up_with_them(old: Client) -> None:
    migrate(old)
    device = "R0001-N01-GPU0"
    who = {"site": ["s"], "rack": ["R0001"], "node": ["R0001-N01"], "device": [device], "model": ["H100"]}
    frame = build("gpu", START_S * 1000 + 70_000, who | {"board": ["GPU-a"]}, {"power_w": [470.0]})
    known = DeviceSets(by_rack=True)
    body = frame_table(TABLES["gpu"], [StoredMessage(frame, 0, 99, START_S * 1000)], "log-1", known)
    old.insert_arrow("gigawatch.identities", identities_table(known.new))
    old.insert_arrow("gigawatch.gpu_frames", body)
    found = old.query(
        f"SELECT board, count(), max(power_w) FROM gigawatch.gpu WHERE rack = 'R0001' AND device = '{device}' "
        "GROUP BY board ORDER BY board"
    ).result_rows
    assert found == [("", 12, 460.0), ("GPU-a", 1, 470.0)]
    assert Roller(old).roll(everything=True) > 0
    minute = old.query(
        f"SELECT sum(samples) FROM gigawatch.gpu_1m WHERE device = '{device}' AND ts = {{t:DateTime64(3)}}",
        parameters={"t": START + dt.timedelta(minutes=1)},
    ).result_rows
    assert minute == [(12,)]


def test_the_command_says_what_it_did_and_then_that_nothing_is_left(old: Client, tmp_path: Path) -> None:
    old.close()
    for lines in (["view gpu", "jobs of version 1 are allocations"], ["nothing to do: the tables are up to date"]):
        done = CliRunner().invoke(gigawatch, ["migrate", "--data-dir", str(tmp_path)])
        assert done.exit_code == 0, done.output
        assert set(lines) <= set(done.output.splitlines())


def test_a_store_of_a_newer_version_is_left_alone(empty: Client) -> None:
    assert migrate(empty)[-1] == "store version 2"
    assert migrate(empty) == []
    empty.command("INSERT INTO gigawatch.store_version (version, ts) VALUES (3, now64(3))")
    with pytest.raises(StoreError, match="version 3, this Gigawatch knows version 2"):
        migrate(empty)
