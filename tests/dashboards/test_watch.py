"""The watch page without a browser: its server, access, time ranges, links, and what it refuses."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboards import build
from dashboards.macros import Range, expand
from dashboards.watch.links import address
from dashboards.watch.server import Page, QueryTable
from dashboards.watch.time_range import covering, moment

NOW = dt.datetime(2026, 1, 2, 3, 0, tzinfo=dt.UTC)


EVIL = "R'; DROP TABLE gpu; --<img src=x onerror=alert(1)>\x1b[31m\\"


Client = TestClient[Any, Any]


def test_links_quote_what_is_put_in_and_lead_nowhere_else() -> None:
    made = address(
        "/d/x/x?var-rack=${__data.fields.rack}&${__url_time_range}", {}, ("now-1h", "now"), fields={"rack": EVIL}
    )
    assert made.startswith("/d/x/x?var-rack=R%27%3B%20DROP")
    assert made.count("&") == 2
    assert address("https://elsewhere.example/${rack}", {"rack": "R1"}, ("a", "b")) == ""
    assert address("javascript:alert(1)", {}, ("a", "b")) == ""
    assert (
        address("/d/x/x?${site:queryparam}", {"site": ("a b", "c")}, ("a", "b")) == "/d/x/x?var-site=a%20b&var-site=c"
    )


@given(st.text(max_size=40))
@settings(max_examples=200, deadline=None)
def test_a_name_cannot_leave_its_quotes(name: str) -> None:
    """What follows the literal is where it was: ClickHouse reads a backslash as the escape of what is after it."""
    sql = expand("rack = ${rack:singlequote} END", Range(NOW, NOW + dt.timedelta(1)), {"rack": name})
    body = sql.removeprefix("rack = ")
    assert body[0] == "'"
    k, read = 1, ""
    while body[k] != "'":
        k += body[k] == "\\"
        read += body[k]
        k += 1
    assert body[k + 1 :] == " END"
    assert read == name


@pytest.mark.parametrize("text", ["now", "now-30m", "now-7d", "1767322800000"])
def test_times_are_read(text: str) -> None:
    assert moment(text, NOW) <= NOW + dt.timedelta(days=9999)


@pytest.mark.parametrize(
    ("first", "last"),
    [("yesterday", "now"), ("now-1y", "now"), ("now", "now-1h"), ("'; DROP", "now"), ("", "now"), ("1" * 30, "now")],
)
def test_times_that_are_none_are_refused(first: str, last: str) -> None:
    with pytest.raises(ValueError, match="time"):
        covering(first, last, 100, NOW)


def test_intervals_follow_the_width() -> None:
    assert covering("now-5m", "now", 300, NOW).interval_s == 1
    assert covering("now-30m", "now", 300, NOW).interval_s == 10
    assert covering("now-7d", "now", 300, NOW).interval_s == 3600
    assert covering("now-7d", "now", 10**9, NOW).interval_s == 600


class Store:
    """Answers every question with one row of what it asks for, and remembers the questions."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.error = ""

    def __call__(self, sql: str) -> QueryTable:
        self.asked.append(sql)
        if self.error:
            raise RuntimeError(self.error)
        if "DISTINCT" in sql or "AS tier" in sql or "AS width" in sql:
            return QueryTable(
                ("x",),
                [("raw" if "'raw'" in sql else "10s" if "AS tier" in sql else "60" if "AS width" in sql else EVIL,)],
            )
        return QueryTable(("value",), [(1.0,)])


Opened = Callable[..., Awaitable[Client]]


@pytest.fixture
async def opened() -> AsyncIterator[Opened]:
    clients: list[Client] = []

    async def make(store: Store, token: str = "", **more: Any) -> Client:
        clients.append(TestClient(TestServer(Page(store, token, **more).app)))
        await clients[-1].start_server()
        return clients[-1]

    yield make
    for client in clients:
        await client.close()


