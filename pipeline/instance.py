"""Where a factory on this machine lives: its folder, its addresses, whether it runs."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

DEFAULT_DIR = Path(".gigawatch")


@dataclass(frozen=True, slots=True)
class Instance:
    """A running factory's addresses, as written to `run/factory.json` of its folder."""

    pid: int
    bootstrap: str
    clickhouse: str
    tick_ms: int
    watch: str = ""

    def save(self, data_dir: Path) -> None:
        path = run_dir(data_dir) / "factory.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self)))


def run_dir(data_dir: Path) -> Path:
    return data_dir / "run"


def running(data_dir: Path) -> Instance | None:
    """The factory that runs on this folder; None when none does."""
    try:
        factory = Instance(**json.loads((run_dir(data_dir) / "factory.json").read_text()))
        os.kill(factory.pid, 0)
    except (OSError, ValueError, TypeError):
        return None
    return factory


def forget(data_dir: Path) -> None:
    (run_dir(data_dir) / "factory.json").unlink(missing_ok=True)
