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


TOGETHER = """
import os, pytest
pytestmark = [pytest.mark.service, pytest.mark.xdist_group("these")]
@pytest.fixture(scope="module")
def worker():
    return os.environ["PYTEST_XDIST_WORKER"]
@pytest.mark.parametrize("n", range(8))
def test_it(worker, n):
    print("worker", worker)
"""


def _run(folder: Path, source: str, *more: str, good: bool = True, ci: bool = False) -> str:
    (folder / "test_it.py").write_text(source)
    options = ["-p", "tests.conftest", "-p", "no:cacheprovider", "-c", "pyproject.toml", "-v", *more]
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
    lines = _run(tmp_path, TESTS.format(good=True), ci=True).splitlines()
    order = [line.split("::")[1].split(" ")[0] for line in lines if "PASSED" in line]
    assert order == ["test_unit", "test_long", "test_short"]


@pytest.mark.parametrize("ci", [False, True])
def test_in_ci_no_service_starts_after_a_unit_test_has_failed(tmp_path: Path, ci: bool) -> None:
    shown = _run(tmp_path, TESTS.format(good=False), good=False, ci=ci)
    assert ("test_long PASSED" in shown) is not ci
    assert ("a unit test, so no service is started" in shown) is ci
    assert shown.splitlines()[-1].count("1 failed") == 1


def test_tests_that_share_a_fixture_stay_in_one_worker(tmp_path: Path) -> None:
    shown = _run(tmp_path, TOGETHER, "-n", "3", "--dist", "loadgroup", "-rP", f"--rootdir={tmp_path}")
    assert shown.count("PASSED") >= 8
    assert len({line for line in shown.splitlines() if line.startswith("worker gw")}) == 1
