"""The embedded ClickHouse behind HTTP: what clickhouse-connect and a bare HTTP client see is what a server shows."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import sys
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import clickhouse_connect
import lz4.frame
import numpy as np
import pyarrow as pa
import pytest
import requests
from backports import zstd
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from pipeline.embedded.ports import free_port, port_open
from pipeline.embedded.process import Process, wait_for

pytestmark = [pytest.mark.service(30), pytest.mark.xdist_group("gateway")]


def client(url: str, **more: Any) -> Client:
    parts = urlsplit(url)
    more.setdefault("autogenerate_session_id", False)
    return clickhouse_connect.get_client(host=parts.hostname, port=parts.port, **more)


@pytest.fixture
def table(clickhouse: str) -> str:
    name = f"t_{uuid.uuid4().hex[:8]}"
    client(clickhouse).command(
        f"CREATE TABLE {name} (a Int32, b String, c Nullable(Float64), d DateTime64(3, 'UTC')) ENGINE = "
        "MergeTree ORDER BY a "
        "SETTINGS non_replicated_deduplication_window = 100"
    )
    return name


def test_the_handshake_works_and_says_who_it_is(clickhouse: str) -> None:
    assert str(client(clickhouse).server_version).startswith("26.")
    answer = requests.get(clickhouse, params={"query": "SELECT 1"}, timeout=10)
    assert (answer.status_code, answer.text) == (200, "1\n")
    assert answer.headers["X-ClickHouse-Server-Display-Name"] == "gigawatch-embedded"
    assert answer.headers["X-ClickHouse-Format"] == "TabSeparated"
    assert uuid.UUID(answer.headers["X-ClickHouse-Query-Id"])
    assert "read_rows" in json.loads(answer.headers["X-ClickHouse-Summary"])
    assert requests.get(clickhouse + "/ping", timeout=10).text == "Ok.\n"


def test_native_is_of_the_revision_that_a_client_asks_for(clickhouse: str) -> None:
    """Grafana's plugin (clickhouse-go) reads blocks with info and marks; clickhouse-connect reads them without."""
    asked = {"query": "SELECT 1 AS x", "default_format": "Native"}
    plain = requests.get(clickhouse, params=asked, timeout=10).content
    assert plain == b"\x01\x01\x01x\x05UInt8\x01"
    assert requests.get(clickhouse, params={**asked, "client_protocol_version": "54405"}, timeout=10).content == plain
    marked = requests.get(clickhouse, params={**asked, "client_protocol_version": "54460"}, timeout=10).content
    assert marked == b"\x01\x00\x02\xff\xff\xff\xff\x00" + plain[:-1] + b"\x00" + plain[-1:]
    refused = requests.get(
        clickhouse,
        params={"query": "SELECT uniqState(1) AS x", "default_format": "Native", "client_protocol_version": "54460"},
        timeout=10,
    )
    assert (refused.status_code, "AggregateFunction" in refused.text) == (501, True)


def test_inserts_and_reads_of_every_kind(clickhouse: str, table: str) -> None:
    c, now = client(clickhouse), dt.datetime(2026, 1, 2, 3, 4, 5, 678000, dt.UTC)
    c.insert(table, [[1, "x\t'\\\n", 1.5, now], [2, "", None, now]], column_names=["a", "b", "c", "d"])
    c.insert_arrow(
        table,
        pa.table(
            {
                "a": pa.array([3], pa.int32()),
                "b": ["arrow"],
                "c": [2.5],
                "d": pa.array([now], pa.timestamp("ms", "UTC")),
            }
        ),
    )
    c.command(f"INSERT INTO {table} (a, b) VALUES (4, 'FORMAT Native'), (5, 'y')")
    c.raw_insert(table, ["a", "b"], b'{"a": 6, "b": "json"}\n', fmt="JSONEachRow")
    rows = c.query(f"SELECT a, b, c FROM {table} ORDER BY a").result_rows
    assert rows == [
        (1, "x\t'\\\n", 1.5),
        (2, "", None),
        (3, "arrow", 2.5),
        (4, "FORMAT Native", None),
        (5, "y", None),
        (6, "json", None),
    ]
    assert c.query(f"SELECT d FROM {table} WHERE a = 1").result_rows[0][0].replace(tzinfo=dt.UTC) == now
    assert c.query_arrow(f"SELECT a FROM {table} ORDER BY a")["a"].to_pylist() == [1, 2, 3, 4, 5, 6]
    assert c.query_df(f"SELECT count() AS n FROM {table}")["n"][0] == 6
    assert np.array_equal(c.query_np(f"SELECT a FROM {table} ORDER BY a").ravel(), np.arange(1, 7))
    assert c.command(f"SELECT count() FROM {table}") == 6


