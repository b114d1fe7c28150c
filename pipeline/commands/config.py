"""`gigawatch config`: checks a config file, and prints one with every option of every command."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from pathlib import Path

import click

from pipeline import settings
from pipeline.commands import config_file
from pipeline.commands.config_file import Names, is_list, keys, section
from pipeline.commands.runtime import CommandError

_HEAD = """\
# Gigawatch's config file: every option of every command and every setting of every service, with its default or an
# example. Remove the # in front of a key to set it. `gigawatch config check FILE` checks a file.
# The command line comes first, then the environment, then this file, then the default. See docs/configuration.md.
"""


@click.group()
def config() -> None:
    """The config file that --config or GIGAWATCH_CONFIG names."""


@config.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), required=False)
@click.pass_context
def check(ctx: click.Context, file: Path | None) -> None:
    """Checks FILE (default: the one that --config or GIGAWATCH_CONFIG names) and prints what it sets.

    With problems: prints all of them and exits with 1.
    """
    root = ctx.find_root()
    path = file or root.params.get("config")
    if path is None:
        raise CommandError("no config file to check: give FILE, --config or GIGAWATCH_CONFIG")
    found = config_file.read(path, _group(ctx))
    if found.problems:
        for line in found.problems:
            click.echo(line, err=True)
        raise CommandError(f"{len(found.problems)} problem{'s' * (len(found.problems) > 1)} in {path}")
    click.echo(f"{path} is valid" + ("; it sets" if found.values else "; it sets nothing"))
    for line in found.values:
        click.echo(f"  {line}")


@config.command()
@click.pass_context
def example(ctx: click.Context) -> None:
    """Prints a config file with every option of every command, commented out."""
    click.echo(text(_group(ctx)), nl=False)


def text(group: click.Group) -> str:
    """Returns the example: services first, then commands; a section that is both stands once, as a service."""
    commands = dict(_commands(group))
    lines = [_HEAD.rstrip("\n")]
    for service in settings.SERVICES:
        command = commands.pop((service,), None)
        lines += ["", f"[{service}]"]
        for name, setting in settings.config_keys(service).items():
            from_file = setting.secret and name.endswith("_file")
            lines += _entry("The name of a file that holds it." if from_file else setting.help, name, _sample(name))
        if command:
            lines += ["", *_wrapped(f"The command `gigawatch {service}`.")]
            lines += _options(command)
    for names, command in commands.items():
        options = _options(command)
        if options:
            lines += ["", section(names), *_wrapped(command.get_short_help_str(200)), *options]
    return "\n".join(lines) + "\n"


def _group(ctx: click.Context) -> click.Group:
    command = ctx.find_root().command
    assert isinstance(command, click.Group)
    return command


def _commands(group: click.Group, above: Names = ()) -> Iterator[tuple[Names, click.Command]]:
    """Yields every command with its path."""
    ctx = click.Context(group)
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        if command is not None and (*above, name) != config_file.NOT_IN_IT:
            yield (*above, name), command
            if isinstance(command, click.Group):
                yield from _commands(command, (*above, name))


def _options(command: click.Command) -> list[str]:
    lines: list[str] = []
    for key, param in keys(command).items():
        if isinstance(param, click.Option) and param.hidden:
            continue
        about = (param.help or "") if isinstance(param, click.Option) else "The argument."
        if isinstance(param.type, click.Choice) and len(param.type.choices) < 8:
            about += f" One of {', '.join(map(str, param.type.choices))}."
        if isinstance(param, click.Option) and isinstance(param.envvar, str):
            about += f" Environment: {param.envvar}."
        lines += _entry(about, key, value_of(param))
    return lines


def value_of(param: click.Parameter) -> object:
    """Returns a key's default, or an example of its type where it has none."""
    default = param.to_info_dict().get("default")
    if isinstance(param, click.Option) and param.is_flag:
        return bool(default)
    if isinstance(default, Path):
        return str(default)
    if isinstance(default, (str, int, float)):
        return default
    one: object = param.metavar or str(param.name).upper()
    if isinstance(param.type, click.Choice):
        one = str(next(iter(param.type.choices)))
    elif isinstance(param.type, (click.IntRange, click.FloatRange)):
        one = param.type.min or 1
    elif isinstance(param.type, (click.types.IntParamType, click.types.FloatParamType)):
        one = 1
    elif isinstance(param.type, click.DateTime):
        one = "2026-01-31"
    elif isinstance(param.type, click.Path):
        one = "FILE" if param.type.file_okay else "FOLDER"
    return [one] if is_list(param) else one


def _sample(name: str) -> str:
    return {"ca": "ca.pem", "cert": "client.pem", "key": "client.key", "mechanism": "SCRAM-SHA-512"}.get(
        name, name.removesuffix("_file").upper() if not name.endswith("_file") else f"/run/secrets/{name[:-5]}"
    )


def _entry(about: str, key: str, value: object) -> list[str]:
    """Returns a key with its help above it, commented out: prose has a space after the #, keys have none."""
    shown = json.dumps(value, ensure_ascii=False) if not isinstance(value, bool) else str(value).lower()
    return [*_wrapped(about), f"#{key} = {shown}"]


def _wrapped(about: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(" ".join(about.split()), 117)]
