"""The Slurm source: polls that succeed, fail and take too long; its options; its commands as processes."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from producers.emission import Emission, Event, SourceFailure
from producers.sources import registry
from producers.sources.options import BuildContext
from producers.sources.slurm import TOKEN, TOKEN_FILE, SlurmSettings
from producers.sources.slurm.client import SlurmClient, SlurmCommands, SlurmFailure
from producers.sources.slurm.scheduler import SlurmScheduler
from producers.sources.slurm.source import Slurm
from producers.sources.source import SourceError
from tests.conftest import DATA

T = 1_790_000_100.0
ANSWER = ((DATA / "slurm" / "jobs-24.05.json").read_text(), (DATA / "slurm" / "nodes-24.05.json").read_text())
COUNTED = (
    '{"jobs": [{"job_id": 1, "job_state": "RUNNING", "nodes": "n1", "gres_detail": ["gpu(CNT:2)"]}]}',
    '{"nodes": [{"name": "n1", "state": "mixed", "gres": "gpu:8"}]}',
)


class ScriptedSlurm:
    """A client whose answers are a list; the clock moves with each sleep and with each slow answer."""

    name = "scripted"

    def __init__(self, *answers: tuple[str, str] | Exception | float) -> None:
        self._answers, self.now_s, self.asked_s = list(answers), T, list[float]()

    async def ask(self) -> tuple[str, str]:
        self.asked_s.append(self.now_s)
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, float):
            self.now_s += answer
            await asyncio.Event().wait()
        assert isinstance(answer, tuple)
        return answer

    async def sleep(self, seconds: float) -> None:
        self.now_s += max(seconds, 0.001)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[SlurmClient]:
        yield self

    def source(self, ticks: int) -> Slurm:
        return Slurm(
            self.opened,
            SlurmScheduler("iad-1"),
            site="iad-1",
            ticks=ticks,
            deadline_s=0.05,
            clock=lambda: self.now_s,
            sleep=self.sleep,
        )


async def all_of(source: Slurm) -> list[Emission]:
    async with aclosing(source.emissions()) as run:
        return [emission async for emission in run]


def failures(emissions: list[Emission]) -> list[tuple[str, str, str]]:
    return [(e.endpoint, e.reason, e.site) for e in emissions if isinstance(e, SourceFailure)]


async def test_it_polls_on_multiples_of_its_pace_and_emits_what_is_new() -> None:
    slurm = ScriptedSlurm(ANSWER, ANSWER)
    emitted = await all_of(slurm.source(2))
    assert [e.derived.name for e in emitted if isinstance(e, Event)] == ["allocation", "job", "node_state"]
    assert [round(s - T) for s in slurm.asked_s] == [0, 10]


async def test_a_failed_poll_is_named_and_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    down = SlurmFailure("exit-code", "squeue ended with 1: Unable to contact slurm controller")
    source = ScriptedSlurm(ANSWER, down, down, ANSWER).source(4)
    emitted = await all_of(source)
    assert failures(emitted) == [("slurm", "exit-code", "iad-1")] * 2
    assert sum(e.derived.name == "allocation" for e in emitted if isinstance(e, Event)) == 1
    assert source.errors == {}
    assert [r.levelname for r in caplog.records if "Unable to contact" in r.getMessage()] == ["WARNING"]


async def test_while_slurm_gives_no_answer_the_source_states_so() -> None:
    source = ScriptedSlurm(("slurm_load_jobs error", "")).source(1)
    assert failures(await all_of(source)) == [("slurm", "no-json", "iad-1")]
    assert "no-json" in source.errors["slurm"]


async def test_an_answer_that_does_not_come_is_a_failure_and_delays_the_next_poll() -> None:
    slurm = ScriptedSlurm(33.0, ANSWER)
    emitted = await all_of(slurm.source(2))
    assert failures(emitted) == [("slurm", "timeout", "iad-1")]
    assert [round(s - T) for s in slurm.asked_s] == [0, 40]


async def test_gpus_whose_indices_slurm_does_not_state_are_marked_once_a_minute() -> None:
    source = ScriptedSlurm(*[COUNTED] * 8).source(8)
    emitted = await all_of(source)
    assert failures(emitted) == [("slurm no-gpu-index", "no-gpu-index", "iad-1")] * 2
    assert "gres.conf" in source.errors["slurm no-gpu-index"]


def program(folder: Path, name: str, body: str) -> None:
    path = folder / name
    path.write_text(f"#!{sys.executable}\n{body}\n")
    path.chmod(0o755)


@pytest.mark.service(2)
async def test_the_commands_answer_through_a_prefix(tmp_path: Path) -> None:
    program(tmp_path, "login", "import sys; print(sys.argv[1:])")
    jobs, nodes = await SlurmCommands([str(tmp_path / "login"), "--"]).ask()
    assert jobs == "['--', 'squeue', '--json', '--all', '--states=all']\n"
    assert nodes == "['--', 'sinfo', '--json', '--all', '--Node']\n"


@pytest.mark.service(2)
async def test_a_command_that_fails_gives_its_last_words(tmp_path: Path) -> None:
    program(tmp_path, "login", "import sys; sys.exit('slurm_load_node: Unable to contact slurm controller')")
    with pytest.raises(SlurmFailure, match="ended with 1: slurm_load_node: Unable to contact") as caught:
        await SlurmCommands([str(tmp_path / "login")]).ask()
    assert caught.value.reason == "exit-code"


@pytest.mark.service(2)
async def test_a_command_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    body = "import os, subprocess, pathlib, time\nchild = subprocess.Popen(['sleep', '600'])\n"
    body += f"path = pathlib.Path('{pids}')\npath.with_suffix('.new').write_text(f'{{os.getpid()}} {{child.pid}}')\n"
    body += "path.with_suffix('.new').rename(path)\ntime.sleep(600)"
    program(tmp_path, "login", body)
    asked = asyncio.create_task(SlurmCommands([str(tmp_path / "login")]).ask())
    await _until(pids.exists)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    for pid in map(int, pids.read_text().split()):
        await _until(partial(_ended, pid))


async def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


def _ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


async def test_a_command_that_is_not_there_is_a_failure() -> None:
    with pytest.raises(SlurmFailure, match="cannot be started"):
        await SlurmCommands(["/nowhere/login"]).ask()


def test_it_is_a_source_with_its_options() -> None:
    flags = {option.flag for option in registry.SOURCES["slurm"].options}
    assert {"--slurm-url", "--slurm-every", "--slurm-command", "--slurm-places", "--site", "--ticks"} <= flags


@pytest.mark.parametrize(
    ("settings", "wrong"),
    [
        (lambda: SlurmSettings(slurm_url="ftp://host"), "http"),
        (lambda: SlurmSettings(slurm_url="http://host:99999"), "http"),
        (lambda: SlurmSettings(slurm_url="http://me:secret@host"), TOKEN),
        (lambda: SlurmSettings(slurm_url="http://host", slurm_command="ssh login"), "give one"),
        (lambda: SlurmSettings(slurm_command="'"), "--slurm-command"),
        (lambda: SlurmSettings(slurm_command="/nowhere/login"), "PATH"),
        (lambda: SlurmSettings(slurm_url="http://host", slurm_token_file="/nowhere/t"), "cannot be read"),  # noqa: S106
        (lambda: SlurmSettings(slurm_url="http://host", slurm_places="/nowhere/places.csv"), "--slurm-places"),
    ],
)
def test_options_that_cannot_be_met_state_why(settings: Callable[[], SlurmSettings], wrong: str) -> None:
    with pytest.raises(SourceError, match=wrong) as caught:
        settings().build(BuildContext(0.0))
    assert "secret" not in str(caught.value)


def test_the_token_comes_from_the_environment_or_a_file_as_scontrol_writes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("SLURM_JWT=abc\n")
    monkeypatch.delenv(TOKEN_FILE, raising=False)
    monkeypatch.setenv(TOKEN, "xyz")
    assert SlurmSettings().token() == "xyz"
    monkeypatch.setenv(TOKEN_FILE, os.fspath(tmp_path / "token"))
    assert SlurmSettings().token() == "abc"
    assert SlurmSettings(slurm_token_file=os.fspath(tmp_path / "token")).token() == "abc"


def test_it_describes_itself() -> None:
    assert SlurmSettings(slurm_url="unix:/run/slurmrestd").build(BuildContext(0.0)).describe == (
        "slurm: unix:/run/slurmrestd, polled every 10 s"
    )
