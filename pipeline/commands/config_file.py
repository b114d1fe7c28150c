"""The config file: TOML with a section for each command and each service, checked against click's own options.

`[up]` and `[dashboards.push]` are commands: their keys are the options as on the command line, with dashes or
underscores. `[kafka]` and `[users]` are services (`pipeline.settings`). `[clickhouse]` and `[watch]` are both, and take
the keys of both.
"""

from __future__ import annotations

import difflib
import json
import re
import stat
import tomllib
from collections.abc import Iterable, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from pipeline import settings
from pipeline.settings import SettingsError

Names = tuple[str, ...]
#: The command that reads the file as it is, and so takes nothing from it.
NOT_IN_IT: Names = ("config",)


def section(names: Names) -> str:
    """Returns a section's header, such as `[dashboards.push]`."""
    return f"[{'.'.join(names)}]"


def keys(command: click.Command) -> dict[str, click.Parameter]:
    """Returns a command's keys: each option by its long name, and each single argument that may be left out."""
    found: dict[str, click.Parameter] = {}
    for param in command.params:
        if isinstance(param, click.Option):
            found[max(param.opts, key=len).lstrip("-")] = param
        elif param.nargs == 1 and not param.required and param.name:
            found[param.name.replace("_", "-")] = param
    return found


def is_list(param: click.Parameter) -> bool:
    return param.nargs != 1 or param.multiple


def expected(param: click.Parameter) -> str:
    """Returns the type that a key takes in TOML, in words."""
    kinds = {
        bool: ("true or false", "true or false"),
        int: ("a whole number", "whole numbers"),
        float: ("a number", "numbers"),
    }
    one, many = kinds.get(_kind(param), ("text", "texts"))
    return f"a list of {many}" if is_list(param) else one


def _kind(param: click.Parameter) -> type:
    if isinstance(param, click.Option) and param.is_flag:
        return bool
    for known, kind in ((click.types.BoolParamType, bool), (click.types.IntParamType, int)):
        if isinstance(param.type, known):
            return kind
    return float if isinstance(param.type, click.types.FloatParamType) else str


def _fits(kind: type, value: object) -> bool:
    if kind in (int, float):
        return isinstance(value, int if kind is int else (int, float)) and not isinstance(value, bool)
    return isinstance(value, kind)


@dataclass(slots=True)
class ConfigFile:
    """What a file sets: `defaults` for click, nested by command; `environment` for services; `values` for people.

    `problems` lists everything that is wrong with it, each with the place.
    """

    path: Path
    text: str = ""
    defaults: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, tuple[settings.Setting, str]] = field(default_factory=dict)
    values: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    holds_secret: bool = False

    def fill(self, env: MutableMapping[str, str]) -> None:
        """Adds the services' settings that `env` leaves open; a secret is set there by its variable or by its file."""
        present = set(env)
        for variable, (setting, value) in self.environment.items():
            if not present & {setting.variable, f"{setting.variable}_FILE"}:
                env[variable] = value

    def problem(self, text: str, names: Names = (), key: str = "") -> None:
        line = _line(self.text, names, key)
        self.problems.append(f"{self.path}{f':{line}' if line else ''}: {text}")


def load(path: Path, group: click.Group) -> ConfigFile:
    """Reads a file that must be right. Raises SettingsError with its first problem and the number of others."""
    found = read(path, group)
    if found.problems:
        more = len(found.problems) - 1
        hint = f" ({more} more: `gigawatch config check {path}`)" if more else ""
        raise SettingsError(f"config file {found.problems[0]}{hint}")
    return found


def read(path: Path, group: click.Group) -> ConfigFile:
    """Reads a file and collects what it sets and what is wrong with it; loads only commands that the file names."""
    found = ConfigFile(path)
    try:
        found.text = path.read_text("utf-8")
        tables = tomllib.loads(found.text)
    except OSError as err:
        found.problem(f"it cannot be read: {err.strerror}")
        return found
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as err:
        found.problem(f"it is not TOML: {err}")
        return found
    ctx = click.Context(group)
    commands = [name for name in group.list_commands(ctx) if (name,) != NOT_IN_IT]
    for name, table in tables.items():
        if not isinstance(table, dict):
            found.problem(
                f"{name!r} stands outside a section; sections are commands and services, such as [up]", (), name
            )
        elif name in commands or name in settings.SERVICES:
            _section(found, (name,), table, group.get_command(ctx, name) if name in commands else None)
        else:
            found.problem(f"no section [{name}]{_nearest(name, (*commands, *settings.SERVICES), '[{}]')}", (name,))
    if found.holds_secret and path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
        found.problem(
            f"it holds a password and others may read it: chmod 600 {path}, or name a file with password_file"
        )
    return found


