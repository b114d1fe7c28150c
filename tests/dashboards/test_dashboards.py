"""Dashboards: built as committed, macros as the plugin's, provisioning that fits, push against a Grafana that we play."""

from __future__ import annotations

import datetime as dt
import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml

from dashboards import build, check, fleet, push
from dashboards.clickhouse import TYPE, UID
from dashboards.macros import MacroError, Range, expand
from tests.conftest import ROOT

OVER = Range(dt.datetime(2026, 1, 2, 3, 0, 0, tzinfo=dt.UTC), dt.datetime(2026, 1, 2, 4, 0, 0, tzinfo=dt.UTC), 15)
FIRST, LAST = 1767322800, 1767326400


def test_the_json_in_the_tree_is_what_the_code_builds() -> None:
    assert build.write(check=True) == [], "run `make docs`"


def test_every_target_is_the_plugins_query() -> None:
    boards = build.load()
    assert set(boards) == {"gigawatch-fleet", "gigawatch-rack"}
    for board in boards.values():
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
            assert variable["definition"] == variable["query"]["rawSql"]


def test_no_panel_reads_raw_tables_or_forgets_the_time_range() -> None:
    for board in build.load().values():
        for panel in board["panels"]:
            for target in panel["targets"]:
                sql = target["rawSql"]
                assert "$__timeFilter(" in sql, panel["title"]
                assert not any(f"gigawatch.{kind} " in sql for kind in ("gpu", "node", "power", "cooling")), panel["title"]


@pytest.mark.parametrize(("sql", "expanded"), [
    ("$__timeFilter(ts)", f"ts >= toDateTime({FIRST}) AND ts <= toDateTime({LAST})"),
    ("$__timeFilter_ms(ts)", f"ts >= fromUnixTimestamp64Milli({FIRST}000) AND ts <= fromUnixTimestamp64Milli({LAST}000)"),
    ("$__fromTime and $__toTime", f"toDateTime({FIRST}) and toDateTime({LAST})"),
    ("$__timeFrom(a) $__timeTo(b)", f"a >= toDateTime({FIRST}) b <= toDateTime({LAST})"),
    ("$__dateFilter(d)", "d >= toDate('2026-01-02') AND d <= toDate('2026-01-02')"),
    ("$__dt(d, c)", f"d >= toDate('2026-01-02') AND d <= toDate('2026-01-02') AND c >= toDateTime({FIRST}) AND c <= toDateTime({LAST})"),
    ("$__timeInterval(ts)", "toStartOfInterval(toDateTime(ts), INTERVAL 15 second)"),
    ("$__timeInterval_ms(ts)", "toStartOfInterval(toDateTime64(ts, 3), INTERVAL 15000 millisecond)"),
    ("$__timeGroup(ts, '1m')", "toStartOfInterval(toDateTime(ts), INTERVAL 60 second)"),
    ("$__interval_s", "15"),
    ("$__timeFilter(toDateTime(f(a, b)))", f"toDateTime(f(a, b)) >= toDateTime({FIRST}) AND toDateTime(f(a, b)) <= toDateTime({LAST})"),
    ("$__conditionalAll(rack IN ($rack), $rack)", "rack IN ('R1','R2')"),
    ("$__conditionalAll(x = '$all', $all)", "1=1"),
    ("x = '$one' AND ${one:singlequote} AND $rack", "x = 'S1' AND 'S1' AND 'R1','R2'"),
])
def test_macros_become_what_the_plugin_makes_of_them(sql: str, expanded: str) -> None:
    assert expand(sql, OVER, {"rack": ["R1", "R2"], "one": "S1", "all": "$__all"}) == expanded


@pytest.mark.parametrize("sql", ["$__nosuch(ts)", "$__timeFilter()", "$__timeFilter(ts", "$nosuch", "$__timeGroup(ts, 'soon')"])
def test_wrong_macros_are_refused(sql: str) -> None:
    with pytest.raises(MacroError):
        expand(sql, OVER, {})


