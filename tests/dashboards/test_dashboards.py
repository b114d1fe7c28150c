"""Dashboards: built as committed, macros as the plugin's, provisioning that fits, push against a fake
Grafana.
"""

from __future__ import annotations

import datetime as dt
import json
import re
import ssl
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml
from aiohttp.test_utils import TestClient, TestServer
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards import boards, build, check, model, push, sql
from dashboards.datasource import TYPE, UID
from dashboards.macros import MacroError, Range, expand
from dashboards.queries import factory
from dashboards.watch.server import Page, QueryTable
from schemas.catalogue import KINDS
from tests.conftest import ROOT

OVER = Range(dt.datetime(2026, 1, 2, 3, 0, 0, tzinfo=dt.UTC), dt.datetime(2026, 1, 2, 4, 0, 0, tzinfo=dt.UTC), 15)
FIRST, LAST = 1767322800, 1767326400


def test_the_json_in_the_tree_is_what_the_code_builds() -> None:
    assert build.write(check=True) == [], "run `make docs`"


NEW_BOARD = """
from dashboards import panels
from dashboards.board import Board


def board() -> Board:
    number = panels.stat("One", "SELECT 1 AS value", "none", "The number one.")
    return Board("network", 45, "do packets arrive", "Switches and links.", [number], pictures=[("network", "n.png")])
"""


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of what is built, and a folder `boards` in which further boards are found."""
    for name in ("boards", "json", "docs/runbooks"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("dashboards.md", "runbooks/README.md"):
        (tmp_path / "docs" / name).write_text((build.DOCS / name).read_text())
    monkeypatch.setattr(boards, "__path__", [*boards.__path__, str(tmp_path / "boards")])
    monkeypatch.setattr(build, "FOLDER", tmp_path / "json")
    monkeypatch.setattr(build, "ALERTS", tmp_path / "rules.yaml")
    monkeypatch.setattr(build, "DOCS", tmp_path / "docs")
    return tmp_path


def forget(name: str) -> None:
    sys.modules.pop(f"dashboards.boards.{name}", None)
    boards.__dict__.pop(name, None)


@pytest.mark.service
async def test_a_board_is_one_file(tree: Path) -> None:
    """Its JSON, its place in the watch page's menu and its row in the docs come from the file alone, and go with it."""
    (tree / "boards" / "network.py").write_text(NEW_BOARD)
    try:
        written = build.write()
        assert "network.json" in written
        assert "dashboards.md" in written
        assert build.write(check=True) == []
        assert (
            "| network | do packets arrive | [network](pictures/n.png) |" in (tree / "docs/dashboards.md").read_text()
        )
        async with TestClient(TestServer(Page(lambda _: QueryTable((), [])).app)) as client:
            menu = [entry["slug"] for entry in await (await client.get("/api/boards")).json()]
        assert menu == ["factory", "rack", "gpu", "power", "network", "cooling", "jobs", "incidents", "health"]
        (tree / "boards" / "network.py").unlink()
        (tree / "json" / "mine.json").write_text('{"uid": "mine", "title": "Mine"}')
        assert sorted(build.write(check=True)) == ["dashboards.md", "network.json"]
        build.write()
        assert not (tree / "json" / "network.json").exists()
        assert list(build.load())[-1] == "mine", "a board from elsewhere stays"
    finally:
        forget("network")


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("empty", "", r"boards/empty\.py: it has no function board\(\)"),
        ("twin", NEW_BOARD.replace('"network", 45', '"rack", 45'), r"rack\.py and twin\.py are both 'rack'"),
    ],
)
def test_a_file_that_is_no_board_is_named(tree: Path, name: str, text: str, complaint: str) -> None:
    (tree / "boards" / f"{name}.py").write_text(text)
    try:
        with pytest.raises(build.BuildError, match=complaint):
            build.write()
    finally:
        forget(name)


def test_a_page_without_its_markers_is_named(tree: Path) -> None:
    (tree / "docs" / "dashboards.md").write_text("# Dashboards\n")
    with pytest.raises(build.BuildError, match=r"dashboards\.md: the lines .* are missing"):
        build.write(check=True)


def test_a_table_that_the_store_lacks_is_no_panel() -> None:
    with pytest.raises(KeyError, match="the store has no table gpu_5s"):
        sql.stored("gpu_5s")


