"""Rows that are stored twice, or stored again with more in them, count once wherever they are shown."""

from __future__ import annotations

import datetime as dt
import time
from typing import Any

import pytest

from dashboards import build, model
from dashboards.macros import Range, expand
from pipeline.store.client import connect
from pipeline.store.migrate import migrate
from pipeline.store.named_queries import QUESTIONS
from pipeline.store.tables import TABLES
from pipeline.terminal.top.queries import Store
from tests import plants

pytestmark = pytest.mark.service(50)


def test_a_moment_that_is_stored_twice_counts_once(own_clickhouse: str) -> None:
    """The oldest first with one rack of two, then whole: until the store merges, both rows are there."""
    client = connect(own_clickhouse)
    migrate(client)
    client.command("SYSTEM STOP MERGES")
    last = dt.datetime.fromtimestamp(time.time() // 10 * 10, dt.UTC)
    moments = [last - dt.timedelta(seconds=10 * n) for n in range(6)]
    for racks, stored in ((1, moments[-1:]), (2, moments)):
        arrived = dt.datetime.now(dt.UTC)
        client.insert(
            "gigawatch.rack_windows",
            [("s", f"R{r}", ts, width, 50e3, arrived) for ts in stored for width in (10, 60) for r in range(racks)],
            ["site", "rack", "ts", "window_s", "rack_power_w", "kafka_ts"],
        )
        client.insert(
            "gigawatch.site_windows",
            [("s", ts, width, 50e3 * racks, 72 * racks, arrived) for ts in stored for width in (10, 60)],
            ["site", "ts", "window_s", "it_power_w", "gpus", "kafka_ts"],
        )
    over = Range(last - dt.timedelta(minutes=5), last, 10)

    def shown(board: str, title: str) -> list[tuple[Any, ...]]:
        body = build.load()[f"gigawatch-{board}"]
        chosen: model.Values = {
            v.name: v.value
            for v in model.variables(lambda sql: client.query(sql).result_rows, body, over, {"site": ["s"]})
        }
        (panel,) = (p for p in model.panels(body) if p["title"] == title)
        return [tuple(row) for row in client.query(expand(panel["targets"][0]["rawSql"], over, chosen)).result_rows]

    assert shown("power", "Steepest ramp") == [(0.0,)]
    assert shown("factory", "Fleet energy") == [(pytest.approx(6 * 10 * 100e3 / 3.6e6),)]
    assert {row[2] for row in shown("factory", "Power")} == {100e3}
    assert set(Store(client).snapshot()[1].power_w) == {100e3}
    client.close()


async def test_what_is_stored_twice_shows_once(own_clickhouse: str) -> None:
    """Roll-ups, windows, scores and incidents come again when a worker restarts or a bucket is made again; until
    the store merges, both are there.
    """
    client = connect(own_clickhouse)
    migrate(client)
    client.command("SYSTEM STOP MERGES")
    start_ms = int(time.time()) // 10 * 10_000 - 280_000
    await plants.store(
        client,
        5,
        280,
        start_ms,
        ["gpu-thermal@R0002-N03-GPU2:100", "psu-loss@R0003:100", "gpu-dead@R0001-N01-GPU0:100"],
    )
    over = Range(
        dt.datetime.fromtimestamp(start_ms / 1000, dt.UTC), dt.datetime.fromtimestamp(start_ms / 1000 + 280, dt.UTC), 10
    )

    def asked(sql: str) -> list[list[str]]:
        return sorted(
            [f"{cell:.6g}" if isinstance(cell, int | float) else str(cell) for cell in row]
            for row in client.query(sql).result_rows
        )

    def shown() -> dict[str, Any]:
        found: dict[str, Any] = {
            q.name: asked(q.sql.replace("{limit}", "1000"))
            for q in QUESTIONS.values()
            if "system.parts" not in q.sql and "String" not in q.sql  # those that want a name are asked elsewhere
        }
        for uid, body in build.load().items():
            chosen: model.Values = {
                v.name: v.value for v in model.variables(lambda sql: client.query(sql).result_rows, body, over, {})
            }
            for panel in model.panels(body):
                sql = panel["targets"][0]["rawSql"]
                if "system.parts" not in sql:
                    found[f"{uid}: {panel['title']}"] = asked(expand(sql, over, chosen))
        top, trend = Store(client).snapshot()
        past = [f"{v:.6g}" for v in (*trend.power_w, *trend.util_pct)]
        return found | {"top": (past, top.racks, top.sites, top.incidents)}

    once = shown()
    assert sum(map(bool, once.values())) > 110
    for table in TABLES.values():
        if table.version:
            client.command(f"INSERT INTO gigawatch.{table.stored_as} SELECT * FROM gigawatch.{table.stored_as}")
    held = client.query(
        "SELECT count(), uniqExact(ts, site) FROM gigawatch.site_windows WHERE window_s = 10"
    ).result_rows[0]
    assert held[0] == 2 * held[1], "nothing is merged"
    again = shown()
    assert {k: (rows, again[k]) for k, rows in once.items() if again[k] != rows} == {}
    client.close()
