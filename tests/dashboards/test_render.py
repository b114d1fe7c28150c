"""Rendered panels: rows to numbers, bars, plots and tables, with units, links and hostile names."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from dashboards import build, model
from dashboards.watch import units
from dashboards.watch.panel_data import PanelData
from dashboards.watch.render import render

NOW = dt.datetime(2026, 1, 2, 3, 0, tzinfo=dt.UTC)


EVIL = "R'; DROP TABLE gpu; --<img src=x onerror=alert(1)>\x1b[31m\\"


def scene(names: tuple[str, ...], rows: list[tuple[Any, ...]], **values: Any) -> PanelData:
    return PanelData(
        names,
        rows,
        (round(NOW.timestamp() * 1000) - 600_000, round(NOW.timestamp() * 1000)),
        ("now-10m", "now"),
        values,
        10_000,
    )


def panel(board: str, title: str) -> dict[str, Any]:
    return next(p for p in model.panels(build.load()[f"gigawatch-{board}"]) if p["title"] == title)


def at(seconds: int) -> dt.datetime:
    return NOW - dt.timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("value", "unit", "decimals", "shown"),
    [
        (1_036_120.0, "watt", 2, "1.04 MW"),
        (999.0, "watt", None, "999 W"),
        (0.0, "watt", None, "0 W"),
        (-2500.0, "watt", 1, "-2.5 kW"),
        (0.725, "percentunit", 0, "72%"),
        (404.6, "kwatth", 1, "404.6 kWh"),
        (12_000.0, "kwatth", 1, "12.0 MWh"),
        (54.39, "celsius", 0, "54 °C"),
        (57_000_000.0, "bytes", 1, "54.4 MiB"),
        (1.1564, "none", 3, "1.156"),
        (189_471.0, "mbytes", 0, "185 GiB"),
        (3.0, "nobody knows", None, "3 nobody knows"),
        (17_711.0, "short", None, "17.7 k"),
    ],
)
def test_numbers_read_as_people_write_them(value: float, unit: str, decimals: float | None, shown: str) -> None:
    assert units.text(value, unit, decimals) == shown


def test_every_unit_and_panel_type_of_every_board_is_known_to_the_page() -> None:
    for body in build.load().values():
        for one in model.panels(body):
            drawn = render(one, scene((), []))
            assert drawn["kind"] == "empty", one["title"]
            assert drawn["text"]
            used = {one["fieldConfig"]["defaults"].get("unit", "none")} | {
                p["value"]
                for o in one["fieldConfig"].get("overrides", [])
                for p in o["properties"]
                if p["id"] == "unit"
            }
            assert used <= set(units.UNITS), one["title"]
    assert render({"type": "geomap", "fieldConfig": {"defaults": {}}}, scene(("a",), [(1,)]))["kind"] == "error"


def test_lines_are_named_by_what_tells_them_apart_and_scaled_to_their_unit() -> None:
    rows = [(at(20 - 10 * k), "site-1", 1e6 + k, 2e6, float("nan") if k else 3e6) for k in range(3)]
    drawn = render(panel("factory", "Power"), scene(("time", "site", "IT", "facility", "coolant_heat"), rows))
    assert [t["name"] for t in drawn["data"]] == ["IT", "facility", "coolant_heat"], "one site is no name"
    assert drawn["data"][0]["y"] == [1.0, 1.000001, 1.000002]
    assert drawn["data"][2]["y"] == [3.0, None, None]
    assert drawn["layout"]["yaxis"]["ticksuffix"] == " MW"
    two = render(
        panel("factory", "Power"),
        scene(("time", "site", "IT", "facility", "coolant_heat"), [*rows, (at(5), "site-2", 1.0, 1.0, 1.0)]),
    )
    assert "site-2 facility" in [t["name"] for t in two["data"]]


def test_a_heat_map_has_a_row_a_device_and_a_link_each() -> None:
    rows = [(at(60 - 10 * k), f"R0001-N01-GPU{g}", float(10 * g + k)) for k in range(6) for g in (1, 0)]
    drawn = render(panel("rack", "GPU utilization"), scene(("time", "device", "value"), rows, site="s 1", rack="R0001"))
    (trace,) = drawn["data"]
    assert trace["y"] == ["R0001-N01-GPU1", "R0001-N01-GPU0"]
    assert trace["z"][1] == [0, 1, 2, 3, 4, 5]
    assert (
        trace["meta"]["hrefs"]["R0001-N01-GPU0"]
        == "/d/gigawatch-gpu/gpu?var-site=s%201&var-rack=R0001&var-gpu=R0001-N01-GPU0&from=now-10m&to=now"
    )


def test_markup_in_a_name_is_written_out() -> None:
    drawn = render(
        panel("rack", "GPU power"),
        scene(
            ("time", "device", "value"),
            [(at(10), EVIL, 1.0), (at(10), "<a href='https://x'>y</a>", 2.0)],
            site="s",
            rack="R",
        ),
    )
    assert not [t["name"] for t in drawn["data"] if "<" in t["name"]]
    assert "&lt;img src=x" in drawn["data"][0]["name"]


def test_states_are_bars_for_as_long_as_they_last() -> None:
    words = ["ok", "ok", "leak", "leak", "ok"]
    drawn = render(
        panel("rack", "Leak sensors"),
        scene(("time", "device", "state"), [(at(50 - 10 * k), "R1", w) for k, w in enumerate(words)]),
    )
    spans = {t["name"]: [(b, x) for b, x in zip(t["base"], t["x"], strict=True)] for t in drawn["data"]}
    first = round(at(50).timestamp() * 1000)
    assert spans == {"ok": [(first, 20_000), (first + 40_000, 10_000)], "leak": [(first + 20_000, 20_000)]}
    assert next(t for t in drawn["data"] if t["name"] == "leak")["marker"]["color"] == "#f2495c"


def test_numbers_gauges_bars_and_buckets() -> None:
    drawn = render(panel("factory", "GPUs"), scene(("busy", "idle", "silent", "unhealthy"), [(792.0, 72.0, 0.0, 1)]))
    assert [(v["title"], v["text"], v["colour"]) for v in drawn["values"]] == [
        ("busy", "792", "#56b870"),
        ("idle", "72", "#5794f2"),
        ("silent", "0", "#ff9830"),
        ("unhealthy", "1", "#f2495c"),
    ]
    assert render(panel("factory", "IT power"), scene(("value",), [(None,)]))["kind"] == "empty"
    (gauge,) = render(panel("factory", "Of provisioned"), scene(("value",), [(0.96,)]))["data"]
    assert gauge["value"] == pytest.approx(96)
    assert gauge["gauge"]["bar"]["color"] == "#f2495c"
    bars = render(panel("power", "Breaker load"), scene(("rack", "load"), [("R1", 0.5), ("R2", 0.9)]))["rows"]
    assert [(b["name"], b["text"], b["share"], b["colour"]) for b in bars] == [
        ("R1", "50%", 0.5, "#56b870"),
        ("R2", "90%", 0.9, "#f2c037"),
    ]
    (counts,) = render(
        panel("cooling", "Racks by coolant rise"),
        scene(("time", "bucket", "racks"), [(at(10), "10", 2), (at(10), "8", 5)]),
    )["data"]
    assert (counts["y"], counts["z"]) == (["8", "10"], [[5], [2]])


def test_a_table_hides_colours_links_and_leaves_out_links_without_a_value() -> None:
    names = ("opened", "site", "device", "rack", "kind", "job", "cause", "peak", "from_ms")
    drawn = render(
        panel("factory", "Open incidents by device"),
        scene(names, [(NOW, "s", "CDU-001", "", "cooling", "", "flow_lpm", 0.95, 123)]),
    )
    titles = [c["title"] for c in drawn["columns"]]
    assert "site" not in titles
    assert "from ms" not in titles
    row = dict(zip(titles, drawn["rows"][0], strict=True))
    assert row["peak"] == {"text": "0.95", "sort": 0.95, "colour": "#f2495c"}
    assert row["device"]["href"] == row["rack"]["href"] == row["job"]["href"] == "", "no rack, no link"
    assert row["opened"]["time"] == NOW.timestamp() * 1000
