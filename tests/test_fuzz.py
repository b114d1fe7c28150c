"""A second of coverage-guided fuzzing of each reader; `make fuzz` gives each a minute."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

pytest.importorskip("atheris", reason="atheris has no wheel for this Python")
TARGETS = ("codec", "deadletter", "text", "messages", "body", "segment", "slurm")
#: Of each target, s.
SECONDS = int(os.environ.get("GIGAWATCH_FUZZ_SECONDS", "1"))
#: A run begins from good input, always with the same seed; a long one looks where nobody has looked, 0.
SEED = "1" if SECONDS < 10 else "0"


@pytest.mark.parametrize("target", TARGETS)
def test_no_input_breaks_it_hangs_it_or_eats_the_memory(target: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", target, str(SECONDS), SEED],
        capture_output=True,
        text=True,
        timeout=SECONDS + 120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    ran = re.search(r"stat::number_of_executed_units: (\d+)", done.stderr)
    assert ran
    assert int(ran[1]) > 100
