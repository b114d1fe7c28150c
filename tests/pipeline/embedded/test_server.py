"""The embedded ClickHouse's HTTP server in this process: scratch files, and requests that no library sends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from pipeline.embedded.clickhouse.chdb_engine import ChdbEngine
from pipeline.embedded.clickhouse.server import ClickHouseServer

pytestmark = pytest.mark.service

Client = TestClient[web.Request, web.Application]


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    engine = ChdbEngine(tmp_path / "data", connections=1)
    server = ClickHouseServer(engine, tmp_path / "scratch")
    async with TestClient(TestServer(server.app)) as made:
        yield made
    engine.close()  # a process has one engine at a time


async def test_scratch_files_are_used_again_whatever_becomes_of_an_insert(client: Client, tmp_path: Path) -> None:
    assert (await client.post("/", data="CREATE TABLE t (a Int32) ENGINE = Memory")).status == 200
    insert = "INSERT INTO t FORMAT TabSeparated"
    for params, status in (
        ({"query": insert}, 200),
        ({"query": insert, "readonly": "1"}, 500),
        ({"query": "INSERT INTO FUNCTION file('x', 'CSV', 'a Int8') FORMAT TabSeparated"}, 403),
        ({"query": insert, "compress": "1"}, 501),
        ({"query": insert, "session_timeout": "soon"}, 400),
        ({"query": "INSERT INTO absent FORMAT TabSeparated"}, 404),
    ) * 2:
        answer = await client.post("/", params=params, data=b"1\n")
        assert answer.status == status, (params, await answer.text())
    assert len(list((tmp_path / "scratch").iterdir())) == 1
    assert await (await client.get("/", params={"query": "SELECT count() FROM t"})).text() == "2\n"


async def test_a_session_timeout_that_is_no_number_is_refused_by_name(client: Client) -> None:
    answer = await client.get("/", params={"query": "SELECT 1", "session_id": "s", "session_timeout": "-1"})
    assert (answer.status, answer.headers["X-ClickHouse-Exception-Code"]) == (400, "36")
    assert await answer.text() == "Code: 36. DB::Exception: Invalid session timeout: '-1'. (BAD_ARGUMENTS)\n"


async def test_a_request_under_another_name_or_without_one_is_refused(client: Client) -> None:
    for host in ("", "rebound.example", "localhost.rebound.example"):
        answer = await client.get("/", params={"query": "SELECT 1"}, headers={"Host": host})
        assert answer.status == 403, host
