"""The same program on real Apache Kafka: whole, exactly once through kills, and two workers that share."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.factories import Running, run
from tests.services.test_factory import whole

pytestmark = [pytest.mark.service, pytest.mark.apache]


def test_a_factory_on_apache_kafka_survives_kills(factory: Callable[..., Running]) -> None:
    up = factory("--racks", "4", "--broker", "apache", "--workers", "2")
    up.until(lambda: up.stored("gpu_10s") > 0, 150)
    for victim in ("sink", "stream-1"):
        up.kill(victim)
    before = up.stored("gpu_10s")
    up.until(lambda: up.stored("gpu_10s") > before + 576, 120, "panes after the kills")
    summary = up.finish(150)
    whole(summary)
    assert summary["dead_letters"] == 0
    devices = run("query", "SELECT count() = uniqExact(device, ts) AS once, uniqExact(device) AS n FROM gpu_10s", "--format", "TSV", "--data-dir",
                  str(up.folder)).stdout.split()
    assert devices == ["1", "288"]
    panes = run("query", "SELECT count() AS n FROM gpu_10s GROUP BY ts ORDER BY ts", "--format", "TSV", "--data-dir", str(up.folder)).stdout.split()
    again = up.folder / "again.json"
    run("up", "--data-dir", str(up.folder), "--broker", "apache", "--racks", "2", "--seconds", "12", "--summary", str(again), timeout=180)
    whole(json.loads(again.read_text()))
    assert set(panes[:-1]) == {"288"}, "every pane has every GPU, whoever computed it"
