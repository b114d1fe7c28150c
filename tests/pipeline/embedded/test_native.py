"""Native blocks for newer clients: what is put in, for every type that a board may ask for, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.embedded.clickhouse.chdb_engine import ChdbEngine
from pipeline.embedded.clickhouse.native_format import MARKED, NativeError, upgrade_protocol_revision

INFO = b"\x01\x00\x02\xff\xff\xff\xff\x00"
TYPES = (
    "toUInt8(number)",
    "number::Int256",
    "number % 3 = 1",
    "number / 3",
    "toDecimal64(number, 3)",
    "toDecimal128(number, 20)",
    "toString(number)",
    "toFixedString('abc', 5)",
    "toDateTime(number)",
    "toDateTime64(number, 3, 'UTC')",
    "toDate32('2026-01-01')",
    "generateUUIDv4()",
    "toIPv6('::1')",
    "CAST('a', 'Enum8(\\'a, (b\\' = 1, \\'a\\' = 2)')",
    "if(number % 2, number, NULL)",
    "if(number % 2, toString(number), NULL)",
    "range(number)",
    "arrayMap(x -> toString(x), range(number % 4))",
    "[[number], []]",
    "map('k', number, 'l', 1)",
    "tuple(number, 'x')",
    "CAST((1, 'a'), 'Tuple(a UInt8, `b c` String)')",
    "toLowCardinality(toString(number % 3))",
    "toLowCardinality(if(number % 2, 'x', NULL))",
    "[toLowCardinality('a'), toLowCardinality('b')]",
    "NULL",
    "[]",
    "toIntervalDay(3)",
    "'' || repeat('x', number * 40)",
)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChdbEngine]:
    made = ChdbEngine(Path(tmp_path_factory.mktemp("native")))
    yield made
    made.close()  # a process has one engine at a time


def test_a_block_gets_its_info_and_each_column_its_mark() -> None:
    plain = b"\x02\x01" + b"\x01a\x05UInt8\x07" + b"\x01b\x06String\x02hi"
    assert (
        upgrade_protocol_revision(plain, MARKED)
        == INFO + b"\x02\x01" + b"\x01a\x05UInt8\x00\x07" + b"\x01b\x06String\x00\x02hi"
    )
    assert upgrade_protocol_revision(plain, MARKED - 1) == INFO + plain
    assert upgrade_protocol_revision(plain + plain, MARKED) == 2 * upgrade_protocol_revision(plain, MARKED)
    assert upgrade_protocol_revision(b"", MARKED) == b""


@pytest.mark.parametrize("rows", [0, 1, 5, 200])
@pytest.mark.parametrize("expression", TYPES)
def test_every_type_is_walked_to_its_end(engine: ChdbEngine, expression: str, rows: int) -> None:
    """A last column of a known value stands where it must: had the walk gone wrong, it would have failed or ended
    elsewhere.
    """
    data = engine.run(f"SELECT {expression} AS x, toUInt8(77) AS y FROM numbers({rows})", "Native").data
    made = upgrade_protocol_revision(data, MARKED)
    blocks = data.count(b"\x01y\x05UInt8")
    assert len(made) == len(data) + blocks * (len(INFO) + 2)
    assert made.count(b"\x01y\x05UInt8\x00") == blocks
    if rows:
        assert made.endswith(b"\x4d")


def test_what_is_cut_short_or_unknown_is_said(engine: ChdbEngine) -> None:
    data = engine.run("SELECT range(5) AS x, toString(number) AS y FROM numbers(9)", "Native").data
    for length in (1, 5, len(data) // 2, len(data) - 1):
        with pytest.raises(NativeError):
            upgrade_protocol_revision(data[:length], MARKED)
    unknown = engine.run("SELECT uniqState(number) AS x FROM numbers(9)", "Native").data
    with pytest.raises(NativeError, match="AggregateFunction"):
        upgrade_protocol_revision(unknown, MARKED)