def test_every_target_is_the_plugins_query() -> None:
    found = build.load()
    assert list(found) == [board.uid for board in build.discovered()]
    assert next(iter(found)) == "gigawatch-factory"
    for board in found.values():
        ids = [p["id"] for p in board["panels"]]
        assert len(set(ids)) == len(ids)
        for panel in board["panels"]:
            assert panel["description"]
            assert panel["datasource"] == {"type": TYPE, "uid": UID}
            for target in panel["targets"]:
                assert target["queryType"] == target["editorType"] == "sql"
                assert target["format"] in (0, 1)
                assert target["rawSql"].startswith("SELECT")
        for variable in board["templating"]["list"]:
            if variable["type"] == "query":
                assert variable["definition"] == variable["query"]["rawSql"]


def test_grafanas_typed_model_reads_every_board_without_loss() -> None:
    """Panels and queries, too: what the model does not know would be dropped on the way."""
    plugins.register_default_plugins()
    for text in build.built().values():
        body = json.loads(text)
        for variable in body["templating"]["list"]:
            variable.pop("definition", None)  # the plugin's, which the SDK's builders lack
        for query in body.get("annotations", {}).get("list", []):
            assert query.pop("target")[
                "rawSql"
            ]  # a datasource's own: the model knows the one of Grafana's built-in source alone
        again = json.loads(json.dumps(Dashboard.from_json(json.loads(json.dumps(body))), cls=JSONEncoder))
        assert list(lost(body, again)) == []