@pytest.mark.parametrize(
    "fmt", ["CSV", "JSON", "JSONEachRow", "Parquet", "ArrowStream", "TSVWithNames", "PrettyCompact"]
)
def test_any_format(clickhouse: str, fmt: str) -> None:
    answer = requests.post(clickhouse, params={"default_format": fmt}, data="SELECT 42 AS n", timeout=10)
    assert answer.headers["X-ClickHouse-Format"] == fmt
    assert (
        answer.content == requests.post(clickhouse, data=f"SELECT 42 AS n FORMAT {fmt}", timeout=10).content
        or fmt == "JSON"
    )
    assert answer.content


@pytest.mark.parametrize(
    ("kind", "value", "back"),
    [
        ("Int64", -7, -7),
        ("String", "it's \\ \t ünï {x}", "it's \\ \t ünï {x}"),
        ("Float64", 2.5, 2.5),
        ("Array(String)", ["a'b", "c"], ["a'b", "c"]),
        ("DateTime64(3)", dt.datetime(2026, 1, 2, 3, 4, 5, 6000), None),
    ],
)
def test_server_side_parameters(clickhouse: str, kind: str, value: Any, back: Any) -> None:
    found = client(clickhouse).query(f"SELECT {{v:{kind}}}", parameters={"v": value}).result_rows[0][0]
    assert found == (value if back is None else back)


def test_a_parameter_is_never_sql(clickhouse: str, table: str) -> None:
    evil = f"'; DROP TABLE {table}; --"
    assert client(clickhouse).query("SELECT {v:String}", parameters={"v": evil}).result_rows == [(evil,)]
    assert client(clickhouse).command(f"EXISTS {table}") == 1


def test_settings_hold_for_one_request(clickhouse: str) -> None:
    c = client(clickhouse)
    assert c.query("SELECT getSetting('max_block_size')", settings={"max_block_size": 1234}).result_rows[0][0] == 1234
    assert c.query("SELECT getSetting('max_block_size')").result_rows[0][0] != 1234
    answer = requests.post(clickhouse, params={"nosuch_setting": "1"}, data="SELECT 1", timeout=10)
    assert answer.headers["X-ClickHouse-Exception-Code"] == "115"


def test_the_deduplication_token_works(clickhouse: str, table: str) -> None:
    c = client(clickhouse)
    for _ in range(2):
        c.insert(table, [[1, "x"]], column_names=["a", "b"], settings={"insert_deduplication_token": "one"})
    c.insert(table, [[1, "x"]], column_names=["a", "b"], settings={"insert_deduplication_token": "two"})
    assert c.command(f"SELECT count() FROM {table}") == 2


@pytest.mark.parametrize(
    ("sql", "code", "status"),
    [
        ("SELECT nosuch", 47, 400),
        ("SELECT * FROM nosuch", 60, 404),
        ("SELEC 1", 62, 400),
        ("SELECT throwIf(1)", 395, 500),
        ("SELECT * FROM nodb.t", 81, 404),
    ],
)
def test_errors_have_clickhouses_codes(clickhouse: str, sql: str, code: int, status: int) -> None:
    answer = requests.post(clickhouse, data=sql, timeout=10)
    assert answer.headers["X-ClickHouse-Exception-Code"] == str(code)
    assert answer.text.startswith(f"Code: {code}. DB::Exception: ")
    assert answer.status_code == status
    with pytest.raises(DatabaseError) as caught:
        client(clickhouse).query(sql)
    assert caught.value.code == code


def test_a_bad_row_refuses_the_insert_whole(clickhouse: str, table: str) -> None:
    answer = requests.post(
        clickhouse, params={"query": f"INSERT INTO {table} (a, b) FORMAT CSV"}, data="1,x\nnope,y\n", timeout=10
    )
    assert answer.status_code == 400
    assert client(clickhouse).command(f"SELECT count() FROM {table}") == 0


