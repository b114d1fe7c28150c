"""Fixtures: real recorded data where it is at hand, and services; the order of the tests, and what a unit test may do."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests import sockets
from tests.factories import broker, clickhouse, factory, own_clickhouse, sink
from tests.schedule import Groups

__all__ = ["broker", "clickhouse", "factory", "own_clickhouse", "recorded", "sink"]

ROOT = Path(__file__).parents[1]
DATA = Path(__file__).parent / "data"

sockets.install()


@pytest.fixture(scope="session")
def recorded() -> Path:
    """Recorded data beside the checkout (not part of the repository); tests that want it are skipped without it."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no recorded data beside this checkout")
    return folder


def is_unit(item: pytest.Item) -> bool:
    """Whether the test starts no process of its own: it carries neither `service` nor `apache`."""
    return not any(item.get_closest_marker(name) for name in ("service", "apache"))


def _seconds(item: pytest.Item) -> float:
    """What the test's mark gives as its length: `@pytest.mark.service(120)`."""
    return max((float(m.args[0]) for m in item.iter_markers() if m.name in ("service", "apache") and m.args), default=0)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Unit tests first, so that a broken one shows within minutes; then services, the long ones first, so that workers
    end together.
    """
    items.sort(key=lambda item: (not is_unit(item), -_seconds(item)))
    # a worker is given its next test while it runs one: short ones wait behind the longest
    first, workers = sum(map(is_unit, items)), int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0"))
    if len(items) > first + 2 * workers:
        items[first + workers : first + workers] = [items.pop() for _ in range(workers)]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling | None:
    """With `--dist loadgroup`."""
    return Groups(config, log) if config.getoption("dist") == "loadgroup" else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """A unit test opens no TCP or UDP socket, nor do its fixtures."""
    sockets.allow(not is_unit(item))
    try:
        return (yield)
    finally:
        sockets.allow(True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A refused socket fails the test also where the code under test caught the error. In CI a unit test that fails
    ends the run: no service is started for code that is known to be wrong.
    """
    report = yield
    if report.passed and sockets.refused():
        report.outcome, report.longrepr = "failed", sockets.refused()[0]
    if report.failed and is_unit(item) and os.environ.get("CI"):
        item.session.shouldfail = f"{item.nodeid} failed: a unit test, so no service is started"
    return report