def lost(before: Any, after: Any, where: str = "") -> Iterator[str]:
    """Yields the places where `after` lacks a value of `before`, or has another."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key, value in before.items():
            yield from lost(value, after[key], f"{where}/{key}") if key in after else [f"{where}/{key}"]
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, pair in enumerate(zip(before, after, strict=True)):
            yield from lost(*pair, f"{where}[{number}]")
    elif before != after:
        yield f"{where}: {before!r} became {after!r}"


def test_panels_read_the_tier_that_fits_and_all_variables_exist() -> None:
    """Raw frames only in panels that show minutes; what is shown as now reads minutes too; nothing forgets the time
    range.
    """
    for board in build.load().values():
        names = {v["name"] for v in board["templating"]["list"]} | {"__value.text", "__url_time_range"}
        known = {v["name"] for v in board["templating"]["list"]}
        for panel in board["panels"]:
            (target,) = panel["targets"]
            sql = target["rawSql"]
            if "gigawatch." in sql:
                assert "$__timeFilter(" in sql or "$__toTime" in sql, panel["title"]
            if any(f"gigawatch.{kind}{end} " in sql for kind in KINDS for end in ("", "_raw", "_frames")):
                assert panel.get("timeFrom") == "5m", panel["title"]
            assert "$'" not in sql, "the plugin's JavaScript would put the rest of the text there"
            for match in re.findall(r"\$\{?([a-z]\w*)", sql):
                assert match in known, f"{panel['title']}: ${match}"
        for link in re.findall(r'"url": "(/d/[^"]+)"', json.dumps(board)):
            assert link.split("/")[2] in build.load(), link
            assert all(
                name.split(":")[0] in names or name.startswith(("__data.fields.", "__field.labels."))
                for name in re.findall(r"\$\{([^}]+)\}", link)
            ), link


def test_the_check_reads_the_range_of_a_panel() -> None:
    over = Range(dt.datetime(2026, 1, 1, tzinfo=dt.UTC), dt.datetime(2026, 1, 8, tzinfo=dt.UTC), 2016)
    assert model.shown({}, over) == over
    assert model.shown({"timeFrom": "5m"}, over) == Range(dt.datetime(2026, 1, 7, 23, 55, tzinfo=dt.UTC), over.last, 1)


@pytest.mark.parametrize(
    ("sql", "expanded"),
    [
        ("$__timeFilter(ts)", f"ts >= toDateTime({FIRST}) AND ts <= toDateTime({LAST})"),
        (
            "$__timeFilter_ms(ts)",
            f"ts >= fromUnixTimestamp64Milli({FIRST}000) AND ts <= fromUnixTimestamp64Milli({LAST}000)",
        ),
        ("$__fromTime and $__toTime", f"toDateTime({FIRST}) and toDateTime({LAST})"),
        ("$__timeFrom(a) $__timeTo(b)", f"a >= toDateTime({FIRST}) b <= toDateTime({LAST})"),
        ("$__dateFilter(d)", "d >= toDate('2026-01-02') AND d <= toDate('2026-01-02')"),
        (
            "$__dt(d, c)",
            (
                f"d >= toDate('2026-01-02') AND d <= toDate('2026-01-02') AND c >= toDateTime({FIRST}) AND c <= "
                f"toDateTime({LAST})"
            ),
        ),
        ("$__timeInterval(ts)", "toStartOfInterval(toDateTime(ts), INTERVAL 15 second)"),
        ("$__timeInterval_ms(ts)", "toStartOfInterval(toDateTime64(ts, 3), INTERVAL 15000 millisecond)"),
        ("$__timeGroup(ts, '1m')", "toStartOfInterval(toDateTime(ts), INTERVAL 60 second)"),
        ("$__interval_s", "15"),
        (
            "$__timeFilter(toDateTime(f(a, b)))",
            f"toDateTime(f(a, b)) >= toDateTime({FIRST}) AND toDateTime(f(a, b)) <= toDateTime({LAST})",
        ),
        ("$__conditionalAll(rack IN ($rack), $rack)", "rack IN ('R1','R2')"),
        ("$__conditionalAll(x = '$all', $all)", "1=1"),
        ("x = '$one' AND ${one:singlequote} AND $rack", "x = 'S1' AND 'S1' AND 'R1','R2'"),
    ],
)
def test_macros_become_what_the_plugin_makes_of_them(sql: str, expanded: str) -> None:
    assert expand(sql, OVER, {"rack": ["R1", "R2"], "one": "S1", "all": "$__all"}) == expanded


@pytest.mark.parametrize(
    "sql", ["$__nosuch(ts)", "$__timeFilter()", "$__timeFilter(ts", "$nosuch", "$__timeGroup(ts, 'soon')"]
)
def test_wrong_macros_are_refused(sql: str) -> None:
    with pytest.raises(MacroError):
        expand(sql, OVER, {})


def test_the_check_fails_on_errors_on_emptiness_and_on_variables() -> None:
    newest = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)

    def run(sql: str) -> tuple[list[list[Any]], int]:
        if "max(ts) FROM gigawatch.site_windows" in sql and "WHERE" not in sql:
            return [[newest]], 1
        if "DISTINCT" in sql or " AS tier " in sql or " AS width " in sql:
            return ([] if "gigawatch.identities" in sql else [["10"]]), 1
        if "incidents" in sql:
            raise RuntimeError("Code: 60. no table\nmore")
        return [[newest, None if "scores" in sql or "heat_w" in sql else 1.0]], 7

    results = check.check(check.timed(run), (15.0, 360.0), times=2)
    assert {r.over for r in results} == {"15 min", "6 h"}
    empty = {r.panel for r in results if r.error.startswith("empty")}
    assert empty >= {"Heat carried", "Power path"}
    assert not empty & {"Scores", "Worst devices"}, "a panel of faults may be empty when there are none"
    assert {r.error for r in results if r.panel == "Open incidents"} == {"Code: 60. no table"}
    assert {r.error for r in results if r.panel == "variable job"} == {"no values"}
    good = [r for r in results if not r.error]
    assert {r.read for r in good} == {7}


def test_the_95th_percentile_is_the_nearest_rank() -> None:
    made = [check.PanelCheck("", "", "", 1, 1, float(ms), "") for ms in range(1, 101)]
    assert check.p95(made) == 95
    assert check.p95(made[:1]) == 1
    assert check.p95([]) == 0


def test_an_empty_store_is_an_error_with_what_to_do() -> None:
    assert "no windows are stored" in check.check(check.timed(lambda _: ([[None]], 0)))[0].error


def test_provisioning_names_what_the_dashboards_use() -> None:
    source = yaml.safe_load((ROOT / "dashboards/provisioning/datasources/clickhouse.yaml").read_text())["datasources"][
        0
    ]
    assert (source["type"], source["uid"]) == (TYPE, UID)
    assert source["secureJsonData"]["password"].startswith("${")


@pytest.mark.service
def test_a_migration_adds_columns_and_makes_the_views_anew(clickhouse: str) -> None:
    from pipeline.store.client import connect
    from pipeline.store.migrate import migrate

    client = connect(clickhouse)
    migrate(client)
    assert migrate(client) == []
    assert client.query("SELECT xid_max, power_w_mean FROM gigawatch.gpu_raw LIMIT 0").column_names == (
        "xid_max",
        "power_w_mean",
    )
    client.command("ALTER TABLE gigawatch.gpu_frames DROP COLUMN xid, DROP COLUMN xid_n")
    assert migrate(client) == ["added gpu.xid", "added gpu.xid_n", "view gpu", "view gpu_raw"]
    client.close()


class FakeGrafana(BaseHTTPRequestHandler):
    """Grafana's API as far as a push goes; keeps what it is given."""

    state: dict[str, Any]

    def _reply(self, body: Any, code: int = 200) -> None:
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _allowed(self) -> bool:
        if self.headers.get("Authorization") == "Bearer good":
            return True
        self._reply({"message": "invalid API key"}, 401)
        return False

    def do_GET(self) -> None:
        if self._allowed():
            path = self.path.split("?")[0]
            if path.startswith("/api/folders/"):
                self._reply(next(f for f in self.state["folders"] if f["uid"] == path.split("/")[-1]))
            else:
                self._reply(self.state[path.removeprefix("/api/")])

    def _write(self) -> None:
        if not self._allowed():
            return
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        kind = self.path.split("/")[2]
        if kind == "dashboards":
            self.state["dashboards"].append(body)
        else:
            body.setdefault("id", len(self.state[kind]) + 1)
            self.state[kind] = [b for b in self.state[kind] if b["uid"] != body["uid"]] + [body]
        self._reply({**body, "status": "success"})

    do_POST = do_PUT = _write  # noqa: N815 - http.server's names

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def grafana() -> Iterator[tuple[str, dict[str, Any]]]:
    state: dict[str, Any] = {"folders": [], "datasources": [], "dashboards": []}
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (FakeGrafana,), {"state": state}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", state
    server.shutdown()


