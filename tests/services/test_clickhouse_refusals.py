"""What the embedded ClickHouse refuses: statements beyond its tables, web pages, bombs, users without a password."""

from __future__ import annotations

import gzip
import sys
from pathlib import Path
from typing import Any

import lz4.frame
import pytest
import requests
from backports import zstd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.embedded.ports import free_port, port_open
from pipeline.embedded.process import Process, wait_for

pytestmark = [pytest.mark.service(30), pytest.mark.xdist_group("clickhouse-refusals")]


@pytest.mark.parametrize(
    ("encoding", "body"), [("zstd", b"not zstd"), ("br", b"x"), ("gzip", gzip.compress(b"SELECT 1", mtime=0)[:-6])]
)
def test_bodies_that_do_not_decode_are_refused(clickhouse: str, encoding: str, body: bytes) -> None:
    answer = requests.post(clickhouse, data=body, headers={"Content-Encoding": encoding}, timeout=10)
    assert answer.headers["X-ClickHouse-Exception-Code"] == "271"


def test_what_it_cannot_do_it_says(clickhouse: str) -> None:
    files: Any = {"t": ("t", b"1\n"), "t_structure": (None, "x Int32")}
    assert (
        "not supported" in requests.post(clickhouse, params={"query": "SELECT * FROM t"}, files=files, timeout=10).text
    )
    assert (
        "native block compression"
        in requests.post(clickhouse, params={"compress": "1"}, data="SELECT 1", timeout=10).text
    )


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM file('/etc/passwd', 'LineAsString')",
        "SELECT * FROM FiLe/* */('/etc/passwd', 'LineAsString')",
        "SELECT * FROM `file`('/etc/passwd', 'LineAsString')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM `/etc/passwd`",
        "SELECT * FROM (SELECT * FROM url('http://127.0.0.1:1/x', 'CSV', 'a String'))",
        "WITH x AS (SELECT * FROM s3('http://127.0.0.1:1/b/x.csv')) SELECT * FROM x",
        "SELECT file('/etc/passwd')",
        "SELECT 1 INTO OUTFILE '/tmp/gigawatch-outfile'",
        "SELECT 1 INTO/**/ OUTFILE '/tmp/gigawatch-outfile'",
        "CREATE TABLE leak (a String) ENGINE = File(CSV, '/etc/passwd')",
        (
            "CREATE DICTIONARY leak (a UInt64, b String) PRIMARY KEY a SOURCE(FILE(PATH '/etc/passwd' FORMAT "
            "'CSV')) LAYOUT(FLAT()) LIFETIME(1)"
        ),
        "INSERT INTO FUNCTION file('/tmp/gigawatch-outfile', 'CSV', 'a Int8') VALUES (1)",
        "SELECT 1; SELECT * FROM '/etc/passwd'",
        "SELECT * FROM executable('id', 'TSV', 'a String')",
        "SELECT * FROM remote('127.0.0.1', system.one)",
        "BACKUP DATABASE default TO File('/tmp/gigawatch-outfile')",
    ],
)
def test_no_statement_reaches_outside_of_the_store(clickhouse: str, sql: str) -> None:
    for send in (
        lambda: requests.get(clickhouse, params={"query": sql}, timeout=10),
        lambda: requests.post(clickhouse, data=sql.encode(), timeout=10),
    ):
        answer = send()
        assert (answer.status_code, answer.headers["X-ClickHouse-Exception-Code"]) == (403, "497"), answer.text
        assert "reads and writes nothing but its own tables" in answer.text
    assert not Path("/tmp/gigawatch-outfile").exists()


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 'file(' AS file, 'INTO OUTFILE; x' AS url, domain('http://a/b') AS d",
        "SELECT 1 -- ; file('x')",
        "SELECT count() FROM system.tables AS file;",
        'SELECT "a;b" FROM (SELECT 1 AS `a;b`)',
        "SHOW TABLES",
        "DESCRIBE TABLE system.one",
        "EXISTS TABLE gigawatch.gpu",
    ],
)
def test_what_only_looks_like_it_is_answered(clickhouse: str, sql: str) -> None:
    assert requests.post(clickhouse, data=sql.encode(), timeout=10).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "null"}, 403),
        ({"Host": "rebound.example"}, 403),
        ({"Host": "localhost:1"}, 200),
        ({"Host": "[::1]:1"}, 200),
    ],
)
def test_web_pages_of_elsewhere_are_refused(clickhouse: str, headers: dict[str, str], status: int) -> None:
    assert requests.get(clickhouse, params={"query": "SELECT 1"}, headers=headers, timeout=10).status_code == status


@pytest.mark.parametrize("encoding", ["gzip", "zstd", "lz4"])
def test_a_decompression_bomb_is_refused_before_it_opens(clickhouse: str, encoding: str) -> None:
    """Two gigabytes of zeros in some megabytes or less: more than a body may be."""
    zeros = bytes(1 << 26)
    whole = {
        "gzip": gzip.compress(zeros, 9) * 32,
        "zstd": zstd.compress(zeros, 3) * 32,
        "lz4": lz4.frame.compress(zeros) * 32,
    }[encoding]
    answer = requests.post(clickhouse, data=whole, headers={"Content-Encoding": encoding}, timeout=60)
    assert (answer.status_code, answer.headers["X-ClickHouse-Exception-Code"]) == (500, "271")
    assert "grows past 268435456 bytes" in answer.text
    members = {"gzip": gzip.compress, "zstd": zstd.compress, "lz4": lz4.frame.compress}[encoding]
    assert (
        requests.post(
            clickhouse, data=members(b"SELECT ") + members(b"42"), headers={"Content-Encoding": encoding}, timeout=60
        ).text
        == "42\n"
    )
    assert requests.get(clickhouse, params={"query": "SELECT 1"}, timeout=10).text == "1\n"


def test_a_password_is_asked_for_and_compared_whole(tmp_path: Path) -> None:
    port = free_port()
    process = Process(
        "clickhouse",
        [
            sys.executable,
            "-m",
            "pipeline",
            "clickhouse",
            "--port",
            str(port),
            "--listen",
            "0.0.0.0",  # noqa: S104 - with a password
            "--data-dir",
            str(tmp_path),
        ],
        tmp_path / "log",
        env={"GIGAWATCH_CLICKHOUSE_PASSWORD": "sesame"},
    )
    process.start()
    try:
        wait_for(process, lambda: port_open(port), 60)
        url, query = f"http://127.0.0.1:{port}", {"query": "SELECT 1"}
        assert requests.get(url, params=query, timeout=10).status_code == 401
        assert requests.get(url, params=query, auth=("default", "sesam"), timeout=10).status_code == 401
        assert requests.get(url, params=query, headers={"Authorization": "Basic \xff!"}, timeout=10).status_code == 401
        assert requests.get(url, params=query, auth=("default", "sesame"), timeout=10).text == "1\n"
        assert requests.get(url, params=query, headers={"X-ClickHouse-Key": "sesame"}, timeout=10).text == "1\n"
        assert "sesame" not in (tmp_path / "log").read_text()
    finally:
        process.stop()


@given(st.binary(max_size=200))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_body_gets_an_answer(clickhouse: str, body: bytes) -> None:
    answer = requests.post(clickhouse, data=body, timeout=10)
    assert answer.status_code == 200 or "X-ClickHouse-Exception-Code" in answer.headers


def test_it_still_answers_after_all_that(clickhouse: str) -> None:
    assert requests.get(clickhouse, params={"query": "SELECT 1"}, timeout=10).text == "1\n"
