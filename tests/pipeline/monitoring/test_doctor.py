"""`gigawatch doctor` lists each process of a factory with its health, and ends with 1 when one does not work."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pipeline.cli import gigawatch
from pipeline.embedded.process import free_port
from pipeline.instance import Instance, run_dir


@pytest.mark.parametrize(
    ("producer", "mark", "sentence"),
    [
        ({}, " ok ", "ready"),
        ({"refused_rows": 72}, "BAD ", "72 rows were dropped in messages larger than Kafka takes"),
        ({"source_state": "restarting", "source_errors": {"nvml": "driver not loaded"}}, "BAD ", "driver not loaded"),
        ({"source_errors": {"node-7:9400": "timeout"}}, "note", "ready, degraded: the source cannot read node-7:9400"),
        ({"at": 1.0}, "BAD ", "no status from it for"),
    ],
)
def test_a_producers_trouble_is_listed(tmp_path: Path, producer: dict[str, Any], mark: str, sentence: str) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    Instance(os.getpid(), nowhere, f"http://{nowhere}", 1000).save(tmp_path)
    status = {"at": time.time(), "metrics_at": "http://127.0.0.1:9", **producer}
    (run_dir(tmp_path) / "producer.json").write_text(json.dumps(status))
    (run_dir(tmp_path) / "watch.json").write_text(json.dumps({"at": time.time()}))
    result = CliRunner().invoke(gigawatch, ["doctor", "--data-dir", str(tmp_path)])
    rows = [line for line in result.output.splitlines() if line[6:].startswith("producer ")]
    assert len(rows) == 1, result.output
    assert rows[0].startswith(mark)
    assert sentence in rows[0]
    assert rows[0].endswith("; metrics at http://127.0.0.1:9/metrics")
    assert result.exit_code == 1, "the broker does not answer"
