"""Fixtures: real recorded data where it is at hand, and factories of frames."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.factories import broker, clickhouse, factory, own_clickhouse, sink

__all__ = ["broker", "clickhouse", "factory", "own_clickhouse", "recorded", "sink"]

ROOT = Path(__file__).parents[1]
DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="session")
def recorded() -> Path:
    """Recorded data beside the checkout (not part of the repository); tests that want it are skipped without it."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no recorded data beside this checkout")
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long ones first, so that files that run beside each other end together."""
    items.sort(key=lambda item: item.get_closest_marker("service") is None)
