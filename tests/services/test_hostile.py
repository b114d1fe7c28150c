"""Names are data: a rack called like SQL, markup or a terminal escape does no harm anywhere."""

from __future__ import annotations

import asyncio
import csv
import datetime as dt
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from aiokafka import AIOKafkaProducer

from dashboards import build as build_boards
from dashboards import model
from dashboards.macros import Range, expand
from dashboards.watch.panel_data import PanelData
from dashboards.watch.render import render
from pipeline.instance import running
from pipeline.store.access import opened
from schemas.codec import encode
from schemas.frame import build
from schemas.jobs import ALLOCATION
from tests.factories import Running, run

pytestmark = pytest.mark.service(75)
NAMES = (
    "'; DROP TABLE gigawatch.identities; --",
    "\x1b]0;owned\x07\x1b[31mred",
    "[/red] [bold]x[/nope]",
    '=HYPERLINK("http://x","y")',
    "../../etc/passwd",
    "<script>alert(1)</script>",
    "tab\there\nnewline",
    "\u202egnp.exe",
    "{{table}} %s $y",
    "`\"\\'",
)


def _every_panel_of_every_rack(folder: Path) -> None:
    """The boards of a rack and of a GPU, for each name: each panel's query is that rack's, and drawn."""
    now = dt.datetime.now(dt.UTC)
    over = Range(now - dt.timedelta(minutes=5), now, 1)
    with opened(None, folder) as client:
        for name in NAMES:
            for board in ("gigawatch-rack", "gigawatch-gpu"):
                body = build_boards.load()[board]
                chosen = model.variables(
                    lambda sql: client.query(sql).result_rows,
                    body,
                    over,
                    {"site": ["hostile"], "rack": [name], "gpu": [f"{name}-1"]},
                )
                assert {v.name: v.chosen for v in chosen if v.name == "rack"} == {"rack": (name,)}
                values: model.Values = {v.name: v.value for v in chosen}
                shown = {}
                for panel in model.panels(body):
                    found = client.query(expand(panel["targets"][0]["rawSql"], model.shown(panel, over), values))
                    shown[panel["title"]] = render(
                        panel, PanelData(found.column_names, found.result_rows, (0, 1), ("now-5m", "now"), values)
                    )["kind"]
                assert shown["GPU power" if board.endswith("rack") else "Identity"] in ("plot", "numbers"), name


async def _publish(bootstrap: str, ticks: int) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    start = int(time.time()) * 1000 - ticks * 1000
    holds = [
        {
            **dict.fromkeys(("job", "rack", "node"), name),
            "seen": start + ticks * 1000,
            "started": start,
            "ended": 0,
            "site": "hostile",
            "scheduler": name,
            "devices": [f"{name}-0", f"{name}-board-1"],
            "share": 1.0,
            "first_rank": 0,
        }
        for name in NAMES
    ]
    await producer.send(ALLOCATION.topic, ALLOCATION.encode(ALLOCATION.build_rows(holds)))
    for tick in range(ticks):
        for name in NAMES:
            who = {
                "site": ["hostile"] * 2,
                "rack": [name] * 2,
                "node": [name] * 2,
                "device": [f"{name}-0", f"{name}-1"],
                "model": [name] * 2,
                "board": [f"{name}-board-0", f"{name}-board-1"],
            }
            values = {
                "power_w": np.array([900.0, 950.0], np.float32),
                "temp_c": np.array([50.0, 99.0], np.float32),
                "util_pct": np.array([90.0, 91.0], np.float32),
            }
            frame = build("gpu", start + tick * 1000, who, values)
            await producer.send("telemetry.gpu", encode(frame), frame.key())
    await producer.flush()
    await producer.stop()


def test_hostile_names_do_no_harm_anywhere(factory: Callable[..., Running], tmp_path: Path) -> None:
    up = factory("--source", "none")
    up.until(lambda: running(up.folder) is not None and up.status("sink").get("assigned"), 60)
    known = running(up.folder)
    assert known is not None
    asyncio.run(_publish(known.bootstrap, 100))
    up.until(lambda: up.stored() == 100 * 2 * len(NAMES), 60, "all rows")
    folder = ("--data-dir", str(up.folder))
    up.until(lambda: f"{len(NAMES)} racks" in run("top", "--once", *folder).stdout, 60, "windows of all racks")
    outputs = {
        "top": run("top", "--once", *folder).stdout,
        "hottest": run("query", "hottest", *folder).stdout,
        "power": run("query", "power", *folder).stdout,
        "sql": run("query", "SELECT DISTINCT rack FROM gpu", *folder).stdout,
        "history": run("history", "power_w", "--by", "rack", *folder).stdout,
        "busiest": run("query", "busiest", *folder).stdout,
    }
    for what, text in outputs.items():
        assert not {c for c in text if (ord(c) < 32 and c not in "\t\n") or 0x7F <= ord(c) < 0xA0 or c == "\u202e"}, (
            what
        )
    assert len(outputs["sql"].splitlines()) == 1 + len(NAMES)
    assert "[/red]" in outputs["top"], outputs["top"]
    assert "\\x1b]0;owned" in outputs["sql"]
    for name in NAMES:
        place = run(
            "history",
            "power_w",
            "--place",
            name,
            "--by",
            "rack",
            "--csv",
            str(tmp_path / "h.csv"),
            "--plot",
            str(tmp_path / "h.png"),
            *folder,
        )
        assert "rows ->" in place.stdout, name
        cells = {row["rack"] for row in csv.DictReader((tmp_path / "h.csv").open(newline=""))}
        assert cells == {f"'{name}" if name[0] in "=+-@\t\r" else name}, (
            "the name as it is, unless a spreadsheet would run it"
        )
    panels = [
        line.split("\t")
        for line in run("dashboards", "check", *folder, ok=False).stdout.splitlines()[1:]
        if "\t" in line
    ]
    assert len(panels) > 100
    broken = [line for line in panels if line[-1] and not line[-1].startswith("empty")]
    assert broken == [], "no query breaks on a name; some have nothing to show here"
    _every_panel_of_every_rack(up.folder)
    stored = run("query", "SELECT uniqExact(who) FROM identities", "--format", "TSV", *folder).stdout
    assert int(stored) == len(NAMES)
    up.finish()
    assert int(run("query", "SELECT count() FROM gpu", "--format", "TSV", *folder).stdout) == 100 * 2 * len(NAMES)
