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


class _Plain(logging.Formatter):
    """What a log quotes of messages does nothing to the terminal that shows it."""

    def format(self, record: logging.LogRecord) -> str:
        return plain(super().format(record))


class CommandError(click.ClickException):
    """An error for people: one line on standard error, exit code 1."""

    def show(self, file: Any = None) -> None:
        click.echo(f"gigawatch: {plain(self.format_message())}", err=True)


def setup_logging(verbose: bool = False) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Plain("%(asctime)s %(levelname).1s %(name)s: %(message)s", "%H:%M:%S"))
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler])
    for noisy in ("aiokafka", "faust", "mode", "asyncio", "urllib3", "clickhouse_connect"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # faust-streaming issue 629: says a partition has sent no fetch request while it does
    logging.getLogger("faust.transport.drivers.aiokafka").setLevel(logging.ERROR)


def tame_gc() -> None:
    """Python's cycle collector walks every message in memory, which never form cycles: let it look a hundred times
    less often.
    """
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)


def until_signal(work: Callable[[asyncio.Event, asyncio.Event], Coroutine[Any, Any, int]]) -> int:
    """Runs `work(stop, abort)`: the first SIGTERM or Ctrl-C sets `stop`, a second one `abort`.

    Returns its exit code.
    """

    async def main() -> int:
        stop, abort = asyncio.Event(), asyncio.Event()

        def on_signal() -> None:
            (abort if stop.is_set() else stop).set()

        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, on_signal)
        return await work(stop, abort)

    return asyncio.run(main())
