"""A rule, a source and a board are added to a copy of the house, in the files of their recipes and no others."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.house_copy import ENGINE, House, snippet


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path / "house")


def test_a_detector_rule_is_an_entry_and_its_runbook(house: House) -> None:
    """Scores, incidents, the alert in Grafana and on the watch page, the board's text and the docs table follow."""
    house.insert(
        "pipeline/compute/rules.py",
        ")\n_more: list[Rule]",
        """\
            Rule(
                "memory_full",
                "The frame buffer is full.",
                0.9,
                lambda view, _: (view.max("fb_free_mib") < 100, view.max("fb_free_mib")),
                kinds=("gpu",),
                needs=("fb_free_mib",),
                alert="gpu-memory-full",
                title="A GPU's memory is full",
                severity="warning",
                summary="{device} has no memory left",
            ),
        """,
    )
    house.write("docs/runbooks/gpu-memory-full.md", "# A GPU's memory is full\n\nMove the job.\n")
    house.holds_to("a detector rule")
    house.run(
        snippet(
            ENGINE,
            """
            from dashboards import build as boards
            from dashboards.alerts.provision import provisioned
            from dashboards.alerts.rules import all_rules

            found = closed("gpu", fb_free_mib=lambda t: [9_000, 50, 9_000, 9_000])
            for stream in ("score", "incident"):
                rows = [row for batch in found[stream] for row in batch.to_pylist()]
                assert {(row["device"], row["cause"]) for row in rows} == {("b", "memory_full")}, stream
            (alert,) = [rule for rule in all_rules() if rule.name == "gpu-memory-full"]
            assert alert.title == "A GPU's memory is full" and alert.severity == "warning"
            assert "'memory_full'" in alert.sql and "gigawatch-gpu-memory-full" in provisioned()
            written = boards.write()
            assert {"README.md", "incidents.json", "rules.yaml"} <= set(written), written
            table = (boards.DOCS / "runbooks" / "README.md").read_text()
            assert "[A GPU's memory is full](gpu-memory-full.md)" in table
            assert "memory_full" in str(boards.load()["gigawatch-incidents"])
            """,
        )
    )


def test_a_source_is_a_folder(house: House) -> None:
    """Its options appear in `produce`, `up`, the arguments between them, the config file, `doctor` and the docs."""
    house.write(
        "producers/sources/tank/__init__.py",
        '''\
        """Coolant tanks."""

        from dataclasses import dataclass

        from producers.sources.options import BuildContext, option, tick
        from producers.sources.registry import source


        @source("tank", help="coolant tanks: give each with --tank")
        @dataclass(frozen=True, slots=True)
        class TankSettings:
            tanks: tuple[str, ...] = option("--tank", (), "tank: its address. May be repeated.", metavar="ADDRESS")
            tick_s: float = tick()

            def build(self, context: BuildContext) -> "Tank":
                return Tank(self)

            @staticmethod
            def readiness() -> tuple[bool, str]:
                return False, "no tank answers"


        class Tank:
            def __init__(self, settings: TankSettings) -> None:
                self.describe = f"tanks {', '.join(settings.tanks)}"

            async def emissions(self):
                return
                yield
        ''',
    )
    house.holds_to("a source")
    house.run(
        """
        from click.testing import CliRunner
        from pipeline.cli import gigawatch
        from pipeline.commands.sources import producer_argv
        from pipeline.commands.up import up
        from producers.sources import registry

        def shown(*argv):
            done = CliRunner().invoke(gigawatch, argv)
            assert done.exit_code == 0, done.output
            return " ".join(done.output.split())

        for command in ("produce", "up"):
            assert "--tank ADDRESS" in shown(command, "--help"), command
        assert "coolant tanks" in shown("produce", "--help")
        example = shown("config", "example")
        assert example.count("tank = ") == 2, "in [produce] and in [up]"
        assert "coolant tanks" in registry.markdown() and "--tank ADDRESS" in registry.markdown()
        given = up.make_context("up", ["--source", "tank", "--tank", "a", "--tank", "b", "--tick", "2"]).params
        argv = producer_argv("tank", given)
        assert argv == ("tank", "--tank", "a", "--tank", "b", "--tick", "2.0"), argv
        doctor = CliRunner().invoke(gigawatch, ["doctor", "--data-dir", "nowhere"]).output
        assert "tank" in doctor and "no tank answers" in doctor, doctor
        """
    )


def test_a_board_is_a_file(house: House) -> None:
    """Its JSON, its place in the menu of the watch page, and its row in the docs follow."""
    house.write(
        "dashboards/boards/network.py",
        '''\
        """The network board."""

        from dashboards import panels
        from dashboards.board import Board


        def board() -> Board:
            number = panels.stat("One", "SELECT 1 AS value", "none", "The number one.")
            return Board("network", 45, "do packets arrive", "Switches and links.", [number])
        ''',
    )
    house.holds_to("a board")
    house.run(
        """
        from dashboards import build

        written = build.write()
        assert {"network.json", "dashboards.md"} <= set(written), written
        menu = [uid.removeprefix("gigawatch-") for uid in build.load()]
        assert menu == ["factory", "rack", "gpu", "power", "network", "cooling", "jobs", "incidents", "health"], menu
        assert "| network | do packets arrive |" in (build.DOCS / "dashboards.md").read_text()
        """
    )