@pytest.mark.service
def test_push_brings_folder_datasource_and_dashboards(grafana: tuple[str, dict[str, Any]]) -> None:
    url, state = grafana
    for _ in range(2):  # pushing again replaces
        lines = list(push.push(url, "good", "http://reader:secret@ch:8123"))
    assert any("gigawatch-factory" in line for line in lines)
    assert [f["uid"] for f in state["folders"]] == ["gigawatch"]
    (source,) = state["datasources"]
    assert source["jsonData"]["host"] == "ch"
    assert source["secureJsonData"] == {"password": "secret"}
    pushed = state["dashboards"]
    assert [b["dashboard"]["uid"] for b in pushed] == list(build.load()) * 2
    assert all(b["overwrite"] and b["folderUid"] == "gigawatch" and b["dashboard"]["id"] is None for b in pushed)


@pytest.mark.service
def test_grafana_over_tls_is_trusted_by_its_authority_alone(tmp_path: Path) -> None:
    authority, stranger = trustme.CA(), trustme.CA()
    for name, found in (("ca", authority), ("stranger", stranger)):
        found.cert_pem.write_to_path(tmp_path / f"{name}.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    state: dict[str, Any] = {"folders": [], "datasources": [], "dashboards": []}
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (FakeGrafana,), {"state": state}))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"https://localhost:{server.server_address[1]}"
    try:
        assert any(
            "gigawatch-factory" in line
            for line in push.push(url, "good", "https://ch", str(tmp_path / "ca.pem"), ("gigawatch_grafana", "secret"))
        )
        (source,) = state["datasources"]
        assert (source["jsonData"]["username"], source["jsonData"]["secure"], source["secureJsonData"]) == (
            "gigawatch_grafana",
            True,
            {"password": "secret"},
        )
        for ca in (str(tmp_path / "stranger.pem"), ""):
            with pytest.raises(push.PushError, match="does not answer: SSLError"):
                list(push.push(url, "good", None, ca))
    finally:
        server.shutdown()


@pytest.mark.service
def test_push_without_a_datasource_warns(grafana: tuple[str, dict[str, Any]]) -> None:
    assert any("give --clickhouse" in line for line in push.push(grafana[0], "good"))


@pytest.mark.service
@pytest.mark.parametrize(
    ("url", "auth", "complaint"),
    [
        ("{}", "bad", "check the token"),
        ("http://127.0.0.1:1", "good", "does not answer"),
        ("nonsense", "good", "wants http"),
    ],
)
def test_push_errors_say_what_to_do(grafana: tuple[str, dict[str, Any]], url: str, auth: str, complaint: str) -> None:
    with pytest.raises(push.PushError, match=complaint):
        list(push.push(url.format(grafana[0]), auth))


def test_the_worst_panel_orders_by_score() -> None:
    assert "ORDER BY score DESC" in factory.WORST
