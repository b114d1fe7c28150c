"""The NetBox client and source: pages, tokens, refusals; and a recorded NetBox over a real socket."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
from aiohttp import web

from producers.emission import Emission, Event, SourceFailure
from producers.sources import registry
from producers.sources.netbox.client import NetboxClient
from producers.sources.netbox.source import Netbox
from producers.sources.options import BuildContext
from producers.sources.source import SourceError
from tests.conftest import DATA

RECORDED = DATA / "netbox" / "simhall"
URL = "https://netbox.example.com"
NOW_S = 1_795_000_000.0


class AllReadingsDone(Exception):
    """The last reading is over."""


class RecordedNetbox:
    """Answers as NetBox did when it was recorded, in its pages; `status` is of every answer."""

    def __init__(self) -> None:
        self.status, self.asked, self.headers = 200, list[str](), list[Mapping[str, str]]()
        self.without: set[str] = set()
        self.fault: Exception | None = None

    async def get(self, url: str, headers: Mapping[str, str]) -> tuple[int, bytes]:
        parts = urlsplit(url)
        self.asked.append(f"{parts.netloc}{parts.path}?{parts.query}")
        self.headers.append(headers)
        if self.fault:
            raise self.fault
        return self.status, self.answer(parts.path.split("/")[-2], parts.query)

    def answer(self, collection: str, query: str) -> bytes:
        offset = parse_qs(query).get("offset", ["0"])[0]
        found = [p for p in (RECORDED / f"{collection}-{offset}.json", RECORDED / f"{collection}.json") if p.exists()]
        if not found or collection in self.without:
            return b""
        return found[0].read_bytes()

    async def answering(self, url: str, headers: Mapping[str, str]) -> tuple[int, bytes]:
        """The same, with 404 for a collection that was not recorded."""
        status, body = await self.get(url, headers)
        return (404, b"") if status == 200 and not body else (status, body)


class Readings:
    """A sleep that counts, does the next step, and ends after the last one."""

    def __init__(self, *steps: Callable[[], object]) -> None:
        self.slept, self._steps = list[float](), list(steps)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if not self._steps:
            raise AllReadingsDone
        self._steps.pop(0)()


async def read_all(run: AsyncGenerator[Emission]) -> list[Emission]:
    found: list[Emission] = []

    async def read() -> None:
        async for emission in run:
            found.append(emission)  # noqa: PERF401 - what came before the end counts

    with pytest.raises(AllReadingsDone):
        await read()
    return found


def source(peer: RecordedNetbox, readings: Readings, token: str = "") -> Netbox:
    client = NetboxClient.of(URL, token, "", "")
    return Netbox(client, "", 900.0, get=peer.answering, sleep=readings.sleep, clock=lambda: NOW_S)


def counts(emissions: list[Emission]) -> dict[str, int]:
    found: dict[str, int] = {}
    for e in emissions:
        if isinstance(e, Event):
            found[e.derived.name] = found.get(e.derived.name, 0) + e.batch.num_rows
    return found


async def test_every_page_is_read_and_nothing_twice() -> None:
    peer, readings = RecordedNetbox(), Readings(lambda: None)
    emissions = await read_all(source(peer, readings).emissions())
    # a rack, 18 trays, 72 GPUs, 2 switches; 20 devices and a rack by NetBox's numbers; two edges of the fabric and
    # rack > 18 trays > 72 GPUs, rack > 2 switches
    assert counts(emissions) == {"asset": 93, "name": 21, "edge": 2 + 18 + 72 + 2}
    devices = [a for a in peer.asked if "/devices/" in a]
    assert devices[:3] == [
        f"netbox.example.com/api/dcim/devices/?{query}"
        for query in ("limit=500", "limit=8&offset=8", "limit=8&offset=16")
    ]  # the recorded `next` names another host: it is not asked
    assert len(devices) == 6
    assert readings.slept == [900.0, 900.0]


@pytest.mark.parametrize(
    ("token", "header"),
    [("abc123", "Token abc123"), ("nbt_key.secret", "Bearer nbt_key.secret"), ("", None)],
)
async def test_a_token_is_sent_as_its_version_wants(token: str, header: str | None) -> None:
    peer = RecordedNetbox()
    await read_all(source(peer, Readings(), token).emissions())
    assert {h.get("Authorization") for h in peer.headers} == {header}


async def test_a_reading_that_fails_ends_nothing_and_is_tried_again_soon() -> None:
    peer = RecordedNetbox()

    def refuse() -> None:
        peer.status = 403

    def drop() -> None:
        peer.fault = aiohttp.ClientConnectionError("connection refused")

    def hang() -> None:
        peer.fault = TimeoutError()

    def recover() -> None:
        peer.status, peer.fault = 200, None

    readings = Readings(refuse, drop, hang, recover)
    netbox = source(peer, readings)
    emissions = await read_all(netbox.emissions())
    failures = [e for e in emissions if isinstance(e, SourceFailure)]
    assert [e.reason for e in failures] == ["http-403", "unreachable", "timeout"]
    assert {e.endpoint for e in failures} == {URL}
    assert readings.slept == [900.0, 15.0, 30.0, 60.0, 900.0]
    assert counts(emissions)["asset"] == 93
    assert netbox.errors == {}


async def test_a_failure_is_in_the_status() -> None:
    peer = RecordedNetbox()
    peer.status = 403
    netbox = source(peer, Readings())
    await read_all(netbox.emissions())
    assert netbox.errors == {
        URL: "http-403: sites: refused (HTTP 403): the token is wrong or may not read it",
    }


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (500, b"", "http-500"),
        (302, b"", "http-302"),
        (200, b"<html>", "json"),
        (200, b"[" * 100_000, "json"),
        (200, b'{"results": [1]}', "json"),
        (200, b'{"count": 0}', "json"),
    ],
)
async def test_an_answer_that_is_none_is_named(status: int, body: bytes, reason: str) -> None:
    async def get(_: str, __: Mapping[str, str]) -> tuple[int, bytes]:
        return status, body

    readings = Readings()
    netbox = Netbox(NetboxClient.of(URL, "", "", ""), get=get, sleep=readings.sleep, clock=lambda: NOW_S)
    (failure,) = await read_all(netbox.emissions())
    assert isinstance(failure, SourceFailure)
    assert failure.reason == reason


async def test_pages_without_end_and_a_netbox_without_devices_are_failures() -> None:
    async def endless(_: str, __: Mapping[str, str]) -> tuple[int, bytes]:
        return 200, json.dumps({"results": [], "next": f"{URL}/?limit=1&offset=1"}).encode()

    async def nothing(_: str, __: Mapping[str, str]) -> tuple[int, bytes]:
        return 404, b""

    for get, reason in ((endless, "endless"), (nothing, "http-404")):
        netbox = Netbox(NetboxClient.of(URL, "", "", ""), get=get, sleep=Readings().sleep, clock=lambda: NOW_S)
        (failure,) = await read_all(netbox.emissions())
        assert isinstance(failure, SourceFailure)
        assert failure.reason == reason


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("", "no NetBox given: name its address"),
        ("netbox", "'netbox': wanted is http"),
        ("ftp://h", "'ftp://h': wanted is http"),
        ("https://u:secret@h", "'https://h': it holds a user's name or password"),
        ("https://h:99999", "Port out of range"),
    ],
)
def test_an_address_that_is_none_is_refused(url: str, complaint: str) -> None:
    with pytest.raises(SourceError, match=complaint) as caught:
        NetboxClient.of(url, "", "", "")
    assert "secret" not in str(caught.value)


def test_the_token_comes_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "token"
    file.write_text("from-file\n")
    assert NetboxClient.of(URL, "from-env", str(file), "").headers["Authorization"] == "Token from-file"
    with pytest.raises(SourceError, match="token file nowhere: cannot be read"):
        NetboxClient.of(URL, "", "nowhere", "")
    with pytest.raises(SourceError, match="characters that no token has"):
        NetboxClient.of(URL, "a\nb", "", "")
    with pytest.raises(SourceError, match="no certificate can be read"):
        NetboxClient.of(URL, "", "", str(file))
    monkeypatch.setenv("GIGAWATCH_NETBOX_TOKEN", "from-env")
    values = {o.field: o.default for o in registry.find("netbox").options} | {"url": f"{URL}/api/"}
    made = registry.build("netbox", values, BuildContext(0.0))
    assert made.describe == f"NetBox at {URL}, read every 900 s"
    assert "from-env" not in repr(NetboxClient.of(URL, "from-env", "", ""))


@pytest.mark.service(5)
async def test_a_recorded_netbox_is_read_over_http() -> None:
    peer = RecordedNetbox()
    tokens: set[str] = set()

    async def answer(request: web.Request) -> web.Response:
        tokens.add(request.headers.get("Authorization", ""))
        body = peer.answer(request.match_info["collection"], request.query_string)
        return web.Response(body=body, content_type="application/json") if body else web.Response(status=404)

    server = await _serve(answer)
    try:
        address = f"http://127.0.0.1:{server.addresses[0][1]}"
        client = NetboxClient.of(address, "t0ken", "", "")
        emissions = await read_all(Netbox(client, "", 900.0, sleep=Readings().sleep, clock=lambda: NOW_S).emissions())
    finally:
        await server.cleanup()
    assert counts(emissions)["asset"] == 93
    assert tokens == {"Token t0ken"}


async def _serve(answer: Callable[[web.Request], Awaitable[web.Response]]) -> web.AppRunner:
    app = web.Application()
    app.router.add_get("/api/dcim/{collection}/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner
