"""chDB (ClickHouse's engine in process): pools of connections, per-request settings, sessions. No HTTP here."""

from __future__ import annotations

import queue
import re
import threading
import time
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import chdb

from schemas.errors import GigawatchError

if TYPE_CHECKING:
    from collections.abc import Iterator

_CODE = re.compile(r"Code: (\d+)")
#: A question that runs away ends by itself.
_BOUNDS = ("max_execution_time = 120", "max_memory_usage = 8000000000", "max_result_bytes = 2000000000")
_SETTING = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class EngineError(GigawatchError):
    """ClickHouse refused a statement; `code` is ClickHouse's own number, `text` its message."""

    def __init__(self, text: str, code: int | None = None) -> None:
        found = _CODE.search(text)
        self.code = code if code is not None else int(found[1]) if found else 1002
        self.text = text[found.start() :].strip() if found else text.strip()
        super().__init__(self.text)


@dataclass(frozen=True, slots=True)
class Result:
    data: bytes
    rows_read: int
    bytes_read: int
    elapsed_s: float


@dataclass(slots=True)
class _Connection:
    raw: Any
    database: str = "default"


@dataclass(slots=True)
class _Session:
    connection: _Connection
    lock: threading.Lock
    expires: float


class Engine:
    """One engine path a process. `run` may be called from many threads; each call has a connection of its own."""

    def __init__(self, path: Path, connections: int = 4) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self._path = str(path)
        self._pools: dict[bool, queue.Queue[_Connection]] = {False: queue.Queue(), True: queue.Queue()}
        self._sessions: dict[tuple[str, bool], _Session] = {}
        self._guard = threading.Lock()
        try:
            for readonly in (False, True):
                for _ in range(connections):
                    self._pools[readonly].put(self._open(readonly))
        except RuntimeError as err:
            raise EngineError(
                f"cannot open the ClickHouse data in {path}: {err}. Is a factory still running on it?", 76
            ) from err

    def _open(self, readonly: bool) -> _Connection:
        connection = _Connection(chdb.connect(self._path))
        connection.raw.query("SET max_threads = 2")
        if readonly:
            for setting in _BOUNDS:
                connection.raw.query(f"SET {setting}")
            connection.raw.query("SET readonly = 2")
        return connection

    def run(
        self,
        sql: str | bytes,
        fmt: str = "TabSeparated",
        *,
        params: Mapping[str, str] | None = None,
        settings: Mapping[str, str] | None = None,
        database: str = "",
        readonly: bool = False,
        session: str = "",
        session_timeout_s: float = 60.0,
        session_check: bool = False,
    ) -> Result:
        """One statement; raises EngineError. Settings hold for this statement alone."""
        if session:
            with self._in_session((session, readonly), session_timeout_s, session_check) as connection:
                return self._execute(connection, sql, fmt, params or {}, settings or {}, database)
        pool = self._pools[readonly]
        connection = pool.get()
        try:
            return self._execute(connection, sql, fmt, params or {}, settings or {}, database or "default")
        finally:
            pool.put(connection)

    @contextmanager
    def _in_session(self, key: tuple[str, bool], timeout_s: float, check: bool) -> Iterator[_Connection]:
        with self._guard:
            for other in [k for k, s in self._sessions.items() if s.expires < time.monotonic() and not s.lock.locked()]:
                self._sessions.pop(other).connection.raw.close()
            found = self._sessions.get(key)
            if found is None:
                if check:
                    raise EngineError(f"Code: 372. DB::Exception: Session {key[0]} not found. (SESSION_NOT_FOUND)")
                found = self._sessions[key] = _Session(self._open(key[1]), threading.Lock(), 0.0)
            if not found.lock.acquire(blocking=False):
                raise EngineError(
                    f"Code: 373. DB::Exception: Session {key[0]} is locked by a concurrent client. (SESSION_IS_LOCKED)"
                )
        try:
            yield found.connection
        finally:
            found.expires = time.monotonic() + timeout_s
            found.lock.release()

    def _execute(
        self,
        connection: _Connection,
        sql: str | bytes,
        fmt: str,
        params: Mapping[str, str],
        settings: Mapping[str, str],
        database: str,
    ) -> Result:
        raw, began, applied = connection.raw, time.monotonic(), []
        try:
            if database and database != connection.database:
                raw.query(f"USE `{database.replace('`', '')}`")
                connection.database = database
            for name, value in settings.items():
                if not _SETTING.fullmatch(name):
                    raise EngineError(
                        f"Code: 115. DB::Exception: Setting {name} is neither a builtin setting nor a name. "
                        "(UNKNOWN_SETTING)"
                    )
                raw.query(f"SET {name} = '{_escape(value)}'")
                applied.append(name)
            result = raw.query(sql, fmt, params=dict(params)) if params else raw.query(sql, fmt)
            data = bytes(result.bytes() or b"") if result is not None else b""
            # of the answer, and of the tables: what was read for it
            read = (
                (
                    max(int(result.rows_read()), int(result.storage_rows_read())),
                    max(int(result.bytes_read()), int(result.storage_bytes_read())),
                )
                if result is not None
                else (0, 0)
            )
            return Result(data, *read, time.monotonic() - began)
        except EngineError:
            raise
        except Exception as err:  # chDB raises its own error class or RuntimeError, both with ClickHouse's text
            raise EngineError(str(err)) from err
        finally:
            for name in applied:
                raw.query(f"SET {name} = DEFAULT")

    def close(self) -> None:
        for pool in self._pools.values():
            while not pool.empty():
                pool.get_nowait().raw.close()
        for session in self._sessions.values():
            session.connection.raw.close()
        self._sessions.clear()


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "\\'")
