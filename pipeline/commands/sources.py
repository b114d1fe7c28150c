"""The options of the sources on the command line, and the source that they describe."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from producers.sources import registry
from producers.sources.options import BuildContext, Option

if TYPE_CHECKING:
    from producers.sources.source import Source

SOURCE_HELP = registry.help_text()


def source_options(command: Any) -> Any:
    """Adds the options of every source to a command."""
    for option in reversed(registry.options()):
        command = _click(option)(command)
    return command


def make_source(source: str, opts: dict[str, Any], control: Path | None = None) -> Source:
    """Returns the source that the options describe. Raises SourceError or HardwareError."""
    return registry.build(source, opts, BuildContext(time.time(), control))


def producer_argv(source: str, opts: dict[str, Any]) -> tuple[str, ...]:
    """Returns the arguments of `gigawatch produce` for the same source, built once here so that a mistake in its
    options ends the command before anything starts. Raises CommandError.
    """

    make_source(source, opts)
    return registry.argv(source, opts)


def _click(option: Option) -> Any:
    """Returns click's decorator for one option."""
    kind: Any = option.type
    if option.minimum is not None:
        ranged = click.IntRange if option.type is int else click.FloatRange
        kind = ranged(min=option.minimum)
    return click.option(
        option.flag,
        option.field,
        type=None if option.type is bool else kind,
        is_flag=option.type is bool,
        multiple=option.multiple,
        default=option.default,
        show_default=option.type is not bool and option.default not in (None, "", ()),
        metavar=option.metavar,
        hidden=option.hidden,
        help=option.help,
    )
