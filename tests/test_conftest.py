"""The order of the tests: unit tests first, long services before short ones; in CI a broken unit test ends the run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

TESTS = """
import pytest
@pytest.mark.service
def test_short():
    pass
@pytest.mark.service(60)
def test_long():
    pass
def test_unit():
    assert {good}
"""


def _run(folder: Path, *, good: bool, ci: bool) -> str:
    (folder / "test_it.py").write_text(TESTS.format(good=good))
    options = ["-p", "tests.conftest", "-p", "no:cacheprovider", "-c", "pyproject.toml", f"--rootdir={ROOT}", "-v"]
    env = {k: v for k, v in os.environ.items() if k != "CI" and not k.startswith("PYTEST")} | (
        {"CI": "1"} if ci else {}
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(folder)],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode == 0) is good, done.stdout + done.stderr
    return done.stdout


def test_unit_tests_come_first_and_long_services_before_short_ones(tmp_path: Path) -> None:
    lines = _run(tmp_path, good=True, ci=True).splitlines()
    order = [line.split("::")[1].split(" ")[0] for line in lines if "PASSED" in line]
    assert order == ["test_unit", "test_long", "test_short"]


@pytest.mark.parametrize("ci", [False, True])
def test_in_ci_no_service_starts_after_a_unit_test_has_failed(tmp_path: Path, ci: bool) -> None:
    shown = _run(tmp_path, good=False, ci=ci)
    assert ("test_long PASSED" in shown) is not ci
    assert ("a unit test, so no service is started" in shown) is ci
    assert shown.splitlines()[-1].count("1 failed") == 1
