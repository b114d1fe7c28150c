"""A child process: its output goes to a log file, it is stopped gently, and it ends with its parent."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from schemas.errors import GigawatchError

_PR_SET_PDEATHSIG = 1
#: Our own processes keep the memory they have used: they need the same hundreds of megabytes again a second later, and
#: the kernel takes longer to clear fresh pages than we take to fill them. `ARROW_DEFAULT_MEMORY_POOL`: Arrow too goes
#: through malloc; `JE_MALLOC_CONF`: ClickHouse's own allocator (chDB) gives back memory unused for two minutes, not
#: five seconds.
KEEP_MEMORY = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(4 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(8 << 30),
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "JE_MALLOC_CONF": "oversize_threshold:0,dirty_decay_ms:120000",
}
#: For programs with threads of their own.
KEEP_MEMORY_THREADS = {**KEEP_MEMORY, "MALLOC_ARENA_MAX": "2"}
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class ProcessError(GigawatchError, RuntimeError):
    """A process could not be started or ended badly; the message has the end of its log."""


class Process:
    """`gentle` is the signal that asks it to stop. It has a session of its own: Ctrl-C reaches only the parent."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        log: Path,
        *,
        env: dict[str, str] | None = None,
        gentle: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.name, self.argv, self.log, self.gentle = name, list(argv), log, gentle
        self._env = {**os.environ, **(env or {})}
        self._popen: subprocess.Popen[bytes] | None = None
        self.started = 0.0
        self.restarts = 0

    def start(self) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as out:
            try:
                self._popen = subprocess.Popen(
                    self.argv,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    env=self._env,
                    start_new_session=True,
                    preexec_fn=_die_with_parent,  # noqa: PLW1509
                )
            except OSError as err:
                raise ProcessError(f"cannot start {self.name} ({self.argv[0]}): {err}") from err
        self.started = time.monotonic()

    @property
    def pid(self) -> int:
        return self._popen.pid if self._popen else 0

    @property
    def code(self) -> int | None:
        """Its exit code, None while it runs or before it was started."""
        return self._popen.poll() if self._popen else None

    @property
    def running(self) -> bool:
        return self._popen is not None and self._popen.poll() is None

    def ask_to_stop(self) -> None:
        if self.running and self._popen:
            self._popen.send_signal(self.gentle)

    def stop(self, grace_s: float = 20.0) -> int:
        """Asks, waits `grace_s`, kills if it still runs; returns the exit code."""
        if self._popen is None:
            return 0
        self.ask_to_stop()
        try:
            return self._popen.wait(grace_s)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int:
        if self._popen is None:
            return 0
        self._popen.kill()
        return self._popen.wait(10)

    def tail(self, lines: int = 12) -> str:
        """The end of its log, for error messages."""
        try:
            return "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-lines:])
        except OSError:
            return ""

    def cpu_s(self) -> float:
        """CPU seconds used so far; 0 when it is gone."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def own_bytes(self) -> int:
        """Resident memory without mapped files; 0 when it is gone."""
        try:
            _, resident, shared = Path(f"/proc/{self.pid}/statm").read_text().split()[:3]
        except OSError:
            return 0
        return (int(resident) - int(shared)) * _PAGE

    def rss_bytes(self) -> int:
        """Resident memory; 0 when it is gone."""
        try:
            return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * _PAGE
        except OSError:
            return 0


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def wait_for(process: Process, ready: Callable[[], bool], timeout_s: float) -> None:
    """Waits until `ready()`. Raises ProcessError with the end of the log when the process ends or takes too long."""
    deadline = time.monotonic() + timeout_s
    while not ready():
        if not process.running:
            raise ProcessError(
                f"{process.name} ended with code {process.code} while starting. The end of "
                f"{process.log}:\n{process.tail()}"
            )
        if time.monotonic() > deadline:
            process.kill()
            raise ProcessError(
                f"{process.name} was not ready after {timeout_s:g} s. The end of {process.log}:\n{process.tail()}"
            )
        time.sleep(0.05)
