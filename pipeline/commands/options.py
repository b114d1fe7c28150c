"""What commands share: options, errors for people, running until a signal."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import click

from pipeline.embedded.factory import DEFAULT_DIR, Factory, running

data_dir = click.option("--data-dir", type=click.Path(path_type=Path, file_okay=False), default=DEFAULT_DIR, show_default=True,
                        help="The factory's folder: data, logs, addresses.")
broker = click.option("--broker", metavar="HOST:PORT", envvar="GIGAWATCH_BROKER", help="Kafka. Default: the factory that runs on --data-dir.")
clickhouse = click.option("--clickhouse", metavar="URL", envvar="GIGAWATCH_CLICKHOUSE",
                          help="ClickHouse, http://[USER:PASSWORD@]HOST:PORT. Default: the factory on --data-dir, running or stopped.")
status_file = click.option("--status", "status_file", type=click.Path(path_type=Path), hidden=True)
tick = click.option("--tick", "tick_s", type=click.FloatRange(min=0.01), default=1.0, show_default=True, help="Seconds between samples.")


class Trouble(click.ClickException):
    """An error for people: one line on standard error, exit code 1."""

    def show(self, file: Any = None) -> None:
        click.echo(f"gigawatch: {self.format_message()}", err=True)


def need_broker(given: str | None, folder: Path) -> str:
    if given:
        return given
    return need_factory(folder, "--broker HOST:PORT").bootstrap


def need_factory(folder: Path, instead: str) -> Factory:
    factory = running(folder)
    if factory is None:
        raise Trouble(f"no factory runs on {folder}: start one with `gigawatch up`, or give {instead}")
    return factory


def setup_logging(verbose: bool = False) -> None:
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, stream=sys.stderr,
                        format="%(asctime)s %(levelname).1s %(name)s: %(message)s", datefmt="%H:%M:%S")
    for noisy in ("aiokafka", "faust", "mode", "asyncio", "urllib3", "clickhouse_connect"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # faust-streaming issue 629: says a partition has sent no fetch request while it does
    logging.getLogger("faust.transport.drivers.aiokafka").setLevel(logging.ERROR)


def tame_gc() -> None:
    """Python's cycle collector walks every message in memory, which never form cycles: let it look a hundred times less often."""
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)


def until_signal(work: Callable[[asyncio.Event, asyncio.Event], Coroutine[Any, Any, int]]) -> int:
    """Runs `work(stop, abort)`: the first SIGTERM or Ctrl-C sets `stop`, a second one `abort`. Returns its exit code."""

    async def main() -> int:
        stop, abort = asyncio.Event(), asyncio.Event()

        def on_signal() -> None:
            (abort if stop.is_set() else stop).set()

        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, on_signal)
        return await work(stop, abort)

    return asyncio.run(main())
