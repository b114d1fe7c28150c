"""Pushing the dashboards to a fake Grafana: what it gets, over TLS too, and what is refused."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme

from dashboards import build, push


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
