"""Real services for tests: the embedded ClickHouse and broker as processes, whole factories from the command line.

A service that cannot start is an error, never a skip.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipeline import kafka
from pipeline.embedded.broker import Tansu
from pipeline.embedded.ports import free_port, port_open
from pipeline.embedded.process import Process, wait_for

GIGAWATCH = [sys.executable, "-m", "pipeline"]


@contextmanager
def _clickhouse(folder: Path) -> Iterator[str]:
    port = free_port()
    process = Process(
        "clickhouse", [*GIGAWATCH, "clickhouse", "--port", str(port), "--data-dir", str(folder)], folder / "log"
    )
    process.start()
    try:
        wait_for(process, lambda: port_open(port), 60)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.stop()


@pytest.fixture(scope="session")
def clickhouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of an embedded ClickHouse behind its HTTP interface."""
    with _clickhouse(tmp_path_factory.mktemp("clickhouse")) as url:
        yield url


@pytest.fixture
def own_clickhouse(tmp_path: Path) -> Iterator[str]:
    """An embedded ClickHouse of this test alone: what it asks looks at everything that is stored."""
    with _clickhouse(tmp_path) as url:
        yield url


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[str]:
    """The address of a fresh embedded broker."""
    tansu = Tansu(tmp_path, free_port())
    tansu.start()
    yield tansu.bootstrap
    tansu.stop()


