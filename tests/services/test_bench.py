"""The benchmark, small: it runs, its results are true, and its JSON has what is asked of it. Time is not judged."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.factories import SUMMARY

pytestmark = pytest.mark.service(60)

#: DESIGN's summary keys, and what the benchmark adds.
KEYS = SUMMARY | {"bytes_per_value"}


def bench(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pipeline", "bench", *argv], capture_output=True, text=True, timeout=300, check=False
    )


def test_a_small_end_to_end_run_is_true_and_says_so(tmp_path: Path) -> None:
    out = tmp_path / "r.json"
    done = bench("end-to-end", "--quick", "--gpus", "1440", "--json", str(out), "--folder", str(tmp_path))
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(out.read_text())
    assert result.keys() >= KEYS
    assert (result["part"], result["gpus"], result["metrics_per_gpu"], result["wrong"]) == ("end-to-end", 1440, 25, 0)
    assert result["rows_stored"] == result["rows_produced"] > 15 * 1440
    assert result["checked"]["windows"] > 0
    assert result["checked"]["rollups"] > 0
    assert "real time" in done.stdout
    again = bench("worker", "--quick", "--gpus", "720", "--compare", str(out))
    assert again.returncode == 0, again.stderr[-2000:]
    assert "GPUs a worker core" in again.stdout