@pytest.mark.parametrize("encoding", ["lz4", "zstd", "gzip", "deflate"])
def test_compression_both_ways(clickhouse: str, table: str, encoding: str) -> None:
    import zlib

    pack = {"lz4": lz4.frame.compress, "zstd": zstd.compress, "gzip": gzip.compress, "deflate": zlib.compress}[encoding]
    answer = requests.post(
        clickhouse,
        params={"query": f"INSERT INTO {table} (a, b) FORMAT CSV"},
        data=pack(b"1,x\n2,y\n"),
        headers={"Content-Encoding": encoding},
        timeout=10,
    )
    assert answer.status_code == 200, answer.text
    if encoding != "deflate":
        c = client(clickhouse, compress=encoding)
        assert c.query(f"SELECT b FROM {table} ORDER BY a").result_rows == [("x",), ("y",)]
        raw = requests.post(
            clickhouse,
            params={"enable_http_compression": "1"},
            data="SELECT 1",
            headers={"Accept-Encoding": encoding},
            timeout=10,
            stream=True,
        )
        assert raw.headers["Content-Encoding"] == encoding


@pytest.mark.parametrize(
    ("encoding", "body"), [("zstd", b"not zstd"), ("br", b"x"), ("gzip", gzip.compress(b"SELECT 1", mtime=0)[:-6])]
)
def test_bodies_that_do_not_decode_are_refused(clickhouse: str, encoding: str, body: bytes) -> None:
    answer = requests.post(clickhouse, data=body, headers={"Content-Encoding": encoding}, timeout=10)
    assert answer.headers["X-ClickHouse-Exception-Code"] == "271"


def test_sessions_keep_their_state_and_exclude_a_second_user(clickhouse: str) -> None:
    name = uuid.uuid4().hex
    c = client(clickhouse, session_id=name)
    c.command("CREATE TEMPORARY TABLE mine (x Int32)")
    c.command("INSERT INTO mine VALUES (1), (2)")
    assert c.command("SELECT sum(x) FROM mine") == 3
    other = client(clickhouse, session_id=uuid.uuid4().hex)
    with pytest.raises(DatabaseError):
        other.command("SELECT sum(x) FROM mine")
    answer = requests.post(
        clickhouse, params={"session_id": "nosuch", "session_check": "1"}, data="SELECT 1", timeout=10
    )
    assert answer.headers["X-ClickHouse-Exception-Code"] == "372"
    codes: set[str | None] = set()

    def ask(sql: str) -> None:
        codes.add(
            requests.post(clickhouse, params={"session_id": name}, data=sql, timeout=20).headers.get(
                "X-ClickHouse-Exception-Code"
            )
        )

    both = [
        threading.Thread(target=ask, args=("SELECT sleep(1)",)) for _ in range(2)
    ]  # whichever comes second is refused
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert codes == {None, "373"}


def test_reading_users_cannot_write(clickhouse: str, table: str) -> None:
    assert (
        requests.get(clickhouse, params={"query": f"INSERT INTO {table} (a) VALUES (1)"}, timeout=10).headers[
            "X-ClickHouse-Exception-Code"
        ]
        == "164"
    )
    for sql in (f"DROP TABLE {table}", f"INSERT INTO {table} (a) VALUES (1)", f"ALTER TABLE {table} DELETE WHERE 1"):
        with pytest.raises(DatabaseError) as caught:
            client(clickhouse, settings={"readonly": 2}).command(sql)
        assert caught.value.code == 164
    assert client(clickhouse).command(f"SELECT count() FROM {table}") == 0


def test_many_at_once(clickhouse: str, table: str) -> None:
    def one(n: int) -> int:
        c = client(clickhouse)
        c.insert(table, [[n, str(n)]], column_names=["a", "b"])
        return len(c.query("SELECT number FROM numbers(20000)").result_rows)

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(one, range(40))) == {20000}
    assert client(clickhouse).command(f"SELECT uniqExact(a) FROM {table}") == 40


async def test_the_async_client(clickhouse: str) -> None:
    parts = urlsplit(clickhouse)
    c = await clickhouse_connect.get_async_client(host=parts.hostname, port=parts.port, autogenerate_session_id=False)
    assert (await c.query("SELECT sum(number) FROM numbers(10)")).result_rows == [(45,)]
    await c.close()


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


def test_it_says_how_it_is(clickhouse: str) -> None:
    requests.get(clickhouse, params={"query": "SELEC 1"}, timeout=10)
    text = requests.get(clickhouse + "/metrics", timeout=10).text
    values = {s.name: s.value for family in text_string_to_metric_families(text) for s in family.samples}
    assert values["gigawatch_clickhouse_requests_served"] > values["gigawatch_clickhouse_requests_refused"] > 0
    assert values["gigawatch_clickhouse_peak_memory_megabytes"] > 100
    assert requests.get(clickhouse + "/ready", timeout=10).status_code == 200


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
    assert client(clickhouse).command("SELECT 1") == 1
