"""How a command runs: its errors, its log, and until which signal."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import click

from pipeline.terminal.escape import plain
from schemas.errors import GigawatchError


class _PlainFormatter(logging.Formatter):
    """Escapes control characters: a log line that quotes a message does nothing to the terminal that shows it."""

    def format(self, record: logging.LogRecord) -> str:
        return plain(super().format(record))


class CommandError(GigawatchError, click.ClickException):
    """A command cannot do its work: one line on standard error, exit code 1."""

    def show(self, file: Any = None) -> None:
        click.echo(f"gigawatch: {plain(self.format_message())}", err=True)


def setup_logging(verbose: bool = False) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_PlainFormatter("%(asctime)s %(levelname).1s %(name)s: %(message)s", "%H:%M:%S"))
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler])
    for noisy in ("aiokafka", "faust", "mode", "asyncio", "urllib3", "clickhouse_connect"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # faust-streaming issue 629: warns that a partition has sent no fetch request although it has
    logging.getLogger("faust.transport.drivers.aiokafka").setLevel(logging.ERROR)


def tame_gc() -> None:
    """Runs Python's cycle collector a hundred times less often: it walks every message in memory, and messages never
    form cycles.
    """
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)


def until_signal(work: Callable[[asyncio.Event, asyncio.Event], Coroutine[Any, Any, int]]) -> int:
    """Runs `work(stop, abort)` and returns its exit code: the first SIGTERM or Ctrl-C sets `stop`, a second `abort`."""

    async def main() -> int:
        stop, abort = asyncio.Event(), asyncio.Event()

        def on_signal() -> None:
            (abort if stop.is_set() else stop).set()

        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, on_signal)
        return await work(stop, abort)

    return asyncio.run(main())
