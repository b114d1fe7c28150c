"""Bodies of inserts as files in a scratch folder, in memory where the system has one; the engine reads them itself."""

from __future__ import annotations

import re
import uuid
from pathlib import Path

from aiohttp import web

from pipeline.embedded.clickhouse.chdb_engine import EngineError

MAX_BODY = 1 << 30
#: An insert up to where its data begin.
INSERT = re.compile(
    rb"\s*INSERT\s+INTO\s+(?:TABLE\s+)?(?P<into>(?:FUNCTION\s+)?[^\s(]+\s*(?:\((?:[^()]|\([^()]*\))*\))?)"
    rb"(?P<settings>\s*SETTINGS\s+[^;]*?)?\s*FORMAT\s+(?P<format>\w+)[ \t]*(?:\r?\n|;?[ \t]*$|[ \t])",
    re.IGNORECASE,
)


class InsertBodies:
    """Files are used again: fresh pages cost more than the copy."""

    def __init__(self, scratch: Path) -> None:
        scratch.mkdir(parents=True, exist_ok=True)
        self._scratch = scratch
        self._spare: list[Path] = []

    async def receive(self, request: web.Request) -> Path:
        """The request's body, written as it comes: it is never whole in this process's memory."""
        path, size = self._spare.pop() if self._spare else self._scratch / f"{uuid.uuid4()}.insert", 0
        path.touch()
        with path.open("r+b", buffering=0) as file:
            try:
                async for chunk in request.content.iter_any():
                    size += len(chunk)
                    if size > MAX_BODY:
                        raise EngineError(
                            f"Code: 161. DB::Exception: the body is larger than {MAX_BODY} bytes. (TOO_LARGE)"
                        )
                    file.write(chunk)
                file.truncate(size)
            except BaseException:
                self.release(path)
                raise
        return path

    def write(self, data: bytes | memoryview) -> Path:
        """Data that came within a statement."""
        path = self._scratch / f"{uuid.uuid4()}.insert"
        path.write_bytes(data)
        return path

    def release(self, path: Path) -> None:
        self._spare.append(path)


def insert_from(insert: re.Match[bytes], file: Path) -> str:
    """The statement of a match of INSERT with `file` in place of its data."""
    return (
        b"INSERT INTO "
        + insert["into"]
        + f" FROM INFILE '{file}'".encode()
        + (insert["settings"] or b"")
        + b" FORMAT "
        + insert["format"]
    ).decode()
