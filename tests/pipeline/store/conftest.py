"""A store in a folder of its own, on the real engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client

from pipeline.store.client import open_folder


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Client]:
    """Without tables."""
    (tmp_path / "clickhouse").mkdir()
    made = open_folder(tmp_path)
    yield made
    made.close()