@pytest.mark.service
async def test_a_board_comes_with_its_variables_and_each_panel_drawn(opened: Opened) -> None:
    store = Store()
    client = await opened(store)
    assert {b["uid"] for b in await (await client.get("/api/boards")).json()} == set(build.load())
    board = await (
        await client.get("/api/boards/gigawatch-rack", params={"var-rack": "R0007", "from": "now-5m"})
    ).json()
    chosen = {v["name"]: v["chosen"] for v in board["variables"]}
    assert chosen == {"site": [EVIL], "rack": ["R0007"], "rolled": ["10s"], "window": ["60"]}, (
        "a link to a rack that is silent now still opens it"
    )
    variables = {name: {"values": values} for name, values in chosen.items()}
    first = board["panels"][1]
    drawn = await (
        await client.post(
            f"/api/boards/gigawatch-rack/panels/{first['id']}",
            json={"from": "now-5m", "to": "now", "variables": variables},
        )
    ).json()
    assert drawn["kind"] == "numbers"
    assert "site IN ('R\\'; DROP TABLE gpu; --<img src=x onerror=alert(1)>\x1b[31m\\\\')" in store.asked[-1]
    page = await client.get("/d/gigawatch-rack/rack")
    assert "script-src 'self'" in page.headers["Content-Security-Policy"]
    assert (await client.get("/static/plotly.min.js")).status == 200
    assert (await client.get("/static/..%2fserver.py")).status == 404
    assert (await client.get("/api/boards/nothing")).status == 404


@pytest.mark.service
async def test_what_goes_into_sql_without_quotes_is_a_plain_word(opened: Opened) -> None:
    store = Store()
    client = await opened(store)
    for name in ("rolled", "window", "by"):
        values = {
            "site": {"values": [], "all": True},
            "row": {"values": [], "all": True},
            "model": {"values": [], "all": True},
            "by": {"values": ["power"]},
            "rolled": {"values": ["10s"]},
            "window": {"values": ["60"]},
        } | {name: {"values": ["10s UNION ALL SELECT 1"]}}
        answer = await client.post(
            "/api/boards/gigawatch-factory/panels/1", json={"from": "now-5m", "to": "now", "variables": values}
        )
        assert answer.status == 400
        assert "cannot be" in (await answer.json())["text"]
    assert store.asked == []


@pytest.mark.service
async def test_a_stores_error_is_shown_in_its_panel_and_a_new_board_needs_no_code(opened: Opened) -> None:
    store = Store()
    mine = {
        "uid": "mine",
        "title": "Mine",
        "templating": {"list": []},
        "time": {"from": "now-1h", "to": "now"},
        "panels": [
            {
                "id": 7,
                "type": "stat",
                "title": "One",
                "gridPos": {"x": 0, "y": 0, "w": 4, "h": 4},
                "fieldConfig": {"defaults": {"unit": "watt"}, "overrides": []},
                "targets": [{"rawSql": "SELECT 1"}],
            }
        ],
    }
    client = await opened(store, boards=lambda: {"mine": mine})
    body = {"from": "now-5m", "to": "now", "variables": {}}
    assert (await (await client.post("/api/boards/mine/panels/7", json=body)).json())["values"][0]["text"] == "1 W"
    store.error = "Code: 241. DB::Exception: memory limit\nmore"
    assert await (await client.post("/api/boards/mine/panels/7", json=body)).json() == {
        "kind": "error",
        "text": "Code: 241. DB::Exception: memory limit",
    }
    assert (await client.post("/api/boards/mine/panels/8", json=body)).status == 404
    assert (await client.post("/api/boards/mine/panels/7", json={"from": "soon"})).status == 400
    assert (await client.post("/api/boards/mine/panels/7", data=b"x" * (2 << 20))).status in (400, 413)


@pytest.mark.service
async def test_strangers_are_refused(opened: Opened) -> None:
    client = await opened(Store())
    for headers in (
        {"Origin": "http://evil.example"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"},
        {"Host": "evil.example"},
        {"Host": "10.0.0.7:18080"},
    ):
        assert (await client.get("/api/boards", headers=headers)).status == 403, headers
    assert (
        await client.get(
            "/d/gigawatch-factory/factory", headers={"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
        )
    ).status == 200, "a link may lead here"


@pytest.mark.service
async def test_a_token_is_wanted_and_given_once(opened: Opened) -> None:
    client = await opened(Store(), "s3cret")
    assert (await client.get("/api/boards")).status == 401
    assert (await client.get("/api/boards", headers={"Authorization": "Bearer wrong"})).status == 401
    assert (await client.get("/api/boards", headers={"Authorization": "Bearer s3cret"})).status == 200
    moved = await client.get("/", params={"token": "s3cret"}, allow_redirects=False)
    assert moved.status == 303
    assert "token" not in moved.headers["Location"]
    cookie = moved.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert "s3cret" not in json.dumps(
        await (await client.get("/api/boards", headers={"Cookie": cookie.split(";")[0]})).json()
    )
