"""dcgm-exporter text and endpoints."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from producers.emission import Emission, SourceFailure
from producers.sources.dcgm.endpoint import Endpoint
from producers.sources.dcgm.source import MAX_BODY, Dcgm
from producers.sources.source import SourceError
from schemas.frame import Frame
from tests.conftest import DATA

TEXT = (DATA / "expo_dcgm.txt").read_text()


@pytest.fixture
async def exporter() -> AsyncIterator[Callable[..., Any]]:
    """Starts exporters on loopback: `await exporter(handler)` gives its URL."""
    runners: list[web.AppRunner] = []

    async def start(handler: Callable[[web.Request], Any]) -> str:
        app = web.Application()
        app.router.add_get("/metrics", handler)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        runners.append(runner)
        return f"http://127.0.0.1:{runner.addresses[0][1]}/metrics"

    yield start
    for runner in runners:
        await runner.cleanup()


async def take(source: Dcgm) -> list[Emission]:
    return [e async for e in source.emissions()]


#: What an endpoint can do -> the reason that is counted, and what its sentence holds.
TROUBLES = [
    (UnicodeError("label empty or too long"), "invalid-address", "label empty"),
    (aiohttp.InvalidURL("http://u:pw@h:9400/metrics"), "invalid-address", "not an address"),
    (aiohttp.ServerDisconnectedError("gone"), "unreachable", "gone"),
    (ConnectionResetError("reset"), "unreachable", "reset"),
    (TimeoutError(), "timeout", "no answer within"),
    (RuntimeError("broken\nbadly"), "error", "RuntimeError: broken badly"),
    ((503, b""), "http-503", "HTTP status 503"),
    ((200, b"up 1\n"), "no-gpu", "no GPU"),
    ((200, b"x" * (MAX_BODY + 1)), "too-large", "more than 32 MB"),
]


@pytest.mark.parametrize(
    ("trouble", "reason", "sentence"), TROUBLES, ids=[f"{r}-{i}" for i, (_, r, _) in enumerate(TROUBLES)]
)
async def test_whatever_an_endpoint_does_stays_its_own_trouble_until_it_answers(
    trouble: Exception | tuple[int, bytes], reason: str, sentence: str
) -> None:
    asked: Counter[str] = Counter()

    async def fetch(url: str) -> tuple[int, bytes]:
        asked[url] += 1
        if "bad" in url and asked[url] <= 2:
            if isinstance(trouble, Exception):
                raise trouble
            return trouble
        return 200, TEXT.encode()

    good, bad = Endpoint("http://good/metrics", "R1", "n1"), Endpoint("http://u:pw@bad/metrics", "R2", "n2")
    source = Dcgm([good, bad], tick_s=0.05, timeout_s=10, ticks=3, fetch=fetch)
    frames, failures, errors = Counter[str](), [], []
    async for emission in source.emissions():
        if isinstance(emission, SourceFailure):
            failures.append((emission.endpoint, emission.rack, emission.reason))
            errors.append(dict(source.errors))
        elif isinstance(emission, Frame) and emission.kind == "gpu":
            frames[emission.identity("rack")[0]] += 1
    assert frames == {"R1": 3, "R2": 1}
    assert failures == [("http://bad/metrics", "R2", reason)] * 2, "a rack is a rack, and no password is shown"
    assert all(list(e) == ["http://bad/metrics"] for e in errors)
    assert errors[0]["http://bad/metrics"].startswith(f"{reason}: ")
    assert sentence in errors[0]["http://bad/metrics"]
    assert "pw" not in errors[0]["http://bad/metrics"]
    assert source.errors == {}, "it answers again"


async def test_an_endpoint_that_never_answers_is_given_up_at_its_time() -> None:
    async def fetch(_: str) -> tuple[int, bytes]:
        await asyncio.Event().wait()
        raise AssertionError

    found = await asyncio.wait_for(take(Dcgm([Endpoint("http://h/m")], tick_s=0.05, ticks=2, fetch=fetch)), 10)
    assert [e.reason for e in found if isinstance(e, SourceFailure)] == ["timeout"] * 2


async def test_a_scrape_loop_that_dies_ends_the_source_with_its_error_instead_of_hanging() -> None:
    class Broken(Dcgm):
        async def _scrape(self, *_: Any) -> list[Emission]:
            raise LookupError("the loop itself")

    with pytest.RaisesGroup(LookupError):
        await asyncio.wait_for(take(Broken([Endpoint("http://h/m")], tick_s=0.05)), 10)


@pytest.mark.service
async def test_an_address_that_cannot_be_asked_does_not_silence_good_endpoints(exporter: Callable[..., Any]) -> None:
    async def good(_: web.Request) -> web.Response:
        return web.Response(text=TEXT)

    specs = [f"R1/n1={await exporter(good)}", "R2=http://node3..dc:9400/metrics", f"R3/n3={await exporter(good)}"]
    source = Dcgm([Endpoint.parse(s) for s in specs], tick_s=0.5, ticks=2)
    found = await asyncio.wait_for(take(source), 10)
    assert sorted(e.identity("rack")[0] for e in found if isinstance(e, Frame) and e.kind == "gpu") == [
        "R1",
        "R1",
        "R3",
        "R3",
    ]
    failures = [(e.endpoint, e.rack, e.reason) for e in found if isinstance(e, SourceFailure)]
    assert failures == [("http://node3..dc:9400/metrics", "R2", "invalid-address")] * 2
    assert list(source.errors) == ["http://node3..dc:9400/metrics"]


@pytest.mark.service
async def test_a_slow_or_dead_endpoint_holds_up_no_other(exporter: Callable[..., Any]) -> None:
    async def good(_: web.Request) -> web.Response:
        return web.Response(text=TEXT)

    async def slow(_: web.Request) -> web.Response:
        await asyncio.sleep(30)
        return web.Response(text=TEXT)

    async def broken(_: web.Request) -> web.Response:
        return web.Response(status=503)

    urls = [await exporter(h) for h in (good, slow, broken)]
    dead = "http://127.0.0.1:1/metrics"
    source = Dcgm(
        [Endpoint(urls[0], "R1", "n1"), Endpoint(urls[1], "R2"), Endpoint(urls[2], "R3"), Endpoint(dead, "R4")],
        tick_s=1.0,
        ticks=3,
    )
    found = await asyncio.wait_for(take(source), 30)
    frames = [e for e in found if isinstance(e, Frame) and e.kind == "gpu"]
    silent = sorted((e.endpoint, e.rack, e.reason) for e in found if isinstance(e, SourceFailure))
    stamps = sorted(int(f.ts_ms()[0]) for f in frames)
    assert len(frames) == 3
    assert {b - a for a, b in itertools.pairwise(stamps)} == {1000}
    assert silent == sorted([(urls[1], "R2", "timeout"), (urls[2], "R3", "http-503"), (dead, "R4", "unreachable")] * 3)


@pytest.mark.service
async def test_an_exporter_without_gpus_is_reported(exporter: Callable[..., Any]) -> None:
    async def empty(_: web.Request) -> web.Response:
        return web.Response(text="up 1\n")

    found = await take(Dcgm([Endpoint(await exporter(empty))], tick_s=0.2, ticks=1))
    assert [e.reason for e in found if isinstance(e, SourceFailure)] == ["no-gpu"]


@pytest.mark.parametrize(
    ("spec", "endpoint"),
    [
        ("http://h:9400/metrics", Endpoint("http://h:9400/metrics")),
        ("http://h:9400", Endpoint("http://h:9400/metrics")),
        ("R1/N3=http://h:9400/m", Endpoint("http://h:9400/m", "R1", "N3")),
        ("R1=https://h/m", Endpoint("https://h/m", "R1")),
    ],
)
def test_endpoints_are_parsed(spec: str, endpoint: Endpoint) -> None:
    assert Endpoint.parse(spec) == endpoint


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ("nowhere", "not "),
        ("ftp://nowhere", "scheme 'ftp' is not http or https"),
        ("http://:9400/metrics", "no host"),
        ("http:///metrics", "no host"),
        ("http://h:99999/metrics", "[Pp]ort out of range"),
        ("R1/N1=http://h:0", "port 0"),
        ("http://h:x/metrics", "[Pp]ort could not be cast"),
        ("http://[::1/metrics", "Invalid IPv6"),
    ],
)
def test_an_endpoint_that_can_be_no_url_is_refused_at_once(spec: str, complaint: str) -> None:
    with pytest.raises(SourceError, match=complaint) as caught:
        Endpoint.parse(spec)
    assert "[RACK/NODE=]http://HOST:PORT/metrics" in str(caught.value)


def test_a_source_without_endpoints_asks_for_one() -> None:
    with pytest.raises(SourceError, match="no dcgm-exporter endpoint"):
        Dcgm([])
