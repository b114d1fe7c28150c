"""The watch page without a browser: what is drawn of which rows, who may look, what is refused, hostile names."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboards import build, model
from dashboards.macros import Range, expand
from dashboards.watch import units
from dashboards.watch.links import address
from dashboards.watch.panel_data import PanelData
from dashboards.watch.render import render
from dashboards.watch.server import Page, QueryTable
from dashboards.watch.time_range import covering, moment

NOW = dt.datetime(2026, 1, 2, 3, 0, tzinfo=dt.UTC)
EVIL = "R'; DROP TABLE gpu; --<img src=x onerror=alert(1)>\x1b[31m\\"
Client = TestClient[Any, Any]


def scene(names: tuple[str, ...], rows: list[tuple[Any, ...]], **values: Any) -> PanelData:
    return PanelData(
        names,
        rows,
        (round(NOW.timestamp() * 1000) - 600_000, round(NOW.timestamp() * 1000)),
        ("now-10m", "now"),
        values,
        10_000,
    )


def panel(board: str, title: str) -> dict[str, Any]:
    return next(p for p in model.panels(build.load()[f"gigawatch-{board}"]) if p["title"] == title)


def at(seconds: int) -> dt.datetime:
    return NOW - dt.timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("value", "unit", "decimals", "shown"),
    [
        (1_036_120.0, "watt", 2, "1.04 MW"),
        (999.0, "watt", None, "999 W"),
        (0.0, "watt", None, "0 W"),
        (-2500.0, "watt", 1, "-2.5 kW"),
        (0.725, "percentunit", 0, "72%"),
        (404.6, "kwatth", 1, "404.6 kWh"),
        (12_000.0, "kwatth", 1, "12.0 MWh"),
        (54.39, "celsius", 0, "54 °C"),
        (57_000_000.0, "bytes", 1, "54.4 MiB"),
        (1.1564, "none", 3, "1.156"),
        (189_471.0, "mbytes", 0, "185 GiB"),
        (3.0, "nobody knows", None, "3 nobody knows"),
        (17_711.0, "short", None, "17.7 k"),
    ],
)
def test_numbers_read_as_people_write_them(value: float, unit: str, decimals: float | None, shown: str) -> None:
    assert units.text(value, unit, decimals) == shown


def test_every_unit_and_panel_type_of_every_board_is_known_to_the_page() -> None:
    for body in build.load().values():
        for one in model.panels(body):
            drawn = render(one, scene((), []))
            assert drawn["kind"] == "empty", one["title"]
            assert drawn["text"]
            used = {one["fieldConfig"]["defaults"].get("unit", "none")} | {
                p["value"]
                for o in one["fieldConfig"].get("overrides", [])
                for p in o["properties"]
                if p["id"] == "unit"
            }
            assert used <= set(units.UNITS), one["title"]
    assert render({"type": "geomap", "fieldConfig": {"defaults": {}}}, scene(("a",), [(1,)]))["kind"] == "error"


def test_lines_are_named_by_what_tells_them_apart_and_scaled_to_their_unit() -> None:
    rows = [(at(20 - 10 * k), "site-1", 1e6 + k, 2e6, float("nan") if k else 3e6) for k in range(3)]
    drawn = render(panel("factory", "Power"), scene(("time", "site", "IT", "facility", "coolant_heat"), rows))
    assert [t["name"] for t in drawn["data"]] == ["IT", "facility", "coolant_heat"], "one site is no name"
    assert drawn["data"][0]["y"] == [1.0, 1.000001, 1.000002]
    assert drawn["data"][2]["y"] == [3.0, None, None]
    assert drawn["layout"]["yaxis"]["ticksuffix"] == " MW"
    two = render(
        panel("factory", "Power"),
        scene(("time", "site", "IT", "facility", "coolant_heat"), [*rows, (at(5), "site-2", 1.0, 1.0, 1.0)]),
    )
    assert "site-2 facility" in [t["name"] for t in two["data"]]


def test_a_heat_map_has_a_row_a_device_and_a_link_each() -> None:
    rows = [(at(60 - 10 * k), f"R0001-N01-GPU{g}", float(10 * g + k)) for k in range(6) for g in (1, 0)]
    drawn = render(panel("rack", "GPU utilization"), scene(("time", "device", "value"), rows, site="s 1", rack="R0001"))
    (trace,) = drawn["data"]
    assert trace["y"] == ["R0001-N01-GPU1", "R0001-N01-GPU0"]
    assert trace["z"][1] == [0, 1, 2, 3, 4, 5]
    assert (
        trace["meta"]["hrefs"]["R0001-N01-GPU0"]
        == "/d/gigawatch-gpu/gpu?var-site=s%201&var-rack=R0001&var-gpu=R0001-N01-GPU0&from=now-10m&to=now"
    )


def test_markup_in_a_name_is_written_out() -> None:
    drawn = render(
        panel("rack", "GPU power"),
        scene(
            ("time", "device", "value"),
            [(at(10), EVIL, 1.0), (at(10), "<a href='https://x'>y</a>", 2.0)],
            site="s",
            rack="R",
        ),
    )
    assert not [t["name"] for t in drawn["data"] if "<" in t["name"]]
    assert "&lt;img src=x" in drawn["data"][0]["name"]


def test_states_are_bars_for_as_long_as_they_last() -> None:
    words = ["ok", "ok", "leak", "leak", "ok"]
    drawn = render(
        panel("rack", "Leak sensors"),
        scene(("time", "device", "state"), [(at(50 - 10 * k), "R1", w) for k, w in enumerate(words)]),
    )
    spans = {t["name"]: [(b, x) for b, x in zip(t["base"], t["x"], strict=True)] for t in drawn["data"]}
    first = round(at(50).timestamp() * 1000)
    assert spans == {"ok": [(first, 20_000), (first + 40_000, 10_000)], "leak": [(first + 20_000, 20_000)]}
    assert next(t for t in drawn["data"] if t["name"] == "leak")["marker"]["color"] == "#f2495c"


def test_numbers_gauges_bars_and_buckets() -> None:
    drawn = render(panel("factory", "GPUs"), scene(("busy", "idle", "silent", "unhealthy"), [(792.0, 72.0, 0.0, 1)]))
    assert [(v["title"], v["text"], v["colour"]) for v in drawn["values"]] == [
        ("busy", "792", "#56b870"),
        ("idle", "72", "#5794f2"),
        ("silent", "0", "#ff9830"),
        ("unhealthy", "1", "#f2495c"),
    ]
    assert render(panel("factory", "IT power"), scene(("value",), [(None,)]))["kind"] == "empty"
    (gauge,) = render(panel("factory", "Of provisioned"), scene(("value",), [(0.96,)]))["data"]
    assert gauge["value"] == pytest.approx(96)
    assert gauge["gauge"]["bar"]["color"] == "#f2495c"
    bars = render(panel("power", "Breaker load"), scene(("rack", "load"), [("R1", 0.5), ("R2", 0.9)]))["rows"]
    assert [(b["name"], b["text"], b["share"], b["colour"]) for b in bars] == [
        ("R1", "50%", 0.5, "#56b870"),
        ("R2", "90%", 0.9, "#f2c037"),
    ]
    (counts,) = render(
        panel("cooling", "Racks by coolant rise"),
        scene(("time", "bucket", "racks"), [(at(10), "10", 2), (at(10), "8", 5)]),
    )["data"]
    assert (counts["y"], counts["z"]) == (["8", "10"], [[5], [2]])


def test_a_table_hides_colours_links_and_leaves_out_links_without_a_value() -> None:
    names = ("opened", "site", "device", "rack", "kind", "job", "cause", "peak", "from_ms")
    drawn = render(
        panel("factory", "Open incidents by device"),
        scene(names, [(NOW, "s", "CDU-001", "", "cooling", "", "flow_lpm", 0.95, 123)]),
    )
    titles = [c["title"] for c in drawn["columns"]]
    assert "site" not in titles
    assert "from ms" not in titles
    row = dict(zip(titles, drawn["rows"][0], strict=True))
    assert row["peak"] == {"text": "0.95", "sort": 0.95, "colour": "#f2495c"}
    assert row["device"]["href"] == row["rack"]["href"] == row["job"]["href"] == "", "no rack, no link"
    assert row["opened"]["time"] == NOW.timestamp() * 1000


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
