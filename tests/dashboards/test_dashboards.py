"""Dashboards as Grafana and the plugin read them: typed model, variables, macros, the check, provisioning."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards import build, check, model
from dashboards.datasource import TYPE, UID
from dashboards.macros import MacroError, Range, expand
from dashboards.queries import factory
from schemas.catalogue import KINDS
from tests.conftest import ROOT

OVER = Range(dt.datetime(2026, 1, 2, 3, 0, 0, tzinfo=dt.UTC), dt.datetime(2026, 1, 2, 4, 0, 0, tzinfo=dt.UTC), 15)


FIRST, LAST = 1767322800, 1767326400


def test_every_target_is_the_plugins_query() -> None:
    found = build.load()
    assert list(found) == [board.uid for board in build.discovered()]
    assert next(iter(found)) == "gigawatch-factory"
    for board in found.values():
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
            if variable["type"] == "query":
                assert variable["definition"] == variable["query"]["rawSql"]


def test_grafanas_typed_model_reads_every_board_without_loss() -> None:
    """Panels and queries, too: what the model does not know would be dropped on the way."""
    plugins.register_default_plugins()
    for text in build.built().values():
        body = json.loads(text)
        for variable in body["templating"]["list"]:
            variable.pop("definition", None)  # the plugin's, which the SDK's builders lack
        for query in body.get("annotations", {}).get("list", []):
            assert query.pop("target")[
                "rawSql"
            ]  # a datasource's own: the model knows the one of Grafana's built-in source alone
        again = json.loads(json.dumps(Dashboard.from_json(json.loads(json.dumps(body))), cls=JSONEncoder))
        assert list(lost(body, again)) == []


def lost(before: Any, after: Any, where: str = "") -> Iterator[str]:
    """Yields the places where `after` lacks a value of `before`, or has another."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key, value in before.items():
            yield from lost(value, after[key], f"{where}/{key}") if key in after else [f"{where}/{key}"]
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, pair in enumerate(zip(before, after, strict=True)):
            yield from lost(*pair, f"{where}[{number}]")
    elif before != after:
        yield f"{where}: {before!r} became {after!r}"


def test_panels_read_the_tier_that_fits_and_all_variables_exist() -> None:
    """Raw frames only in panels that show minutes; what is shown as now reads minutes too; nothing forgets the time
    range.
    """
    for board in build.load().values():
        names = {v["name"] for v in board["templating"]["list"]} | {"__value.text", "__url_time_range"}
        known = {v["name"] for v in board["templating"]["list"]}
        for panel in board["panels"]:
            (target,) = panel["targets"]
            sql = target["rawSql"]
            if "gigawatch." in sql:
                assert "$__timeFilter(" in sql or "$__toTime" in sql, panel["title"]
            if any(f"gigawatch.{kind}{end} " in sql for kind in KINDS for end in ("", "_raw", "_frames")):
                assert panel.get("timeFrom") == "5m", panel["title"]
            assert "$'" not in sql, "the plugin's JavaScript would put the rest of the text there"
            for match in re.findall(r"\$\{?([a-z]\w*)", sql):
                assert match in known, f"{panel['title']}: ${match}"
        for link in re.findall(r'"url": "(/d/[^"]+)"', json.dumps(board)):
            assert link.split("/")[2] in build.load(), link
            assert all(
                name.split(":")[0] in names or name.startswith(("__data.fields.", "__field.labels."))
                for name in re.findall(r"\$\{([^}]+)\}", link)
            ), link


def test_the_check_reads_the_range_of_a_panel() -> None:
    over = Range(dt.datetime(2026, 1, 1, tzinfo=dt.UTC), dt.datetime(2026, 1, 8, tzinfo=dt.UTC), 2016)
    assert model.shown({}, over) == over
    assert model.shown({"timeFrom": "5m"}, over) == Range(dt.datetime(2026, 1, 7, 23, 55, tzinfo=dt.UTC), over.last, 1)


