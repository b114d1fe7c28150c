"""slurmrestd over HTTP: the newest version that it knows, its token, its certificate, and its failures."""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme
from aiohttp import web

from producers.sources.slurm.client import SlurmFailure, SlurmRest, rest_session, user_of
from producers.sources.source import SourceError
from tests.conftest import DATA

pytestmark = pytest.mark.service(2)


class Slurmrestd:
    """Answers `/slurm/v0.0.43/jobs` and `/nodes` from the samples, to who has the token; notes what was asked for."""

    def __init__(self, status: int = 200) -> None:
        self.asked: list[str] = []
        self.users: set[str] = set()
        self._status = status

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        self.users.add(request.headers.get("X-SLURM-USER-NAME", ""))
        if request.headers.get("X-SLURM-USER-TOKEN") != "t0ken":
            return web.Response(status=401, text="Authentication failure")
        version, kind = request.path.split("/")[2:4]
        if version != "v0.0.43":
            return web.Response(status=404, text="Unable find requested URL.")
        return web.Response(status=self._status, text=(DATA / "slurm" / f"{kind}-25.05.json").read_text())

    @asynccontextmanager
    async def served(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
        app = web.Application()
        app.router.add_get("/{path:.*}", self.answer)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        try:
            yield f"http{'s' if tls else ''}://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()


async def test_it_finds_the_version_once_and_asks_twice_a_poll() -> None:
    server = Slurmrestd()
    async with server.served() as url, rest_session(url) as session:
        client = SlurmRest(session, url, lambda: "t0ken", "ops")
        jobs, nodes = await client.ask()
        assert (jobs, nodes) == tuple((DATA / "slurm" / f"{n}-25.05.json").read_text() for n in ("jobs", "nodes"))
        assert server.asked == ["/slurm/v0.0.44/nodes", "/slurm/v0.0.43/nodes", "/slurm/v0.0.43/jobs"]
        del server.asked[:]
        await client.ask()
        assert server.asked == ["/slurm/v0.0.43/nodes", "/slurm/v0.0.43/jobs"]
        assert server.users == {"ops"}


@pytest.mark.parametrize(("token", "status", "reason"), [("wrong", 200, "http-401"), ("t0ken", 500, "http-500")])
async def test_an_answer_that_is_none_has_its_reason_and_no_token(token: str, status: int, reason: str) -> None:
    async with Slurmrestd(status).served() as url, rest_session(url) as session:
        with pytest.raises(SlurmFailure) as caught:
            await SlurmRest(session, url, lambda: token).ask()
    assert caught.value.reason == reason
    assert token not in str(caught.value).replace("token valid", "")


async def test_a_server_that_knows_no_version_of_ours_is_a_failure() -> None:
    async with Slurmrestd().served() as url, rest_session(url) as session:
        with pytest.raises(SlurmFailure, match="404"):
            await SlurmRest(session, url, lambda: "t0ken", versions=("v0.0.39", "v0.0.38")).ask()


async def test_a_private_authority_is_trusted_when_it_is_named(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    async with Slurmrestd().served(tls) as url:
        async with rest_session(url, str(tmp_path / "ca.pem")) as session:
            assert (await SlurmRest(session, url, lambda: "t0ken").ask())[0].startswith("{")
        async with rest_session(url) as session:
            with pytest.raises(SlurmFailure, match="certificate") as caught:
                await SlurmRest(session, url, lambda: "t0ken").ask()
    assert caught.value.reason == "unreachable"


async def test_an_authority_that_cannot_be_read_is_an_error_of_the_options(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="--slurm-ca"):
        async with rest_session("https://127.0.0.1:1", str(tmp_path / "none.pem")):
            pass


async def test_a_server_that_is_not_there_is_unreachable() -> None:
    async with rest_session("unix:/nowhere/slurmrestd") as session:
        with pytest.raises(SlurmFailure) as caught:
            await SlurmRest(session, "unix:/nowhere/slurmrestd", lambda: "").ask()
    assert caught.value.reason == "unreachable"


def test_the_user_of_a_token_is_the_one_that_it_names() -> None:
    claims = base64.urlsafe_b64encode(json.dumps({"exp": 1, "sun": "ada"}).encode()).decode().rstrip("=")
    assert user_of(f"e30.{claims}.x") == "ada"
    assert [user_of(text) for text in ("", "opaque", "a.b.c", "e30.MQ.x")] == ["", "", "", ""]
