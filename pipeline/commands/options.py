"""What commands share: options, errors for people, running until a signal."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from pipeline import settings
from pipeline.instance import DEFAULT_DIR, Instance, running
from pipeline.terminal.escape import plain

DAY_MS = 86_400_000

data_dir = click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_DIR,
    show_default=True,
    help="The factory's folder: data, logs, addresses.",
)
broker = click.option(
    "--broker",
    metavar="HOST:PORT[,HOST:PORT...]",
    envvar="GIGAWATCH_BROKER",
    help="Kafka. Default: the factory that runs on --data-dir.",
)


def no_secret(ctx: click.Context, param: click.Parameter, given: Any) -> Any:
    """A callback: an address may carry a password when it comes from the environment, never from a command line."""
    if given and ctx.get_parameter_source(param.name or "") is ParameterSource.COMMANDLINE:
        try:
            settings.no_secret_in(given)
        except settings.SecurityError as err:
            raise CommandError(str(err)) from err
    return given


clickhouse = click.option(
    "--clickhouse",
    metavar="URL",
    envvar="GIGAWATCH_CLICKHOUSE",
    callback=no_secret,
    help="ClickHouse, http://[USER@]HOST:PORT or https://... Default: the factory on --data-dir, running or stopped.",
)
status_file = click.option("--status", "status_file", type=click.Path(path_type=Path), hidden=True)
metrics = click.option(
    "--metrics",
    "metrics",
    metavar="HOST:PORT",
    default="",
    help="Serve /metrics (Prometheus), /health, /live and /ready here.",
)
tick = click.option(
    "--tick", "tick_s", type=click.FloatRange(min=0.01), default=1.0, show_default=True, help="Seconds between samples."
)


class _Plain(logging.Formatter):
    """What a log quotes of messages does nothing to the terminal that shows it."""

    def format(self, record: logging.LogRecord) -> str:
        return plain(super().format(record))


class CommandError(click.ClickException):
    """An error for people: one line on standard error, exit code 1."""

    def show(self, file: Any = None) -> None:
        click.echo(f"gigawatch: {plain(self.format_message())}", err=True)


def trust(command: Any) -> Any:
    """`--config` and an option for each setting that is no secret; they fill the environment, which child processes
    share.
    """

    def fill(ctx: click.Context, param: click.Parameter, given: str | None) -> None:
        if given and param.name != "config":
            os.environ[f"GIGAWATCH_{param.name}".upper()] = given

    def config(_: click.Context, __: click.Parameter, given: Path | None) -> None:
        if given:
            try:
                settings.read_config(given, os.environ)
            except settings.SecurityError as err:
                raise CommandError(str(err)) from err

    for s in reversed([s for s in settings.SETTINGS if not s.secret]):
        command = click.option(
            f"--{s.service}-{s.name}",
            metavar="FILE" if s.name in ("ca", "cert", "key") else "NAME",
            callback=fill,
            expose_value=False,
            is_eager=True,
            help=s.help,
        )(command)
    return click.option(
        "--config",
        type=click.Path(path_type=Path, dir_okay=False),
        envvar="GIGAWATCH_CONFIG",
        callback=config,
        expose_value=False,
        help="TOML with a section for each service; see docs/security.md.",
    )(command)


def need_broker(given: str | None, folder: Path) -> str:
    if given:
        return given
    return need_factory(folder, "--broker HOST:PORT").bootstrap


def need_factory(folder: Path, instead: str) -> Instance:
    factory = running(folder)
    if factory is None:
        raise CommandError(f"no factory runs on {folder}: start one with `gigawatch up`, or give {instead}")
    return factory


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
