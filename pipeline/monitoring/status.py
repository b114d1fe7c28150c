"""The status file of a process: small JSON, replaced as a whole, that supervisors and `gigawatch doctor` read."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from aiohttp import web

from pipeline.monitoring.http import address, serve
from pipeline.monitoring.statuses import KINDS, ProcessStatus, kind_of, parse


class Status:
    """Reports a process's status. `name` is producer, sink, stream-0, ...; `listen` HOST:PORT (port 0: any) for HTTP.

    Without `path` and `listen` it does nothing.
    """

    def __init__(self, name: str, path: Path | None, collect: Callable[[], dict[str, Any]], listen: str = "") -> None:
        self._name, self._path, self._collect, self._listen = name, path, collect, listen
        self._address = ""
        self._runner: web.AppRunner | None = None
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)

    def snapshot(self) -> dict[str, Any]:
        """The status now, as the file holds it."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        return {
            **self._collect(),
            "pid": os.getpid(),
            "at": time.time(),
            "cpu_s": round(used.ru_utime + used.ru_stime, 3),
            "peak_rss_mb": used.ru_maxrss // 1024,
            "metrics_at": self._address,
        }

    def write(self) -> None:
        if self._path is None:
            return
        part = self._path.with_suffix(".part")
        part.write_text(json.dumps(self.snapshot()))
        part.replace(self._path)

    async def begin(self) -> Self:
        """Listens, if asked to. Raises AddressError when it must not listen there, or cannot."""
        if self._listen:
            self._runner = await serve(self._listen, lambda: {self._name: parse(self._name, self.snapshot())})
            self._address = address(self._runner)
        return self

    async def keep(self, every_s: float = 1.0) -> None:
        """Writes until cancelled, and once more then."""
        try:
            while True:
                self.write()
                await asyncio.sleep(every_s)
        finally:
            self.write()
            if self._runner is not None:
                await self._runner.cleanup()


def read(path: Path) -> dict[str, Any]:
    """The JSON of a status file; empty when there is none yet."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def read_all(folder: Path) -> dict[str, ProcessStatus]:
    """The last status of every process of a factory that writes one, by name."""
    return {path.stem: parse(path.stem, read(path)) for path in folder.glob("*.json") if kind_of(path.stem) in KINDS}
