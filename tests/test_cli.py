"""The command line: help everywhere, and errors that say what was wrong and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
from click import Context
from click.testing import CliRunner

from pipeline.cli import gigawatch
from pipeline.instance import running

COMMANDS = gigawatch.list_commands(Context(gigawatch))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str) -> None:
    done = CliRunner().invoke(gigawatch, [name, "--help"])
    assert done.exit_code == 0, done.output
    assert len(done.output.splitlines()) > 4


def test_the_commands_of_the_design_are_there() -> None:
    assert {
        "up",
        "produce",
        "stream",
        "sink",
        "query",
        "history",
        "tail",
        "top",
        "dashboards",
        "doctor",
        "record",
    } <= set(COMMANDS)
    assert "A whole factory on this machine" in CliRunner().invoke(gigawatch, ["--help"]).output


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (["query", "nosuch"], "no question 'nosuch'; there are heat-balance"),
        (["query", "heat-balance", "--data-dir", "/nowhere"], "holds no factory's data"),
        pytest.param(
            ["query", "SELECT 1", "--clickhouse", "http://127.0.0.1:1"], "does not answer", marks=pytest.mark.service
        ),
        (["query", "SELECT 1", "--clickhouse", "nonsense"], "wants http://"),
        (["history", "nosuch", "--data-dir", "/nowhere"], "holds no factory's data"),
        (["tail", "--data-dir", "/nowhere"], "no factory runs on"),
        (["inject", "leak", "--data-dir", "/nowhere"], "no factory runs on"),
        (["sink", "--data-dir", "/nowhere"], "give --broker HOST:PORT"),
        pytest.param(
            ["stream", "--broker", "127.0.0.1:1"],
            "no Kafka broker answers at 127.0.0.1:1",
            marks=pytest.mark.service,
        ),
        (["produce", "nosuch", "--broker", "127.0.0.1:1"], "no source 'nosuch'"),
        (["produce", "replay:/nowhere.csv", "--broker", "127.0.0.1:1"], "no such file"),
        (["produce", "dcgm", "--broker", "127.0.0.1:1"], "no dcgm-exporter endpoint"),
        (["produce", "synthetic", "--gpu", "nosuch", "--broker", "127.0.0.1:1"], "NVL72-GB200"),
        (["up", "--source", "replay:/nowhere.csv"], "no such file"),
        (["up", "--fault", "nosuch"], "NAME is one of"),
        (["dashboards", "push", "--url", "http://127.0.0.1:1"], "GIGAWATCH_GRAFANA_TOKEN"),
    ],
)
def test_errors_are_for_people(
    argv: list[str], complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(gigawatch, argv)
    assert done.exit_code == 1
    assert complaint in done.output, done.output
    assert "Traceback" not in done.output
    assert len(done.output.strip().splitlines()) <= 3


def test_catalogues_print() -> None:
    metrics = CliRunner().invoke(gigawatch, ["catalogue", "gpu"]).output
    assert "DCGM_FI_DEV_GPU_TEMP" in metrics
    assert "NVL72-VR200" in CliRunner().invoke(gigawatch, ["catalogue", "hardware"]).output


def test_ddl_prints() -> None:
    out = CliRunner().invoke(gigawatch, ["migrate", "--print", "--cluster", "prod"]).output
    assert out.count("ReplicatedReplacingMergeTree") == out.count("ENGINE = Distributed") == 27


def test_query_shows_its_sql() -> None:
    assert CliRunner().invoke(gigawatch, ["query", "hottest", "--show"]).output.startswith("SELECT device")


def test_a_stale_factory_file_is_not_a_running_factory(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "factory.json").write_text(
        '{"pid": 999999999, "bootstrap": "x", "clickhouse": "y", "tick_ms": 1000}'
    )
    assert running(tmp_path) is None
    (tmp_path / "run" / "factory.json").write_text("{")
    assert running(tmp_path) is None
