"""`gigawatch doctor` lists each process of a factory with its health: bad, a note, or ok."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.commands.doctor import processes
from pipeline.instance import run_dir


@pytest.mark.parametrize(
    ("producer", "verdict", "sentence"),
    [
        ({}, "ok", "ready"),
        ({"refused_rows": 72}, "bad", "72 rows were dropped in messages larger than Kafka takes"),
        ({"source_state": "restarting", "source_errors": {"nvml": "driver not loaded"}}, "bad", "driver not loaded"),
        ({"source_errors": {"node-7:9400": "timeout"}}, "warn", "ready, degraded: the source cannot read node-7:9400"),
        ({"at": 1.0}, "bad", "no status from it for"),
    ],
)
def test_what_is_wrong_with_a_producer_is_listed(
    tmp_path: Path, producer: dict[str, Any], verdict: str, sentence: str
) -> None:
    run_dir(tmp_path).mkdir()
    status = {"at": time.time(), "metrics_at": "http://127.0.0.1:9", **producer}
    (run_dir(tmp_path) / "producer.json").write_text(json.dumps(status))
    (run_dir(tmp_path) / "watch.json").write_text(json.dumps({"at": time.time()}))
    ((name, check),) = processes(tmp_path)
    found, text = check()
    assert (name, found) == ("producer", verdict)
    assert sentence in text
    assert text.endswith("; metrics at http://127.0.0.1:9/metrics")