def _section(found: ConfigFile, names: Names, table: dict[str, Any], command: click.Command | None) -> None:
    """Takes one section, and those of its subcommands."""
    service = settings.config_keys(names[0]) if len(names) == 1 else {}
    options = keys(command) if command else {}
    inner = command if isinstance(command, click.Group) else None
    ctx = click.Context(command) if command else None
    for given, value in table.items():
        key, plain = given.replace("_", "-"), given.replace("-", "_")
        if isinstance(value, dict):
            sub = inner.get_command(ctx, key) if inner and ctx else None
            if sub is None:
                within = [".".join((*names, n)) for n in inner.list_commands(ctx)] if inner and ctx else []
                full = ".".join((*names, given))
                found.problem(f"no section [{full}]{_nearest(full, within, '[{}]')}", (*names, given))
            else:
                _section(found, (*names, key), value, sub)
        elif plain in service:
            _setting(found, names, given, service[plain], value)
        elif key in options:
            _option(found, names, given, options[key], value)
        else:
            known = (*service, *options)
            hint = _nearest(key, known, "{}") if known else "; its keys stand in the sections of its commands"
            found.problem(f"{section(names)} has no key {given!r}{hint}", names, given)


def _setting(found: ConfigFile, names: Names, key: str, setting: settings.Setting, value: object) -> None:
    if not isinstance(value, str):
        found.problem(f"{section(names)} {key}: it must be text", names, key)
        return
    from_file = setting.secret and key.replace("-", "_").endswith("_file")
    hidden = setting.secret and not from_file
    found.holds_secret |= hidden
    if from_file or (setting.is_file and value != "system"):
        value = str(found.path.parent / value)
    variable = setting.variable + ("_FILE" if from_file else "")
    found.environment[variable] = (setting, value)
    found.values.append(f"{section(names)} {key} = {'(hidden)' if hidden else value}")


def _option(found: ConfigFile, names: Names, key: str, param: click.Parameter, value: Any) -> None:
    kind, where = _kind(param), f"{section(names)} {key}"
    items = value if is_list(param) and isinstance(value, list) else [value]
    if isinstance(value, list) != is_list(param) or not all(_fits(kind, item) for item in items):
        found.problem(f"{where}: it must be {expected(param)}, not {json.dumps(value, default=str)}", names, key)
        return
    try:
        if isinstance(param.type, click.Path):
            items = [str(found.path.parent / item) for item in items]
        else:
            for item in items:
                param.type.convert(item, param, None)
    except click.BadParameter as err:
        found.problem(f"{where}: {err.message}", names, key)
        return
    hidden = any(isinstance(item, str) and _carries_password(item) for item in items)
    found.holds_secret |= hidden
    at = found.defaults
    for name in names:
        at = at.setdefault(name, {})
    if param.name in at:
        found.problem(f"{where}: it is set twice, with dashes and with underscores", names, key)
        return
    at[str(param.name)] = items if is_list(param) else items[0]
    found.values.append(f"{where} = {'(hidden)' if hidden else at[str(param.name)]}")


def _carries_password(text: str) -> bool:
    try:
        return bool(urlsplit(text).password)
    except ValueError:  # no address at all
        return False


def _nearest(given: str, known: Iterable[str], form: str) -> str:
    """Returns `: did you mean ...?`, or the whole list when nothing is near."""
    names = list(dict.fromkeys(known))
    near = difflib.get_close_matches(given, names, n=1) or difflib.get_close_matches(
        given.replace("-", "_"), names, n=1
    )
    if near:
        return f": did you mean {form.format(near[0])}?"
    return f"; there are {', '.join(form.format(n) for n in names)}" if names else ""


def _line(text: str, names: Names, key: str) -> int:
    """Returns the number of the line that holds a section's header or its key; 0 when it is written another way."""
    inside, wanted = not names, ".".join(names)
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[([^\[\]]+)\]", line)
        if header:
            inside = header[1].replace('"', "").replace(" ", "") in (wanted, wanted.replace("-", "_"))
            if inside and not key:
                return number
        elif inside and key and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=", line):
            return number
    return 0
