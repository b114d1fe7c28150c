"""The peers' own Python environment, made once in the user's cache; and their programs, where Debian's packages put
them.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent


def python(progress: Callable[[str], None]) -> Path | None:
    """Returns the interpreter of the peers' environment; None when it cannot be made here."""
    wanted = (HERE / "requirements.txt").read_bytes()
    cache = (
        Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
        / "gigawatch"
        / f"peers-{hashlib.sha256(wanted).hexdigest()[:12]}"
    )
    found = cache / "bin" / "python"
    if (cache / "complete").exists():
        return found
    progress("making the peers' Python environment, once; this takes a minute")
    done = subprocess.run(
        [sys.executable, "-m", "venv", "--clear", str(cache)], capture_output=True, text=True, check=False
    )
    if not done.returncode:
        done = subprocess.run(
            [
                str(found),
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "-r",
                str(HERE / "requirements.txt"),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        progress(f"it cannot be made: {(done.stderr or done.stdout).strip().splitlines()[-1][:200]}")
        return None
    (cache / "complete").touch()
    return found


def program(*names: str) -> str | None:
    """Returns a program on PATH under one of its names."""
    return next((path for name in names if (path := shutil.which(name))), None)