def run(*argv: str, timeout: float = 60, ok: bool = True) -> subprocess.CompletedProcess[str]:
    """`gigawatch ARGV`; with `ok` its exit code must be 0."""
    done = subprocess.run([*GIGAWATCH, *argv], capture_output=True, text=True, timeout=timeout, check=False)
    assert not ok or done.returncode == 0, (
        f"gigawatch {' '.join(argv)}: {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    )
    return done


def processes(folder: Path) -> dict[int, str]:
    """pid -> command line of every process that names the folder."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if str(folder) in line:
            found[int(path.parent.name)] = line
    return found


def pids(folder: Path, command: str) -> list[int]:
    """The factory's processes that run `gigawatch COMMAND`."""
    return [p for p, line in processes(folder).items() if f"-m pipeline {command} " in line]


@dataclass(slots=True)
class Running:
    """A factory started with `gigawatch up`; `finish` stops it as Ctrl-C does and gives its summary."""

    process: subprocess.Popen[str]
    folder: Path
    out: Path

    def until(self, ready: Callable[[], object], timeout: float = 60, what: str = "the factory") -> None:
        deadline = time.monotonic() + timeout
        while not ready():
            assert self.process.poll() is None, (
                f"the factory ended with {self.process.returncode}:\n{self.out.read_text()[-4000:]}"
            )
            assert time.monotonic() < deadline, f"{what}: not within {timeout} s\n{self.out.read_text()[-3000:]}"
            time.sleep(0.1)

    def kill(self, name: str) -> None:
        """SIGKILL to a process (`sink`, `stream-0`, `clickhouse`), and until the supervisor has another in its place
        that works.
        """
        command = name.split("-", maxsplit=1)[0]
        known = self.status(name).get("pid")
        old = known or pids(self.folder, command)[0]
        os.kill(old, signal.SIGKILL)
        self.until(
            lambda: (
                set(pids(self.folder, command)) - {old} and (known is None or self.status(name).get("pid", old) != old)
            ),
            60,
            f"another {name}",
        )

    def until_stored(self, rows: int, table: str = "gpu", timeout: float = 60) -> None:
        self.until(lambda: self.stored(table) > rows, timeout, f"{rows} rows of {table}")

    def status(self, name: str) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads((self.folder / "run" / f"{name}.json").read_text())
        except (OSError, ValueError):
            return {}
        return found

    def ask(self, question: str) -> list[dict[str, Any]]:
        """The rows that `gigawatch query` gives; where the factory is stopped, from its folder."""
        done = run("query", question, "--format", "JSONEachRow", "--data-dir", str(self.folder))
        return [json.loads(line) for line in done.stdout.splitlines()]

    def stored(self, table: str = "gpu") -> int:
        return int(self.status("sink").get("rows", {}).get(table, 0))

    def finish(self, timeout: float = 90) -> dict[str, Any]:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        code = self.process.wait(timeout)
        assert code == 0, f"exit code {code}:\n{self.out.read_text()[-4000:]}"
        found: dict[str, Any] = json.loads((self.folder / "summary.json").read_text())
        return found


Start = Callable[..., Running]

#: What every summary of a run has.
SUMMARY = {
    "frames_produced",
    "rows_produced",
    "rows_stored",
    "rows_missing",
    "rows_duplicate",
    "dead_letters",
    "freshness_p50_s",
    "freshness_p99_s",
    "cpu_s",
    "gpus",
    "metrics_per_gpu",
    "tick_s",
    "real_time_factor",
}


def whole(summary: dict[str, Any]) -> None:
    """Every row that was produced is stored, once."""
    assert set(summary) >= SUMMARY
    assert summary["rows_produced"] == summary["rows_stored"] > 0
    assert (summary["rows_missing"], summary["rows_duplicate"]) == (0, 0)
    assert summary["drained"] is True


@contextmanager
def factories(base: Path) -> Iterator[Start]:
    """Starts `gigawatch up` with the given options, each on its own folder under `base`; without the watch page unless
    --watch-port is among them.
    """
    started: list[Running] = []

    def start(*options: str) -> Running:
        folder = base / f"factory-{len(started)}"
        folder.mkdir()
        out = folder / "out.txt"
        quiet = () if "--watch-port" in options else ("--no-watch",)
        with out.open("w") as file:
            process = subprocess.Popen(
                [
                    *GIGAWATCH,
                    "up",
                    "--data-dir",
                    str(folder),
                    "--summary",
                    str(folder / "summary.json"),
                    *options,
                    *quiet,
                ],
                stdout=file,
                stderr=subprocess.STDOUT,
                text=True,
                env={**os.environ, "COLUMNS": "130"},
            )
        running = Running(process, folder, out)
        started.append(running)
        return running

    yield start
    for running in started:
        if running.process.poll() is None:
            running.process.send_signal(signal.SIGTERM)
            try:
                running.process.wait(20)
            except subprocess.TimeoutExpired:
                running.process.kill()
                running.process.wait(10)


@pytest.fixture
def factory(tmp_path: Path) -> Iterator[Start]:
    with factories(tmp_path) as start:
        yield start


class SinkProcess:
    """`gigawatch sink` and what it says of itself."""

    def __init__(self, folder: Path, broker: str, clickhouse: str, *options: str) -> None:
        self._status = folder / "sink.json"
        self._status.unlink(missing_ok=True)
        self.process = Process(
            "sink",
            [
                *GIGAWATCH,
                "sink",
                "--broker",
                broker,
                "--clickhouse",
                clickhouse,
                "--status",
                str(self._status),
                *options,
            ],
            folder / "sink.log",
        )
        self.process.start()

    def said(self, name: str) -> Any:
        try:
            return json.loads(self._status.read_text()).get(name)
        except (OSError, ValueError):
            return None

    def until(self, ready: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + 60
        while not ready():
            assert self.process.running, self.process.tail(40)
            assert time.monotonic() < deadline, f"{what}\n{self.process.tail(40)}"
            time.sleep(0.05)


@pytest.fixture
def sink(tmp_path: Path, broker: str, clickhouse: str) -> Iterator[Callable[..., SinkProcess]]:
    asyncio.run(kafka.ensure_topics(broker))
    started: list[SinkProcess] = []

    def start(*options: str) -> SinkProcess:
        for one in started:
            one.process.stop()
        started.append(SinkProcess(tmp_path, broker, clickhouse, *options))
        return started[-1]

    yield start
    for one in started:
        one.process.stop()


StartSink = Callable[..., SinkProcess]
