"""What it costs to add a thing: each test adds one to a copy of the house, in the files that CONTRIBUTING.md names and
in no others, and finds it everywhere it belongs.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.house_copy import ENGINE, House, recipe, snippet


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path / "house")


def test_a_gauge_is_a_line(house: House) -> None:
    gauge = 'Metric("added_c", "C", "Temperature of a link.", hi=150, resolution=0.1, windowed=True),\n'
    house.insert("schemas/kinds/gpu.py", "    ),\n    stored_by=", " " * 8 + gauge)
    house.holds_to("a metric")
    house.run(
        snippet(
            ENGINE,
            """
            from pipeline.store.tables import TABLES
            from pipeline.store.views import device_view, raw_view
            from schemas import catalogue
            from schemas.derived import ROLLUPS, WINDOW

            assert "added_c" in catalogue.markdown({})
            assert {"added_c_mean", "added_c_max"} <= set(ROLLUPS["gpu"].names)
            assert {"added_c_mean", "added_c_max", "added_c_p95"} <= set(WINDOW.names)
            assert {"added_c", "added_c_n"} <= {c.name for c in TABLES["gpu"].stored}
            for tier in ("10s", "1m", "1h"):
                assert "added_c_mean" in TABLES[f"gpu_{tier}"].arrays
            assert "added_c" in device_view(TABLES["gpu"]) and "added_c_mean" in raw_view("gpu")
            found = closed("gpu", added_c=lambda t: [40, 41, 42, 43])
            assert column(found["window"], "added_c_mean") == [40, 41, 42, 43]
            assert column(found["window"], "added_c_p95") == [40, 41, 42, 43]
            assert column(found["rollup_gpu"], "added_c_max") == [40, 41, 42, 43]
            """,
        )
    )


def test_a_counter_is_a_line(house: House) -> None:
    counter = 'Metric("added_total", "count", "Replays.", "counter", "float64", hi=1e12, windowed=True),\n'
    house.insert("schemas/kinds/gpu.py", "    ),\n    stored_by=", " " * 8 + counter)
    house.holds_to("a metric")
    house.run(
        snippet(
            ENGINE,
            """
            from pipeline.store.tables import TABLES
            from schemas.derived import ROLLUPS, WINDOW

            assert "added_total_inc" in ROLLUPS["gpu"].names and "added_total" in WINDOW.names
            assert "added_total_inc" in TABLES["gpu_1h"].arrays and "added_total" in TABLES["device_windows"].arrays
            found = closed("gpu", added_total=lambda t: [t, 2 * t, 0, 5], energy_j=lambda t: [100 * t] * 4)
            assert column(found["rollup_gpu"], "added_total_inc") == [10, 20, 0, 0]
            assert column(found["window"], "added_total") == [60, 120, 0, 0], column(found["window"], "added_total")
            assert column(found["window"], "energy_j") == [6000] * 4
            """,
        )
    )


def test_a_derived_metric_is_a_line_with_its_formula(house: House) -> None:
    """Not every derived metric is coolant heat."""
    derived = """\
        Metric(
            "added_w",
            "W",
            "Power a per cent of utilization.",
            "derived",
            windowed=True,
            formula=Formula(("power_w", "util_pct"), lambda power, util: power / util, "power_w / util_pct"),
        ),
