"""Options that several commands share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from pipeline import settings
from pipeline.commands.runtime import CommandError
from pipeline.instance import DEFAULT_DIR, Instance, running

DAY_MS = 86_400_000
CONFIG = "GIGAWATCH_CONFIG"

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
    """A callback: an address may carry a password in the environment or a config file, never on a command line."""
    if given and ctx.get_parameter_source(param.name or "") is ParameterSource.COMMANDLINE:
        settings.no_secret_in(given)
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


def trust(command: Any) -> Any:
    """Adds `--config` and an option for each setting that is no secret; these fill the environment, which child
    processes inherit.
    """

    def fill(ctx: click.Context, param: click.Parameter, given: str | None) -> None:
        if given:
            os.environ[f"GIGAWATCH_{param.name}".upper()] = given

    for s in reversed([s for s in settings.SETTINGS if not s.secret]):
        command = click.option(
            f"--{s.service}-{s.name}",
            metavar="FILE" if s.is_file else "NAME",
            callback=fill,
            expose_value=False,
            is_eager=True,
            help=s.help,
        )(command)
    return click.option(
        "--config",
        type=click.Path(path_type=Path, dir_okay=False),
        envvar=CONFIG,
        help="TOML with a section for each command and service; see docs/configuration.md.",
    )(command)


def need_broker(given: str | None, folder: Path) -> str:
    """Returns the broker's address: the given one, or that of the factory that runs on `folder`."""
    if given:
        return given
    return need_factory(folder, "--broker HOST:PORT").bootstrap


def need_factory(folder: Path, instead: str) -> Instance:
    """Returns the factory that runs on `folder`; CommandError names `instead` as the other way."""
    factory = running(folder)
    if factory is None:
        raise CommandError(f"no factory runs on {folder}: start one with `gigawatch up`, or give {instead}")
    return factory
