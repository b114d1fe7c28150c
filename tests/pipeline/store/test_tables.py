"""Tables follow from the catalogue: columns, DDL, tiers."""

from __future__ import annotations

import datetime as dt
import re

import pytest

from pipeline.store.history import AskError, find_metric, span_s
from pipeline.store.rollup import _spans
from pipeline.store.tables import BY_TOPIC, TABLES
from pipeline.store.views import statements
from schemas import topics
from schemas.catalogue import KINDS
from schemas.tables import TTL_DAYS
from tests.conftest import ROOT

#: Kept for good: who is who, the inventory, and the version.
KEPT = ("identities", "store_version", "assets", "names", "edges", "reach")
#: Few rows that are kept for years: a part a day would be thousands.
BY_MONTH = ("allocations", "jobs", "node_states", "job_windows")


@pytest.mark.parametrize("kind", KINDS)
def test_raw_tables_have_every_metric(kind: str) -> None:
    columns = {c.name: c.ddl for c in TABLES[kind].columns}
    for metric in KINDS[kind].metrics:
        assert metric.name in columns
        assert metric.kind == "derived" or "CODEC" in columns[metric.name]
    stored = {c.name: c.ddl for c in TABLES[kind].stored}
    assert all(stored[m.name].startswith(f"Array({m.dtype.title()})") for m in KINDS[kind].stored)
    assert all(
        stored[f"{m.name}_n"].startswith(f"Array(Int{m.dtype.removeprefix('float')}) COMMENT")
        for m in KINDS[kind].stored
    )
    assert TABLES[kind].order[-2:] == ("ts", "who")


def test_every_stored_topic_exists_and_every_topic_is_dealt_with() -> None:
    assert set(BY_TOPIC) <= set(topics.TOPICS)
    assert set(topics.TOPICS) - set(BY_TOPIC) == {topics.derived("part")}


@pytest.mark.parametrize("name", TABLES)
def test_ddl_for_one_server_and_for_a_cluster(name: str) -> None:
    table = TABLES[name]
    single, *view = statements(table)
    assert "ENGINE = ReplacingMergeTree(" in single
    assert ("PARTITION BY toDate(" in single) is (name not in KEPT and name not in BY_MONTH)
    assert ("PARTITION BY toStartOfMonth(" in single) is (name in BY_MONTH)
    assert bool(re.search(r"TTL toDateTime\(\w+\) \+ INTERVAL \d+ DAY", single)) is (name not in KEPT)
    assert len(view) == table.frames
    local, spread, *view = statements(table, "prod")
    assert "ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/" in local
    assert "ON CLUSTER 'prod'" in local
    assert f"Distributed('prod', 'gigawatch', '{table.stored_as}_local'" in spread
    assert all("GLOBAL INNER JOIN" in v and "ON CLUSTER 'prod'" in v for v in view)


def test_rows_of_one_key_are_on_one_shard_and_in_one_partition() -> None:
    """There they replace each other."""
    sharded = {"allocations": "cityHash64(site, scheduler, job, node, started)", "gpu": "cityHash64(site, rack)"}
    sharded |= {"cooling": "who", "identities": "who", "incidents": "cityHash64(incident)"}
    for name, by in sharded.items():
        assert f"_local', {by})" in TABLES[name].ddl("prod")[1]
    for table in TABLES.values():
        if table.topic and table.split and table.name not in ("incidents", "dead_letters"):
            assert table.dated in table.order, f"{table.name}: a row's period is part of its key"


def test_repeated_rows_are_merged_few_at_a_time_and_kept_since_they_were_seen() -> None:
    for name in ("allocations", "jobs", "node_states", "assets"):
        assert "min_parts_to_merge_at_once" not in TABLES[name].ddl()[0]
    assert "min_parts_to_merge_at_once = 100" in TABLES["gpu"].ddl()[0]
    assert "TTL toDateTime(seen) + INTERVAL 365 DAY" in TABLES["node_states"].ddl()[0]
    assert "`devices` Array(String)" in TABLES["allocations"].ddl()[0]


def test_tiers_are_kept_longer_the_coarser_they_are() -> None:
    assert TTL_DAYS["raw"] < TTL_DAYS["10s"] < TTL_DAYS["1m"] < TTL_DAYS["1h"]


def test_rollup_spans_join_adjacent_buckets() -> None:
    at = dt.datetime(2026, 1, 1)
    minute = dt.timedelta(minutes=1)
    assert _spans([at, at + minute, at + 5 * minute], 60) == [
        (at - minute, at + minute),
        (at + 4 * minute, at + 5 * minute),
    ]


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("15m", 900), ("6h", 21600), ("2d", 172800)])
def test_spans(text: str, seconds: int) -> None:
    assert span_s(text) == seconds


def test_questions_asked_wrongly_say_what_there_is() -> None:
    with pytest.raises(AskError, match="15m"):
        span_s("soon")
    with pytest.raises(AskError, match=r"gpu\.mem_temp_c"):
        find_metric("temp")
    with pytest.raises(AskError, match="no kind 'x'"):
        find_metric("x.temp_c")
    assert find_metric("cooling.heat_w")[0] == "cooling"


def test_no_client_of_clickhouse_outside_the_store() -> None:
    users = [
        p
        for top in ("producers", "schemas", "dashboards")
        for p in (ROOT / top).rglob("*.py")
        if "clickhouse_connect" in p.read_text()
    ]
    assert users == []
