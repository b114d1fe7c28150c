"""A few seconds of coverage-guided fuzzing of each reader; `python -m tests.fuzz TARGET SECONDS` goes on for longer."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

TARGETS = ("codec", "deadletter", "text", "messages", "body", "segment")


@pytest.mark.parametrize("target", TARGETS)
def test_no_input_breaks_it_hangs_it_or_eats_the_memory(target: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", target, "4", "1"], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    ran = re.search(r"stat::number_of_executed_units: (\d+)", done.stderr)
    assert ran
    assert int(ran[1]) > 100
