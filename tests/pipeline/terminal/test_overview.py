"""The overview and `gigawatch top` on a plant's minutes in the real engine: both show the same factory."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn, cast

import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError
from rich.console import Console

from pipeline.monitoring.statuses import FreshnessStatus, ProcessStatus, ProducerStatus, SinkStatus
from pipeline.store.client import open_folder
from pipeline.store.migrate import migrate
from pipeline.store.named_queries import QUESTIONS
from pipeline.terminal import overview
from pipeline.terminal.snapshot import Snapshot, take
from pipeline.terminal.top.queries import Store
from schemas.catalogue import KINDS
from tests import plants

STATUSES: dict[str, ProcessStatus] = {
    "producer": ProducerStatus(at=1.0, source="a plant", rows={"telemetry.gpu": 10, "telemetry.node": 5}),
    "sink": SinkStatus(
        at=1.0,
        rows={**dict.fromkeys(KINDS, 1000), "gpu_10s": 77},
        freshness=FreshnessStatus(p50_s=1.2, p99_s=2.5),
        dead_letters=3,
    ),
}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Two racks for two and a half minutes; a GPU of the second dies."""
    folder: Path = tmp_path_factory.mktemp("overview")
    (folder / "clickhouse").mkdir()
    made = open_folder(folder)
    migrate(made)
    start_ms = int(time.time()) // 10 * 10_000 - 300_000
    asyncio.run(plants.store(made, 2, 150, start_ms, ["gpu-dead@R0002-N03-GPU2:60"], raw=True))
    yield made
    made.close()


def printed(snapshot: Snapshot, width: int = 130) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(overview.draw(snapshot, STATUSES, width))
    return console.export_text()


def test_the_snapshot_has_the_newest_of_every_site_and_rack(client: Client) -> None:
    snapshot = take(client)
    (site,) = snapshot.sites
    assert (site.site, site.racks, site.gpus, site.expected) == ("site-1", 2, 143, 144)
    assert [(r.rack, r.gpus, r.silent) for r in snapshot.racks] == [("R0001", 72, 0), ("R0002", 71, 1)]
    assert site.it_w == pytest.approx(sum(r.power_w or 0 for r in snapshot.racks), rel=0.01)
    assert site.pue is not None
    assert 1.0 < site.pue < 1.5
    for rack in snapshot.racks:
        assert rack.balance == pytest.approx(0.94, abs=0.05)
        assert rack.rise_k is not None
        assert 2 < rack.rise_k < 15
    assert snapshot.error == ""


def test_the_overview_puts_the_worst_first_and_names_the_incident(client: Client) -> None:
    snapshot = overview.overview_of(client)
    assert [r.rack for r in snapshot.racks] == ["R0002", "R0001"]
    assert snapshot.worst[0].device == "R0002-N03-GPU2"
    assert [i.device for i in snapshot.incidents] == ["R0002-N03-GPU2"]
    text = printed(snapshot)
    for part in ("143/144 GPUs", "racks (worst first)", "open incidents: 1", "fresh 1.2 s (p50) 2.5 s (p99)"):
        assert part in text
    assert f"stored {1000 * len(KINDS):,} rows" in text, "rows of every kind are counted"
    line = overview.line(snapshot, STATUSES)
    assert line.startswith(f"{1000 * len(KINDS)} rows stored; fresh within 2.5 s; site-1: 2 racks, 143/144 GPUs at ")
    assert "worst R0002-N03-GPU2" in line
    assert line.endswith("; open incidents: 1")


def test_top_shows_the_same_factory_and_a_racks_gpus(client: Client) -> None:
    store = Store(client)
    snapshot, trend = store.snapshot()
    assert snapshot == take(client)
    assert len(trend.power_w) == len(trend.util_pct) > 2
    gpus, error = store.gpus("site-1", "R0002")
    assert (len(gpus), error) == (72, "")
    worst = max(gpus, key=lambda g: g.score or 0.0)
    assert worst.device == "R0002-N03-GPU2"
    past, error = store.past(next(g for g in gpus if g.line))
    assert (len(past) > 10, error) == (True, "")


def test_the_worst_devices_are_those_of_the_named_query(client: Client) -> None:
    named = client.query(QUESTIONS["worst"].sql.replace("{limit}", "8")).result_rows
    shown = take(client, worst=8).worst
    assert [(d.device, d.cause, d.score) for d in shown] == [(row[0], row[4], row[3]) for row in named]


def test_what_is_stored_has_a_row_a_kind(client: Client) -> None:
    rows = client.query(QUESTIONS["stored"].sql.replace("{limit}", "20")).result_rows
    assert [row[0] for row in rows] == sorted(KINDS)
    given = [row for row in rows if row[0] not in ("gpu_instance", "endpoint")]
    assert all(row[1] > 0 and row[2] > 0 and row[5] > 0 for row in given)
    assert {row[0]: row[2] for row in rows}["gpu"] == 144


class Refusing:
    """A client whose server has no such table."""

    def query(self, *_: Any, **__: Any) -> NoReturn:
        raise DatabaseError("error: server response: Code: 60. Table gigawatch.site_windows is not there\n(for url x)")


def test_a_store_that_cannot_answer_is_shown_with_its_reason() -> None:
    snapshot = take(cast("Client", Refusing()))
    assert snapshot.error == "Code: 60. Table gigawatch.site_windows is not there"
    assert snapshot.error in printed(snapshot)
    assert "waiting for" not in printed(snapshot)