"""
    path = "schemas/kinds/gpu.py"
    house.insert(path, "    ),\n    stored_by=", textwrap.indent(textwrap.dedent(derived), " " * 8))
    text = (house.folder / path).read_text()
    (house.folder / path).write_text(
        text.replace("import Catalogue, Metric, Score", "import Catalogue, Formula, Metric, Score")
    )
    house.holds_to("a metric")
    house.run(
        snippet(
            ENGINE,
            """
            import chdb
            from pipeline.store.tables import TABLES

            found = closed("gpu", power_w=lambda t: [600, 700, 800, 900], util_pct=lambda t: [60, 70, 80, 45])
            assert column(found["window"], "added_w_mean") == [10, 10, 10, 20]
            assert column(found["rollup_gpu"], "added_w_max") == [10, 10, 10, 20]
            alias = next(c for c in TABLES["gpu"].columns if c.name == "added_w").alias
            assert chdb.query(f"SELECT {alias} FROM (SELECT 900. AS power_w, 45. AS util_pct)").bytes() == b"20\\n"
            cold = closed("cooling", flow_lpm=lambda t: [60] * 4, supply_temp_c=lambda t: [40] * 4,
                          return_temp_c=lambda t: [50] * 4)
            assert column(cold["window"], "heat_w_mean") == [39_000] * 4, "and coolant heat is what it was"
            """,
        )
    )


def test_a_kind_of_device_is_a_file_and_its_registration(house: House) -> None:
    house.write(
        "schemas/kinds/network.py",
        '''\
        """The `network` catalogue: switches."""

        from schemas.metric import Catalogue, Metric, Score

        NETWORK = Catalogue(
            "network",
            "One network switch.",
            (
                Metric("power_w", "W", "Power.", hi=10_000, resolution=0.1, windowed=True, score=Score("both", 20.0)),
                Metric("temp_c", "C", "Hottest sensor.", hi=150, resolution=0.1, windowed=True),
                Metric("tx_bytes_total", "B", "Sent.", "counter", "float64", hi=1e18, resolution=1, windowed=True),
            ),
            stored_by="rack",
            load=True,
        )
        ''',
    )
    path = "schemas/catalogue.py"
    text = (house.folder / path).read_text()
    text = text.replace(
        "from schemas.kinds.node import NODE\n",
        "from schemas.kinds.network import NETWORK\nfrom schemas.kinds.node import NODE\n",
    )
    house.write(path, text.replace("POWER, COOLING, ENDPOINT)", "POWER, COOLING, ENDPOINT, NETWORK)"))
    house.holds_to("a kind of device")
    house.run(
        snippet(
            ENGINE,
            """
            import pyarrow as pa
            from click.testing import CliRunner
            from pipeline.cli import gigawatch
            from pipeline.compute.site import SiteEngine
            from pipeline.store.named_queries import QUESTIONS
            from pipeline.store.tables import BY_TOPIC, TABLES
            from pipeline.store.views import raw_view
            from schemas.topics import CONSUMED
            from schemas.derived import RACK
            from schemas.topics import TOPICS

            assert {"telemetry.network", "rollups.network"} <= set(TOPICS) and "telemetry.network" in CONSUMED
            assert {"telemetry.network", "rollups.network"} <= set(BY_TOPIC)
            assert {"network", "network_10s", "network_1m", "network_1h"} <= set(TABLES)
            assert TABLES["network"].by_rack and "tx_bytes_total" in TABLES["device_windows"].arrays
            assert "power_w AS power_w_mean" in raw_view("network")
            assert "network" in QUESTIONS["stored"].sql
            found = closed("network", power_w=lambda t: [500, 600, 700, 800], tx_bytes_total=lambda t: [1e9 * t] * 4)
            assert column(found["window"], "power_w_mean") == [500, 600, 700, 800]
            assert column(found["window"], "tx_bytes_total") == [60e9] * 4
            assert "network_power_w" in RACK.names
            site = SiteEngine()
            racks = site.add(pa.concat_batches(found["part"]))["rack"]
            assert column([racks], "network_power_w") == [1100, 1500], column([racks], "network_power_w")
            shown = CliRunner().invoke(gigawatch, ["catalogue", "network"])
            assert shown.exit_code == 0 and "tx_bytes_total" in shown.output
            """,
        )
    )


def test_a_derived_stream_is_one_declaration(house: House) -> None:
    declared = """\
    ADDED = declare(
        Derived(
            "added",
            "How long racks have been quiet.",
            (("ts", _TS), ("site", _S), ("rack", _S), ("quiet_s", _D)),
            ("site", "rack", "ts"),
            topic="events.added",
            table="added",
            partitions=1,
        )
    )

    """
    house.insert("schemas/derived.py", "_MOST_HEADS = ", declared)
    house.holds_to("a derived stream")
    house.run(
        """
        from pipeline.sink.batcher import Batcher
        from pipeline.store.tables import BY_TOPIC, TABLES
        from schemas.derived import DERIVED
        from schemas.log_record import LogRecord
        from schemas.tables import STORED
        from schemas.topics import TOPICS

        added = DERIVED["added"]
        assert TOPICS["events.added"].partitions == 1 and STORED["added"] == "added"
        assert BY_TOPIC["events.added"] is TABLES["added"] and TABLES["added"].order == ("site", "rack", "ts")
        assert "`quiet_s` Nullable(Float64)" in TABLES["added"].ddl()[0]
        row = {"ts": 1_750_000_000_000, "site": "s", "rack": "R1", "quiet_s": 3.0}
        batcher = Batcher()
        batcher.add(LogRecord("events.added", 0, 7, 1_750_000_000_500, added.encode(added.build_rows([row]))), 0.0)
        flush = batcher.close()
        assert not flush.dead and [len(m) for m in flush.messages.values()] == [1]
        """
    )


def test_every_thing_has_a_recipe() -> None:
    things = ("a metric", "a kind of device", "a derived stream", "a detector rule", "a source", "a board")
    counts: dict[str, Callable[[int], bool]] = {
        "a metric": lambda n: n == 1,
        "a kind of device": lambda n: n == 2,
        "a derived stream": lambda n: n == 1,
        "a detector rule": lambda n: n == 2,
        "a source": lambda n: n >= 1,
        "a board": lambda n: n == 1,
    }
    for thing in things:
        assert counts[thing](len(recipe(thing))), f"{thing}: {recipe(thing)}"
