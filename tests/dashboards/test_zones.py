"""The watch page's clock in browsers of several time zones: axes, tables, zooms and shared links are one instant."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import pytest
from playwright.async_api import Browser

from dashboards.watch.server import Page, QueryTable, serve
from tests.dashboards.browser import BoardPage, browsing, opened_page

pytestmark = pytest.mark.service
ZONES = ("UTC", "America/New_York", "Europe/Berlin", "Asia/Kolkata", "Asia/Tokyo")
#: An hour of summer time, with midnight in India within it.
FIRST = dt.datetime(2026, 7, 14, 18, 0, tzinfo=dt.UTC)
STEP_S = 60


def board() -> dict[str, Any]:
    """A board of the panels that have a time axis or a time cell, over an hour."""
    kinds = {"Line": "timeseries", "Cells": "status-history", "States": "state-timeline", "Rows": "table"}
    return {
        "uid": "clock",
        "title": "Clock",
        "templating": {"list": []},
        "time": {"from": str(ms(FIRST)), "to": str(ms(FIRST + dt.timedelta(hours=1)))},
        "annotations": {
            "list": [{"iconColor": "red", "target": {"rawSql": "SELECT 'annotation' WHERE $__timeFilter(ts)"}}]
        },
        "panels": [
            {
                "id": number,
                "type": kind,
                "title": title,
                "gridPos": {"x": 12 * (number % 2), "y": 10 * (number // 2), "w": 12, "h": 10},
                "fieldConfig": {"defaults": {"unit": "none", "thresholds": {"steps": []}}, "overrides": []},
                "targets": [{"rawSql": f"SELECT '{kind}' WHERE $__timeFilter(ts)"}],
            }
            for number, (title, kind) in enumerate(kinds.items())
        ],
    }


def ms(moment: dt.datetime) -> int:
    return round(moment.timestamp() * 1000)


class Minutes:
    """A store with a sample each minute of any range; keeps the ranges it was asked for, s since 1970."""

    def __init__(self) -> None:
        self.ranges: list[tuple[int, int]] = []

    def __call__(self, sql: str) -> QueryTable:
        first, last = (int(s) for s in re.findall(r"toDateTime\((\d+)\)", sql))
        self.ranges.append((first, last))
        if "'annotation'" in sql:
            return QueryTable(("time", "text"), [(at((first + last) // 2), "half way")])
        moments = [at(s) for s in range(first, last + 1, STEP_S)]
        if "'table'" in sql:
            return QueryTable(("opened", "device"), [(moment, "R1") for moment in moments[:5]])
        if "'state-timeline'" in sql:
            return QueryTable(("time", "device", "state"), [(moment, "R1", "ok") for moment in moments])
        return QueryTable(("time", "device", "value"), [(moment, "R1", float(k)) for k, moment in enumerate(moments)])


def at(seconds: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC)


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with browsing() as found:
        yield found


#: The time axis of a panel as a person reads it: each label, and where on the axis it stands (0 to 1); and the drawn
#: marks' left and right end on the same scale.
_READ = """plot => {
  const axis = plot._fullLayout.xaxis, left = plot.getBoundingClientRect().left + axis._offset;
  const share = (x) => (x - left) / axis._length;
  const middle = (box) => (box.left + box.right) / 2;
  const marks = [...plot.querySelectorAll(".scatterlayer path.js-line, .barlayer .point path, .heatmaplayer image")].map((e) => e.getBoundingClientRect());
  return {
    labels: [...plot.querySelectorAll(".xaxislayer-above .xtick text")]
      .filter((e) => e.getBoundingClientRect().width).map((e) => [e.textContent, share(middle(e.getBoundingClientRect()))]),
    first: share(Math.min(...marks.map((m) => m.left))), last: share(Math.max(...marks.map((m) => m.right))),
    notes: [...plot.querySelectorAll(".annotation-text")].map((e) => share(e.getBoundingClientRect().left)),
  };
}"""


async def read(page: BoardPage, title: str) -> dict[str, Any]:
    found: dict[str, Any] = await page.panel(title).locator(".plot").evaluate(_READ)
    return found


def expected(label: str, share: float, span: tuple[int, int], zone: str) -> bool:
    """Whether the wall clock in the zone shows that label at that share of the span (ms), to the width of a letter."""
    moment = dt.datetime.fromtimestamp((span[0] + share * (span[1] - span[0])) / 1000, ZoneInfo(zone))
    hour, minute = (int(part) for part in label.split(":"))
    apart = abs(hour * 60 + minute - (moment.hour * 60 + moment.minute + moment.second / 60))
    return min(apart, 1440 - apart) < 1.5


async def assert_clock(page: BoardPage, zone: str, span: tuple[int, int]) -> None:
    """Every time that the page shows is the zone's wall clock at that instant of the span (ms)."""
    for title in ("Line", "Cells", "States"):
        seen = await read(page, title)
        assert len(seen["labels"]) >= 3, title
        wrong = [(label, share) for label, share in seen["labels"] if not expected(label, share, span, zone)]
        assert wrong == [], title
        assert seen["first"] == pytest.approx(0, abs=0.02), f"{title}: data begins where the axis does"
        assert seen["last"] == pytest.approx(1, abs=0.02), f"{title}: data ends where the axis does"
    (half_way,) = (await read(page, "Line"))["notes"]
    assert half_way == pytest.approx(0.5, abs=0.03), "an annotation"
    first = dt.datetime.fromtimestamp(-(-span[0] // 1000), ZoneInfo(zone))
    times = await page.panel("Rows").locator("tbody td:first-child").all_inner_texts()
    assert times == [f"{first + dt.timedelta(seconds=STEP_S * k):%H:%M:%S}" for k in range(5)]


async def drag(page: BoardPage, title: str, begin: float, end: float) -> tuple[float, float]:
    """Drags over a panel's time axis from one share of it to another; the shares in whole pixels."""
    box = await page.panel(title).locator(".nsewdrag").first.bounding_box()
    assert box is not None
    x0, x1, y = (
        round(box["x"] + begin * box["width"]),
        round(box["x"] + end * box["width"]),
        box["y"] + box["height"] / 2,
    )
    await page.page.mouse.move(x0, y)
    await page.page.mouse.down()
    await page.page.mouse.move((x0 + x1) / 2, y, steps=4)
    await page.page.mouse.move(x1, y, steps=4)
    await page.page.mouse.up()
    return (x0 - box["x"]) / box["width"], (x1 - box["x"]) / box["width"]


async def test_axes_tables_zooms_and_links_are_the_browsers_clock_in_every_zone(browser: Browser) -> None:
    span = (ms(FIRST), ms(FIRST + dt.timedelta(hours=1)))
    store = Minutes()
    runner = await serve(Page(store, boards=lambda: {"clock": board()}), "127.0.0.1", 0)
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        for zone in ZONES:
            page = await opened_page(browser, url, zone)
            await page.open("/d/clock/clock")
            await assert_clock(page, zone, span)
            asked = len(store.ranges)
            shares = await drag(page, "Line", 0.25, 0.75)
            await page.page.wait_for_url(re.compile(r"\bfrom=\d+"))
            await page.drawn()
            zoomed = (int(page.variables()["from"][0]), int(page.variables()["to"][0]))
            for bound, share in zip(zoomed, shares, strict=True):
                assert abs(bound - (span[0] + share * (span[1] - span[0]))) < 15_000, f"{zone}: the dragged range"
            assert {(first, last) for first, last in store.ranges[asked:]} == {(zoomed[0] // 1000, zoomed[1] // 1000)}
            other = ZONES[(ZONES.index(zone) + 1) % len(ZONES)]
            friend = await opened_page(browser, url, other)
            asked = len(store.ranges)
            shared = urlsplit(page.page.url)
            await friend.open(f"{shared.path}?{shared.query}")
            await assert_clock(friend, other, zoomed)
            assert set(store.ranges[asked:]) == {(zoomed[0] // 1000, zoomed[1] // 1000)}, "the same instants"
            for each in (page, friend):
                assert each.console == []
                await each.page.context.close()
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("zone", "text", "utc"),
    [
        ("Asia/Kolkata", "2026-07-15", "2026-07-14T18:30:00.000Z"),
        ("America/New_York", "2026-01-14 10:00", "2026-01-14T15:00:00.000Z"),
        ("Europe/Berlin", "2026-07-14 20:00:01.2345", "2026-07-14T18:00:01.235Z"),
        ("UTC", "2026-01-14 15:00:01.5", "2026-01-14T15:00:01.500Z"),
    ],
)
async def test_a_dragged_end_at_midnight_is_the_browsers_midnight(
    browser: Browser, zone: str, text: str, utc: str
) -> None:
    """Plotly writes midnight as a date alone, which JavaScript reads as UTC."""
    runner = await serve(Page(Minutes(), boards=dict), "127.0.0.1", 0)
    try:
        page = await opened_page(browser, f"http://127.0.0.1:{runner.addresses[0][1]}", zone)
        await page.page.goto(f"{page.url}/d/none/none")
        assert await page.page.evaluate("text => new Date(instant(text)).toISOString()", text) == utc
    finally:
        await runner.cleanup()
