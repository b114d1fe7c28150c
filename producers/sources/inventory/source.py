"""Inventory files as events: read at the start, and again whenever one of them changes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path

from producers.emission import Emission, Event, SourceFailure
from producers.sources.declared import AssetRow, DeclaredRow, DeclaredRows, contained
from producers.sources.inventory.files import InventoryFile, read, together
from producers.sources.inventory.table import Mistake
from producers.sources.source import SourceError
from schemas.derived import QUALITY

log = logging.getLogger("gigawatch.inventory")

LOOK_S = 2.0
#: An unreadable file is reported so often, s.
REPORT_S = 60.0
MOST_SHOWN, MOST_BYTES = 20, 256 << 20

#: Of a file: time of its last change (ns) and its size; None where there is none.
_State = tuple[int, int] | None


class Inventory:
    """Looks at its files every `look_s` and reads one that has changed and has then stayed the same for one look, so
    that none is read while it is being written. `errors` has a sentence for each file with a mistake.

    A line that is gone ends its row; while a file cannot be read, or has a bad line, nothing that it held ends.
    """

    def __init__(
        self,
        files: Sequence[str],
        site: str,
        *,
        look_s: float = LOOK_S,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not files:
            raise SourceError("no inventory file given: name at least one, --inventory racks.csv")
        self._paths = [Path(name) for name in dict.fromkeys(files)]
        if missing := [str(path) for path in self._paths if not path.is_file()]:
            raise SourceError(f"inventory file {missing[0]}: there is no such file")
        self._site, self._look_s, self._sleep, self._clock = site, look_s, sleep, clock
        self._seen: dict[Path, _State] = {}
        self._read: dict[Path, InventoryFile] = {}
        self._rows = DeclaredRows("csv")
        #: What a file holds, and, since it has a bad line, what it held before.
        self._keys: dict[Path, set[tuple[str, ...]]] = {path: set() for path in self._paths}
        self.errors: dict[str, str] = {}

    @property
    def describe(self) -> str:
        return f"inventory: {', '.join(path.name for path in self._paths)}, read again when a file changes"

    async def emissions(self) -> AsyncGenerator[Emission]:
        reported = 0.0
        changed = [path for path in self._paths if self._load(path)]
        while True:
            if changed:
                for emission in self._emit(changed):
                    yield emission
                    await asyncio.sleep(0)
            now = self._clock()
            if now >= reported + REPORT_S:
                reported = now
                for path in self._paths:
                    if self._seen.get(path) is None:
                        yield SourceFailure(str(path), "unreadable", round(now * 1000), self._site)
            before = {path: self._state(path) for path in self._paths}
            await self._sleep(self._look_s)
            changed = [
                path
                for path in self._paths
                if (state := self._state(path)) == before[path] and state != self._seen.get(path) and self._load(path)
            ]

    def _state(self, path: Path) -> _State:
        try:
            stat = path.stat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_size

    def _load(self, path: Path) -> bool:
        """Reads a file; False when that fails, which is logged once a state of the file."""
        state = self._state(path)
        self._seen[path] = state
        try:
            if state is not None and state[1] > MOST_BYTES:
                raise OSError(f"it has more than {MOST_BYTES >> 20} MB")
            text = path.read_bytes().decode("utf-8", "replace")
        except OSError as err:
            self._seen[path] = None
            sentence = f"cannot be read: {err.strerror or err}"
            if self.errors.get(str(path)) != sentence:
                log.error("%s: %s; what it held before stays valid", path, sentence)  # noqa: TRY400 - no defect
            self.errors[str(path)] = sentence
            return False
        self._read[path] = read(str(path), text, self._site, (state[0] if state else 0) // 1_000_000)
        return True

    def _emit(self, changed: Sequence[Path]) -> Iterator[Event]:
        """Yields what follows from the files as they were last read, and a quality row for each with mistakes."""
        now_ms = round(self._clock() * 1000)
        rows, doubles = together(self._read[path] for path in self._paths if path in self._read)
        rows += contained(row for row in rows if isinstance(row, AssetRow))
        broken = [path for path in self._paths if self._seen.get(path) is None or self._read[path].mistakes]

        def keep(row: DeclaredRow) -> bool:
            return any(row.key in self._keys[path] for path in broken)

        yield from self._rows.update(rows, now_ms, keep)
        for path in changed:
            file = self._read[path]
            mine = [each.row for each in file.found]
            keys = {row.key for row in (*mine, *contained(row for row in mine if isinstance(row, AssetRow)))}
            self._keys[path] = keys | self._keys[path] if file.mistakes else keys
            mistakes = [*file.mistakes, *(m for m in doubles if m.where.startswith(f"{file.name}, "))]
            self._note(file, mistakes)
            if mistakes:
                yield Event(QUALITY, QUALITY.build_rows([self._quality(file.name, now_ms, len(mistakes))]))

    def _note(self, file: InventoryFile, mistakes: Sequence[Mistake]) -> None:
        """Logs what is wrong in a file and keeps a sentence of it for the status."""
        self.errors.pop(file.name, None)
        for mistake in mistakes[:MOST_SHOWN]:
            log.warning("%s", mistake)
        if mistakes:
            self.errors[file.name] = f"{len(mistakes)} mistakes in {file.entries} lines; the first: {mistakes[0]}"
            log.warning("%s: %s", file.name, f"{len(mistakes)} mistakes in {file.entries} lines; the others are taken")
        else:
            log.info("%s: %d lines, no mistake", file.name, file.entries)

    def _quality(self, name: str, now_ms: int, count: int) -> dict[str, object]:
        return {
            "ts": now_ms,
            "kind": "source",
            "site": self._site,
            "rack": "",
            "metric": name,
            "reason": "inventory-mistake",
            "count": count,
        }
