"""The command line: one group, whose commands are modules of `pipeline.commands`, loaded when they are called."""

from __future__ import annotations

import importlib
import logging
import os
import sys
from pathlib import Path
from typing import Any

import click

from pipeline.commands import config_file, options
from pipeline.commands.runtime import CommandError
from schemas.errors import GigawatchError

#: Command -> (module:attribute, one line of help). Loaded when called.
_COMMANDS = {
    "up": ("pipeline.commands.up:up", "A whole factory on this machine, live; Ctrl-C stops it cleanly."),
    "produce": ("pipeline.commands.produce:produce", "A source's telemetry into Kafka."),
    "stream": ("pipeline.commands.stream:stream", "The faust worker: windows, scores, incidents."),
    "sink": ("pipeline.commands.sink:sink", "Kafka to ClickHouse, exactly once."),
    "query": ("pipeline.commands.query:query", "SQL, or a named query such as heat-balance."),
    "history": ("pipeline.commands.history:history", "One metric over time: table, CSV, Parquet or plot."),
    "tail": ("pipeline.commands.tail:tail", "Live frames as they come."),
    "top": ("pipeline.commands.top:top", "Site, racks, worst devices and incidents, live in the terminal."),
    "watch": ("pipeline.commands.watch:watch", "The dashboards in a browser, without Grafana."),
    "dashboards": ("pipeline.commands.dashboards:dashboards", "Grafana dashboards: build, check, push."),
    "inject": ("pipeline.commands.inject:inject", "A labelled fault into the running synthetic plant."),
    "asset": ("pipeline.commands.asset:asset", "Assets in maintenance or retired, by your word; and all, listed."),
    "dlq": ("pipeline.commands.dlq:dlq", "Dead-lettered messages: list, show, replay, drop."),
    "record": ("pipeline.commands.record:record", "Telemetry from Kafka or ClickHouse into Parquet, for replay."),
    "bench": ("pipeline.commands.bench:bench", "The published figures, measured on this machine beside their peers."),
    "doctor": ("pipeline.commands.doctor:doctor", "Which services can be reached, and what is missing."),
    "config": ("pipeline.commands.config:config", "The config file: check one, or print an example."),
    "catalogue": ("pipeline.commands.catalogue:catalogue", "The metric or hardware catalogue as a table."),
    "migrate": ("pipeline.commands.migrate:migrate", "ClickHouse tables: create missing ones, add columns."),
    "clickhouse": ("pipeline.commands.clickhouse:clickhouse", "The embedded ClickHouse alone, on loopback."),
}


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        module, _, attribute = _COMMANDS[name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])

    def main(self, *args: Any, **extra: Any) -> Any:
        """Runs a command; the one place that turns an error of ours into a line for people and exit code 1."""
        try:
            return super().main(*args, **extra)
        except GigawatchError as err:
            if not extra.get("standalone_mode", True):
                raise
            CommandError(str(err)).show()
            sys.exit(1)


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="gigawatch")
@options.trust
@click.pass_context
def gigawatch(ctx: click.Context, config: Path | None) -> None:
    """Gigawatch watches an AI factory: every GPU, every watt and every litre of coolant.

    Start with `gigawatch up`. In another terminal: `gigawatch top`, `gigawatch query heat-balance`.
    """
    for noisy in ("aiokafka", "clickhouse_connect"):  # our errors carry what these log
        logging.getLogger(noisy).addHandler(logging.NullHandler())
    if config is not None and ctx.invoked_subcommand != "config":  # which reports on a file that is wrong
        found = config_file.load(config, gigawatch)
        ctx.default_map = found.defaults
        found.fill(os.environ)
        os.environ[options.CONFIG] = str(config.absolute())  # the processes that `up` starts read it too


def main() -> None:
    gigawatch()
