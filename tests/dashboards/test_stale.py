"""A store that stops answering: the watch page states how old what it shows is, and every request ends."""

from __future__ import annotations

import re
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from playwright.async_api import Browser, expect

from dashboards.watch.server import Ask, Page, QueryTable, serve
from tests.dashboards.browser import BoardPage, browsing, opened_page

BOARD = {
    "uid": "one",
    "title": "One",
    "templating": {"list": []},
    "time": {"from": "now-5m", "to": "now"},
    "refresh": "1s",
    "panels": [
        {
            "id": 1,
            "type": "stat",
            "title": "Answers",
            "gridPos": {"x": 0, "y": 0, "w": 12, "h": 6},
            "fieldConfig": {"defaults": {"unit": "none"}, "overrides": []},
            "targets": [{"rawSql": "SELECT 1"}],
        }
    ],
}
#: A board with a variable of which the store is asked before anything is drawn.
WITH_VARIABLE = {
    **BOARD,
    "templating": {"list": [{"name": "rack", "type": "query", "definition": "SELECT 'R1'"}]},
}


class Freezing:
    """A store that answers until `frozen` is set, and then not before it is cleared, like a stopped process."""

    def __init__(self) -> None:
        self._runs = threading.Event()
        self._runs.set()

    def freeze(self) -> None:
        self._runs.clear()

    def thaw(self) -> None:
        self._runs.set()

    def __call__(self, sql: str) -> QueryTable:
        self._runs.wait(60)
        return QueryTable(("value",), [(7.0,)])


@pytest.fixture
def store() -> Iterator[Freezing]:
    made = Freezing()
    yield made
    made.thaw()


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with browsing() as found:
        yield found


def quiet(ask: Ask) -> list[dict[str, str]]:
    """Alert rules that ask the store and never fire."""
    ask("SELECT 1")
    return []


@asynccontextmanager
async def watched(
    browser: Browser, store: Freezing, body: dict[str, Any], alerts: bool = False
) -> AsyncIterator[BoardPage]:
    runner = await serve(Page(store, boards=lambda: {"one": body}, alerts=quiet if alerts else None), "127.0.0.1", 0)
    try:
        yield await opened_page(browser, f"http://127.0.0.1:{runner.addresses[0][1]}")
    finally:
        store.thaw()
        await runner.cleanup()


@pytest.mark.service
@pytest.mark.parametrize("body", [BOARD, WITH_VARIABLE], ids=["a panel hangs", "the board hangs"])
async def test_a_page_states_its_age_after_two_refreshes_and_is_quiet_again(
    browser: Browser, store: Freezing, body: dict[str, Any]
) -> None:
    async with watched(browser, store, body) as page:
        age = page.page.locator("#age")
        await page.open("/d/one/one")
        await page.page.wait_for_timeout(3000)
        await expect(age).to_be_hidden()
        store.freeze()
        await expect(age).to_have_text(
            re.compile(r"What is shown is [2-9] s old: the last complete answer is of \d\d:")
        )
        await expect(page.panel("Answers")).to_contain_text("7")
        stated = int(re.findall(r"is (\d+) s old", await age.inner_text())[0])
        await expect(age).to_have_text(re.compile(rf"is {stated + 2} s old"))
        store.thaw()
        await expect(age).to_be_hidden()


@pytest.mark.service
async def test_a_page_that_never_got_an_answer_states_since_when(browser: Browser, store: Freezing) -> None:
    store.freeze()
    async with watched(browser, store, WITH_VARIABLE) as page:
        await page.page.clock.install()
        await page.page.goto(f"{page.url}/d/one/one")
        await expect(page.page.locator("#boards a")).to_have_count(1)
        await page.page.clock.fast_forward(25_000)
        await expect(page.page.locator("#age")).to_have_text(re.compile(r"No complete answer for 2[5-9] s\."))


@pytest.mark.service
async def test_a_request_without_an_answer_ends_and_alerts_are_not_called_quiet(
    browser: Browser, store: Freezing
) -> None:
    async with watched(browser, store, BOARD, alerts=True) as page:
        await page.page.clock.install()
        await page.open("/d/one/one")
        await expect(page.page.locator("#alerts summary")).to_have_text("no alerts")
        store.freeze()
        await expect(page.page.locator("section.busy")).to_have_count(1)
        await page.page.clock.fast_forward(46_000)
        await expect(page.panel("Answers")).to_contain_text("no answer within 45 s")
        await page.page.wait_for_timeout(500)
        await page.page.clock.fast_forward(46_000)
        await expect(page.page.locator("#alerts summary")).to_have_text("alerts unknown")
        await expect(page.page.locator("#age")).to_be_visible()


@pytest.mark.service
async def test_the_server_answers_though_the_store_does_not(store: Freezing) -> None:
    """Six requests, more than may run at once, and each gets an answer; the store's threads are free again afterwards."""
    async with TestClient(TestServer(Page(store, boards=lambda: {"one": WITH_VARIABLE}, answer_s=0.2).app)) as client:
        body = {"from": "now-5m", "to": "now", "variables": {"rack": {"values": ["R1"]}}}
        store.freeze()
        for _ in range(6):
            panel = await (await client.post("/api/boards/one/panels/1", json=body)).json()
            assert panel == {"kind": "error", "text": "the store has not answered within 0.2 s"}
        board = await client.get("/api/boards/one")
        assert (board.status, await board.text()) == (502, "the store has not answered within 0.2 s")
        store.thaw()
        while (await client.get("/api/boards/one")).status != 200:
            pass
        panel = await (await client.post("/api/boards/one/panels/1", json=body)).json()
        assert panel["kind"] == "numbers"
