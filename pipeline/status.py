"""What a process says of itself: a small JSON file, replaced whole once a second, that supervisors and people read."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Status:
    """Writes `collect()` plus pid, CPU seconds and peak memory to `path`; without a path it does nothing."""

    def __init__(self, path: Path | None, collect: Callable[[], dict[str, Any]]) -> None:
        self._path, self._collect = path, collect
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)

    def write(self) -> None:
        if self._path is None:
            return
        used = resource.getrusage(resource.RUSAGE_SELF)
        body = {"pid": os.getpid(), "at": time.time(), "cpu_s": round(used.ru_utime + used.ru_stime, 3),
                "peak_rss_mb": used.ru_maxrss // 1024, **self._collect()}
        part = self._path.with_suffix(".part")
        part.write_text(json.dumps(body))
        part.replace(self._path)

    async def keep(self, every_s: float = 1.0) -> None:
        """Writes until cancelled, and once more then."""
        try:
            while True:
                self.write()
                await asyncio.sleep(every_s)
        finally:
            self.write()


def read(path: Path) -> dict[str, Any]:
    """The last status, empty when there is none yet."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
