"""`gigawatch top`: the screens on a store that answers from memory, walked through with keys, at 80 x 24 and larger."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

import pytest
from textual.widgets import DataTable, Static

from pipeline.terminal.snapshot import IncidentRow, RackRow, SiteRow, Snapshot
from pipeline.terminal.top.app import Top
from pipeline.terminal.top.list_screen import Help
from pipeline.terminal.top.queries import RACK_MEASURES, GpuRow, Store, Trend
from pipeline.terminal.top.screens import FactoryScreen, GpuScreen, RackScreen
from pipeline.terminal.top.widgets import HeatMap, heat, spark

NOW = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
EVIL = "R9\x1b[31m\x07"


class Memory(Store):
    """Three racks, two GPUs each; counts how often it is asked."""

    def __init__(self) -> None:
        self.asked, self.error = 0, ""
        self.racks = [
            RackRow(
                "s",
                f"R000{n}",
                "GB200",
                72,
                72 + (n == 2),
                90.0 - n,
                88e3 + n,
                50.0 + n,
                150.0,
                32.0,
                40.0,
                0.94,
                0.9 if n == 3 else None,
            )
            for n in (1, 2, 3)
        ]

    def snapshot(self) -> tuple[Snapshot, Trend]:
        self.asked += 1
        if self.error:
            return Snapshot(error=self.error), Trend()
        incident = IncidentRow(NOW, "s", "R0003", "R0003-N01-GPU0", "train-001", "temp_c", 0.9)
        site = SiteRow("s", NOW, 3, 216, 217, 88.0, 264e3, 301e3, 248e3, 1.14, 0.94)
        return Snapshot([site], self.racks, [], [incident]), Trend((1.0, 2.0, 3.0), (90.0, 91.0))

    def gpus(self, site: str, rack: str) -> tuple[list[GpuRow], str]:
        self.asked += 1
        return [
            GpuRow(
                site,
                rack,
                f"{rack}-N01-GPU{n}",
                "train-001",
                99.0,
                800.0 + n,
                55.0,
                30.0,
                50.0,
                2000.0,
                0.7 if n else None,
                "temp_c" if n else "",
                (1.0, 2.0),
                f"GPU-{n}" if n else "",
            )
            for n in (0, 1)
        ], ""

    def past(self, gpu: GpuRow) -> tuple[list[Sequence[Any]], str]:
        self.asked += 1
        return [(NOW, 800.0 + k, 55.0, 99.0, 0.7, 2000.0, 30.0) for k in range(40)], ""


def shown(app: Top, name: str) -> str:
    return str(app.screen.query_one(f"#{name}", Static).content)


def rows(app: Top) -> list[str]:
    table = app.screen.query_one(DataTable)
    return [str(table.get_row_at(k)[0]) for k in range(table.row_count)]


@pytest.mark.parametrize("size", [(80, 24), (220, 60)])
async def test_from_the_factory_to_a_gpu_and_back(size: tuple[int, int]) -> None:
    app = Top(Memory(), 3600)
    async with app.run_test(size=size) as pilot:
        await app.workers.wait_for_complete()
        await pilot.pause()
        assert isinstance(app.screen, FactoryScreen)
        assert rows(app) == ["R0003", "R0002", "R0001"], "the worst first, then the one with a silent GPU"
        assert "216/217 GPUs" in shown(app, "head")
        assert "open incidents: 1\n" in shown(app, "foot")
        await pilot.press("enter")
        await app.workers.wait_for_complete()
        await pilot.pause()
        assert isinstance(app.screen, RackScreen)
        assert rows(app) == ["R0003-N01-GPU1", "R0003-N01-GPU0"]
        assert "draw 1.6 kW" in shown(app, "head")
        await pilot.press("enter")
        await app.workers.wait_for_complete()
        await pilot.pause()
        assert isinstance(app.screen, GpuScreen)
        assert "839 W" in shown(app, "lines")
        assert "s / R0003   GPU-1   held by train-001" in shown(app, "head")
        await pilot.press("escape")
        await pilot.press("escape")
        assert isinstance(app.screen, FactoryScreen)
        await pilot.press("i")
        assert isinstance(app.screen, RackScreen), "the newest incident's rack"


async def test_sort_filter_measure_pause_and_help() -> None:
    store = Memory()
    app = Top(store, 3600)
    async with app.run_test(size=(100, 30)) as pilot:
        await app.workers.wait_for_complete()
        await pilot.pause()
        await pilot.press("s")
        assert rows(app) == ["R0001", "R0002", "R0003"]
        await pilot.press("m")
        assert "hottest GPU" in shown(app, "legend")
        await pilot.press("slash", *"r0002", "enter")
        assert rows(app) == ["R0002"]
        assert "1 of 3" in shown(app, "legend")
        await pilot.press("slash", "ctrl+u", "enter")
        assert len(rows(app)) == 3
        await pilot.press("space")
        assert "PAUSED" in shown(app, "legend")
        before = store.asked
        app.round()
        assert store.asked == before
        await pilot.press("space")
        app.round()
        await app.workers.wait_for_complete()
        assert store.asked == before + 1
        await pilot.press("question_mark")
        assert isinstance(app.screen, Help)
        await pilot.press("escape")
        assert isinstance(app.screen, FactoryScreen)


async def test_the_heat_map_is_walked_with_arrows_and_opens_a_rack() -> None:
    app = Top(Memory(), 3600)
    async with app.run_test(size=(80, 24)) as pilot:
        await app.workers.wait_for_complete()
        await pilot.pause()
        await pilot.press("shift+tab")
        heatmap = app.screen.query_one(HeatMap)
        assert heatmap.has_focus
        await pilot.press("right", "right", "right")
        assert heatmap.cursor == 2, "it stops at the last"
        assert "s/R0003" in shown(app, "legend")
        await pilot.press("left", "enter")
        await app.workers.wait_for_complete()
        await pilot.pause()
        assert "R0002" in shown(app, "head")


async def test_hostile_names_and_a_store_that_fails_are_shown_as_words() -> None:
    store = Memory()
    store.racks = [RackRow("s", EVIL, "[red]", 1, 1, None, None, None, None, None, None, None, None)]
    app = Top(store, 3600)
    async with app.run_test(size=(80, 24)) as pilot:
        await app.workers.wait_for_complete()
        await pilot.pause()
        assert "\x1b" not in rows(app)[0]
        assert "\x07" not in rows(app)[0]
        store.error = "Code: 210. connection refused"
        app.round()
        await app.workers.wait_for_complete()
        await pilot.pause()
        assert "connection refused" in shown(app, "head")


def test_colours_and_sparks() -> None:
    assert heat(None, 0, 1) != heat(0.0, 0, 1) != heat(1.0, 0, 1)
    assert heat(5.0, 0, 1) == heat(1.0, 0, 1)
    assert spark([1, 2, 3], 2) == "▁█"
    assert spark([], 5) == ""
    assert spark([7, 7], 5) == "▁▁"
    for _, value, low, high in RACK_MEASURES.values():
        assert low < high
        value(RackRow("", "", "", 0, 0, None, None, None, None, None, None, None, None))