def test_the_check_fails_on_errors_and_on_emptiness() -> None:
    newest = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)

    def run(sql: str) -> list[list[Any]]:
        if "max(ts) FROM gigawatch.site_windows" in sql and "WHERE" not in sql:
            return [[newest]]
        if "DISTINCT" in sql:
            return [["x"]]
        if "incidents" in sql:
            raise RuntimeError("Code: 60. no table\nmore")
        return [[newest, None]] if "scores" in sql else [[newest, 1.0]]

    results = check.check(run)
    assert {r.panel for r in results if r.error.startswith("empty")} >= {"Worst devices"}
    assert [r.error for r in results if r.panel == "Incidents"] == ["Code: 60. no table"]
    assert [r for r in results if not r.error]


def test_an_empty_store_is_said() -> None:
    assert "no windows are stored" in check.check(lambda _: [[None]])[0].error


def test_provisioning_names_what_the_dashboards_use() -> None:
    source = yaml.safe_load((ROOT / "dashboards/provisioning/datasources/clickhouse.yaml").read_text())["datasources"][0]
    assert (source["type"], source["uid"]) == (TYPE, UID)
    assert source["secureJsonData"]["password"].startswith("${")
    rule = yaml.safe_load((ROOT / "dashboards/provisioning/alerting/heat-balance.yaml").read_text())["groups"][0]["rules"][0]
    assert rule["data"][0]["datasourceUid"] == UID
    assert rule["condition"] in {d["refId"] for d in rule["data"]}


def test_the_alerts_query_runs_on_real_tables(clickhouse: str) -> None:
    from pipeline.store.client import connect
    from pipeline.store.migrate import migrate

    client = connect(clickhouse)
    migrate(client)
    assert migrate(client) == []
    rule = yaml.safe_load((ROOT / "dashboards/provisioning/alerting/heat-balance.yaml").read_text())["groups"][0]["rules"][0]
    assert client.query(expand(rule["data"][0]["model"]["rawSql"], OVER, {})).result_rows == []
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


def test_push_brings_folder_datasource_and_dashboards(grafana: tuple[str, dict[str, Any]]) -> None:
    url, state = grafana
    for _ in range(2):  # pushing again replaces
        lines = list(push.push(url, "good", "http://reader:secret@ch:8123"))
    assert any("gigawatch-fleet" in line for line in lines)
    assert [f["uid"] for f in state["folders"]] == ["gigawatch"]
    (source,) = state["datasources"]
    assert source["jsonData"]["host"] == "ch"
    assert source["secureJsonData"] == {"password": "secret"}
    pushed = state["dashboards"]
    assert [b["dashboard"]["uid"] for b in pushed] == ["gigawatch-fleet", "gigawatch-rack"] * 2
    assert all(b["overwrite"] and b["folderUid"] == "gigawatch" and b["dashboard"]["id"] is None for b in pushed)


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
        assert any("gigawatch-fleet" in line for line in push.push(url, "good", "https://ch", str(tmp_path / "ca.pem"), ("gigawatch_grafana", "secret")))
        (source,) = state["datasources"]
        assert (source["jsonData"]["username"], source["jsonData"]["secure"], source["secureJsonData"]) == ("gigawatch_grafana", True, {"password": "secret"})
        for ca in (str(tmp_path / "stranger.pem"), ""):
            with pytest.raises(push.PushError, match="does not answer: SSLError"):
                list(push.push(url, "good", None, ca))
    finally:
        server.shutdown()


def test_push_without_a_datasource_warns(grafana: tuple[str, dict[str, Any]]) -> None:
    assert any("give --clickhouse" in line for line in push.push(grafana[0], "good"))


@pytest.mark.parametrize(("url", "auth", "complaint"), [("{}", "bad", "check the token"), ("http://127.0.0.1:1", "good", "does not answer"), ("nonsense", "good", "wants http")])
def test_push_errors_say_what_to_do(grafana: tuple[str, dict[str, Any]], url: str, auth: str, complaint: str) -> None:
    with pytest.raises(push.PushError, match=complaint):
        list(push.push(url.format(grafana[0]), auth))


def test_the_fleets_worst_panel_orders_by_score() -> None:
    assert "ORDER BY score DESC" in fleet.WORST
