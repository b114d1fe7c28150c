"""Real Apache Kafka, and everything broken on it: rows once, and every result what an undisturbed worker computes from the same log."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.bench.faults import FAULTS
from tests.factories import run
from tests.services.test_factory import whole

pytestmark = [pytest.mark.service, pytest.mark.apache]


def test_a_factory_on_apache_kafka_survives_everything_that_is_done_to_it(tmp_path: Path) -> None:
    """Time is not judged: only what is lost, doubled, or not the same to the last bit."""
    out = tmp_path / "faults.json"
    done = subprocess.run([sys.executable, "-m", "pipeline", "bench", "faults", "--quick", "--json", str(out), "--folder", str(tmp_path)], capture_output=True, text=True,
                          timeout=1500, check=False)
    assert done.returncode == 0, done.stderr[-6000:]
    result = json.loads(out.read_text())
    assert set(result["faults"]) == {fault.name for fault in FAULTS}
    assert all(fault["rows"] > 0 == fault["lost"] == fault["twice"] for fault in result["faults"].values())
    assert result["rows_produced"] == result["rows_stored"] > 30_000
    assert {"sink", "stream-0", "broker", "clickhouse"} <= set(result["restarts"])
    compared = result["compared"]
    assert all(c["wrong"] == 0 for c in compared.values())
    assert compared["rollup_gpu"]["rows"] > 3000
    assert compared["score"]["rows"] > 0
    assert compared["incident"]["rows"] > 0
    assert "all the same to the last bit" in done.stdout


def test_a_log_on_disk_is_taken_up_again(tmp_path: Path) -> None:
    for name in ("first", "second"):
        summary = tmp_path / f"{name}.json"
        run("up", "--data-dir", str(tmp_path / "f"), "--broker", "apache", "--racks", "1", "--seconds", "12", "--summary", str(summary), timeout=240)
        whole(json.loads(summary.read_text()))