@pytest.mark.parametrize(
    ("sql", "expanded"),
    [
        ("$__timeFilter(ts)", f"ts >= toDateTime({FIRST}) AND ts <= toDateTime({LAST})"),
        (
            "$__timeFilter_ms(ts)",
            f"ts >= fromUnixTimestamp64Milli({FIRST}000) AND ts <= fromUnixTimestamp64Milli({LAST}000)",
        ),
        ("$__fromTime and $__toTime", f"toDateTime({FIRST}) and toDateTime({LAST})"),
        ("$__timeFrom(a) $__timeTo(b)", f"a >= toDateTime({FIRST}) b <= toDateTime({LAST})"),
        ("$__dateFilter(d)", "d >= toDate('2026-01-02') AND d <= toDate('2026-01-02')"),
        (
            "$__dt(d, c)",
            (
                f"d >= toDate('2026-01-02') AND d <= toDate('2026-01-02') AND c >= toDateTime({FIRST}) AND c <= "
                f"toDateTime({LAST})"
            ),
        ),
        ("$__timeInterval(ts)", "toStartOfInterval(toDateTime(ts), INTERVAL 15 second)"),
        ("$__timeInterval_ms(ts)", "toStartOfInterval(toDateTime64(ts, 3), INTERVAL 15000 millisecond)"),
        ("$__timeGroup(ts, '1m')", "toStartOfInterval(toDateTime(ts), INTERVAL 60 second)"),
        ("$__interval_s", "15"),
        (
            "$__timeFilter(toDateTime(f(a, b)))",
            f"toDateTime(f(a, b)) >= toDateTime({FIRST}) AND toDateTime(f(a, b)) <= toDateTime({LAST})",
        ),
        ("$__conditionalAll(rack IN ($rack), $rack)", "rack IN ('R1','R2')"),
        ("$__conditionalAll(x = '$all', $all)", "1=1"),
        ("x = '$one' AND ${one:singlequote} AND $rack", "x = 'S1' AND 'S1' AND 'R1','R2'"),
    ],
)
def test_macros_become_what_the_plugin_makes_of_them(sql: str, expanded: str) -> None:
    assert expand(sql, OVER, {"rack": ["R1", "R2"], "one": "S1", "all": "$__all"}) == expanded


@pytest.mark.parametrize(
    "sql", ["$__nosuch(ts)", "$__timeFilter()", "$__timeFilter(ts", "$nosuch", "$__timeGroup(ts, 'soon')"]
)
def test_wrong_macros_are_refused(sql: str) -> None:
    with pytest.raises(MacroError):
        expand(sql, OVER, {})


def test_the_check_fails_on_errors_on_emptiness_and_on_variables() -> None:
    newest = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)

    def run(sql: str) -> tuple[list[list[Any]], int]:
        if "max(ts) FROM gigawatch.site_windows" in sql and "WHERE" not in sql:
            return [[newest]], 1
        if sql.startswith("SELECT DISTINCT") or " AS tier " in sql or " AS width " in sql:
            return ([] if "gigawatch.allocations" in sql else [["10"]]), 1
        if "incidents" in sql:
            raise RuntimeError("Code: 60. no table\nmore")
        return [[newest, None if "scores" in sql or "heat_w" in sql else 1.0]], 7

    results = check.check(check.timed(run), (15.0, 360.0), times=2)
    assert {r.over for r in results} == {"15 min", "6 h"}
    empty = {r.panel for r in results if r.error.startswith("empty")}
    assert empty >= {"Heat carried", "Power path"}
    assert not empty & {"Scores", "Worst devices"}, "a panel of faults may be empty when there are none"
    assert {r.error for r in results if r.panel == "Open incidents"} == {"Code: 60. no table"}
    assert {r.error for r in results if r.panel == "variable job"} == {"no values"}
    good = [r for r in results if not r.error]
    assert {r.read for r in good} == {7}


def test_the_95th_percentile_is_the_nearest_rank() -> None:
    made = [check.PanelCheck("", "", "", 1, 1, float(ms), "") for ms in range(1, 101)]
    assert check.p95(made) == 95
    assert check.p95(made[:1]) == 1
    assert check.p95([]) == 0


def test_an_empty_store_is_an_error_with_what_to_do() -> None:
    assert "no windows are stored" in check.check(check.timed(lambda _: ([[None]], 0)))[0].error


def test_provisioning_names_what_the_dashboards_use() -> None:
    source = yaml.safe_load((ROOT / "dashboards/provisioning/datasources/clickhouse.yaml").read_text())["datasources"][
        0
    ]
    assert (source["type"], source["uid"]) == (TYPE, UID)
    assert source["secureJsonData"]["password"].startswith("${")


@pytest.mark.service
def test_a_migration_adds_columns_and_makes_the_views_anew(clickhouse: str) -> None:
    from pipeline.store.client import connect
    from pipeline.store.migrate import migrate

    client = connect(clickhouse)
    migrate(client)
    assert migrate(client) == []
    assert client.query("SELECT xid_max, power_w_mean FROM gigawatch.gpu_raw LIMIT 0").column_names == (
        "xid_max",
        "power_w_mean",
    )
    client.command("ALTER TABLE gigawatch.gpu_frames DROP COLUMN xid, DROP COLUMN xid_n")
    assert migrate(client) == ["added gpu.xid", "added gpu.xid_n", "view gpu", "view gpu_raw"]
    client.close()


def test_the_worst_panel_orders_by_score() -> None:
    assert "ORDER BY score DESC" in factory.WORST
