"""Assets through the running product: files are declared, stored and listed; an operator's word beats them."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from pipeline.embedded.process import Process
from tests.factories import GIGAWATCH, Start, run

pytestmark = pytest.mark.service(60)

RACKS = """
[[rack]]
name = "R[0001-0002]"
nodes = 2
gpus_per_node = 4
model = "GB200"
"""


def listed(folder: Path, *argv: str) -> dict[str, tuple[str, str]]:
    """Returns (state, by) by asset."""
    lines = run("asset", "list", *argv, "--limit", "100", "--data-dir", str(folder)).stdout.splitlines()
    cells = [line.split("\t") for line in lines[1:]]
    return {c[2]: (c[6], c[7]) for c in cells}


def test_files_are_declared_and_an_operators_word_beats_them(factory: Start, tmp_path: Path) -> None:
    running = factory("--source", "none")
    file = tmp_path / "site.toml"
    file.write_text(RACKS)
    produce = Process(
        "produce",
        [*GIGAWATCH, "produce", "inventory", "--inventory", str(file), "--data-dir", str(running.folder)],
        tmp_path / "produce.log",
    )
    running.until((running.folder / "run" / "factory.json").exists, 60, "a running factory")
    produce.start()
    try:
        running.until(lambda: len(listed(running.folder)) == 2 + 4 + 16, 60, "22 assets in the store")
        assert set(listed(running.folder).values()) == {("active", "csv")}

        run("asset", "maintenance", "R0002-N01", "--to", "2h", "--reason", "pump", "--data-dir", str(running.folder))
        out = {"R0002-N01", *(f"R0002-N01-GPU{i}" for i in range(4))}
        running.until(lambda: set(listed(running.folder, "--state", "maintenance")) == out, 30, "a node in maintenance")

        run("asset", "restore", "R0002-N01", "--data-dir", str(running.folder))
        running.until(lambda: not listed(running.folder, "--state", "maintenance"), 30, "a node that is back")

        file.write_text(RACKS.replace("R[0001-0002]", "R0001"))
        running.until(lambda: set(listed(running.folder, "rack")) == {"R0001"}, 30, "a rack that is gone")
    finally:
        produce.stop()
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(60) == 0
    assert (running.folder / "summary.json").exists()
