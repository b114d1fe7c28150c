"""The command line: help everywhere, and errors that name what was wrong and what to do."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click import Context
from click.testing import CliRunner, Result

from pipeline.cli import gigawatch
from pipeline.embedded.process import ProcessError
from pipeline.embedded.services import Plan
from pipeline.embedded.supervisor import Supervisor
from pipeline.instance import Instance, run_dir, running
from pipeline.store.tables import TABLES
from producers.sources.synthetic.source import Synthetic
from schemas.errors import GigawatchError

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
        (["up", "--fault", "leak@R0009"], "no rack 'R0009' here; the nearest is R0004"),
        (["produce", "--fault", "leak@R0009", "--broker", "127.0.0.1:1"], "no rack 'R0009' here"),
        pytest.param(
            ["stream", "--broker", "127.0.0.1:1", "--metrics", "9100"],
            "no Kafka broker answers",
            marks=pytest.mark.service,
        ),
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


def test_an_error_of_ours_passes_to_a_caller_that_is_no_terminal() -> None:
    with pytest.raises(GigawatchError, match="no factory runs on"):
        gigawatch.main(["tail", "--data-dir", "/nowhere"], standalone_mode=False)


# -- inject --------------------------------------------------------------------------------------------------------


@pytest.fixture
def factory(tmp_path: Path) -> Path:
    """The folder of a running factory: this process stands for it."""
    Instance(os.getpid(), "127.0.0.1:1", "http://127.0.0.1:1", 1000).save(tmp_path)
    return tmp_path


def inject(folder: Path, fault: str) -> Result:
    return CliRunner().invoke(gigawatch, ["inject", fault, "--data-dir", str(folder)])


def injected(folder: Path) -> list[str]:
    control = run_dir(folder) / "inject"
    return control.read_text().splitlines() if control.exists() else []


def test_a_fault_is_injected_at_a_place_that_exists(factory: Path) -> None:
    Synthetic(4, "GB200", control=run_dir(factory) / "inject")
    assert inject(factory, "gpu-thermal@R0004-N18-GPU3+30").exit_code == 0
    assert inject(factory, "cdu-pump").output.startswith("injected cdu-pump at CDU-001")
    assert inject(factory, "gpu-swap@R0001-N01-GPU0~R0002-N01-GPU3").exit_code == 0
    assert inject(factory, "job-idle@R0002-N03").output.startswith("injected job-idle at R0002-N03")
    assert injected(factory) == [
        "gpu-thermal@R0004-N18-GPU3+30",
        "cdu-pump",
        "gpu-swap@R0001-N01-GPU0~R0002-N01-GPU3",
        "job-idle@R0002-N03",
    ]


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        ("gpu-dead@R0009-N01-GPU0", "no GPU 'R0009-N01-GPU0' here; the nearest is R0004-N01-GPU0. A GPU is RACK-NODE-"),
        ("leak@CDU-001", "no rack 'CDU-001' here; the nearest is R0001. A rack is R0001 to R0004"),
        ("cdu-pump@CDU-009", "no CDU 'CDU-009' here; the nearest is CDU-001"),
        ("gpu-melt@R0001", "NAME is one of"),
        ("gpu-swap@R0001-N01-GPU0~R0009-N01-GPU0", "no GPU 'R0009-N01-GPU0' here"),
    ],
)
def test_a_fault_at_a_place_that_does_not_exist_is_refused(factory: Path, fault: str, complaint: str) -> None:
    Synthetic(4, "GB200", control=run_dir(factory) / "inject")
    done = inject(factory, fault)
    assert done.exit_code == 1
    assert complaint in done.output
    assert not injected(factory)


def test_no_fault_is_injected_into_another_source(factory: Path) -> None:
    (run_dir(factory) / "producer.json").write_text(json.dumps({"source": "replay: trace.csv"}))
    done = inject(factory, "leak@R0001")
    assert done.exit_code == 1
    assert "runs the source 'replay: trace.csv': faults go into the synthetic plant" in done.output
    assert not injected(factory)


async def test_a_factory_does_not_start_with_the_faults_of_the_last_one(tmp_path: Path) -> None:
    class Stops(Supervisor):
        async def _start(self) -> None:
            raise ProcessError("stop here")

    run_dir(tmp_path).mkdir()
    (run_dir(tmp_path) / "inject").write_text("leak@R0001\n")
    with pytest.raises(ProcessError, match="stop here"):
        async with Stops(Plan(tmp_path, ())):
            pass
    assert not injected(tmp_path)


def test_catalogues_print() -> None:
    metrics = CliRunner().invoke(gigawatch, ["catalogue", "gpu"]).output
    assert "DCGM_FI_DEV_GPU_TEMP" in metrics
    assert "NVL72-VR200" in CliRunner().invoke(gigawatch, ["catalogue", "hardware"]).output


def test_ddl_prints() -> None:
    out = CliRunner().invoke(gigawatch, ["migrate", "--print", "--cluster", "prod"]).output
    assert out.count("ReplicatedReplacingMergeTree") == out.count("ENGINE = Distributed") == len(TABLES)
    assert all(f"VIEW gigawatch.{view} ON CLUSTER 'prod'" in out for view in ("gpu", "gpu_raw", "held", "expected"))


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
