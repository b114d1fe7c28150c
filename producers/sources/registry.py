"""Which sources there are. A source is a folder beside this file whose package registers its settings with `source`:

    @source("dcgm", help="dcgm-exporters: give each with --endpoint")
    @dataclass(frozen=True, slots=True)
    class DcgmSettings:
        endpoints: tuple[str, ...] = option("--endpoint", (), "An exporter's /metrics.")
        def build(self, context: BuildContext) -> Source: ...

The options of `produce` and `up`, their help, the rows of `doctor` and the table of docs/producers.md follow from it.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from producers import sources
from producers.sources.options import BuildContext, Option, argument_of, options_of

if TYPE_CHECKING:
    from producers.sources.source import Source

#: The source of a command that names none; listed first.
DEFAULT = "synthetic"


class RegistryError(TypeError):
    """Two sources that cannot stand beside each other: one name, or one option with two meanings."""


class Settings(Protocol):
    """The options of one source. `build` raises SourceError, and imports what the source needs only then.

    A static method `readiness() -> (bool, sentence)` may check whether this machine has what the source needs.
    """

    def build(self, context: BuildContext) -> Source: ...


S = TypeVar("S", bound=Settings)


@dataclass(frozen=True, slots=True)
class SourceType:
    """A source that can be made: its name, a line of help, and the class of its settings."""

    name: str
    help: str
    settings: type[Settings]
    hidden: bool = False

    @property
    def form(self) -> str:
        """As it is given on the command line, such as `replay:PATH`."""
        argument = argument_of(self.settings)
        return f"{self.name}:{argument[1]}" if argument else self.name

    @property
    def options(self) -> tuple[Option, ...]:
        return options_of(self.settings)

    @property
    def folder(self) -> Path:
        return Path(str(sys.modules[self.settings.__module__].__file__)).parent

    def readiness(self) -> tuple[bool, str]:
        """Returns whether the source can run on this machine, and a sentence."""
        check: Callable[[], tuple[bool, str]] | None = getattr(self.settings, "readiness", None)
        return check() if check else (True, f"source {self.form}: {self.help}")

    def parse(self, given: str, values: Mapping[str, Any]) -> Settings:
        """Returns the settings of `given`, NAME or NAME:ARGUMENT, with option values by field. Raises SourceError."""
        from producers.sources.source import SourceError

        _, _, text = given.partition(":")
        argument, filled = argument_of(self.settings), {o.field: values[o.field] for o in self.options}
        if bool(text) != bool(argument):
            raise SourceError(f"source {given!r}: it is {self.form}")
        if argument:
            filled[argument[0]] = text
        return self.settings(**filled)


_registered: dict[str, SourceType] = {}


def source(name: str, *, help: str, hidden: bool = False) -> Callable[[type[S]], type[S]]:  # noqa: A002 - click's name
    """Registers a settings dataclass as the source `name`. `hidden`: it works, and no help shows it."""

    def register(settings: type[S]) -> type[S]:
        if name in _registered:
            raise RegistryError(f"source {name!r} is registered by {_registered[name].settings.__module__} already")
        _registered[name] = SourceType(name, help, settings, hidden)
        return settings

    return register


class _Sources(Mapping[str, SourceType]):
    """Sources by name, the default first, then by the alphabet; the folders are read at first use."""

    def __getitem__(self, name: str) -> SourceType:
        return _discovered()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(_discovered())

    def __len__(self) -> int:
        return len(_discovered())


SOURCES: Mapping[str, SourceType] = _Sources()


@cache
def _discovered() -> dict[str, SourceType]:
    for package in [m.name for m in pkgutil.iter_modules(sources.__path__, f"{sources.__name__}.") if m.ispkg]:
        importlib.import_module(package)
        if importlib.util.find_spec(f"{package}.settings"):
            importlib.import_module(f"{package}.settings")
    return {name: _registered[name] for name in sorted(_registered, key=lambda n: (n != DEFAULT, n))}


def shown() -> list[SourceType]:
    """Returns the sources that help and docs show."""
    return [s for s in SOURCES.values() if not s.hidden]


def options() -> tuple[Option, ...]:
    """Returns every option of every source once. Raises RegistryError where two sources mean two things by one."""
    by_flag: dict[str, Option] = {}
    by_field: dict[str, Option] = {}
    for kind in SOURCES.values():
        for each in kind.options:
            known = by_flag.get(each.flag) or by_field.get(each.field)
            if known is not None and known != each:
                raise RegistryError(
                    f"source {kind.name}: {each.flag} ({each.field}) differs from {known.flag} ({known.field}) of "
                    "another source; declare it once in producers/sources/options.py, or give it another name"
                )
            by_flag[each.flag] = by_field[each.field] = each
    return tuple(by_flag.values())


def build(given: str, values: Mapping[str, Any], context: BuildContext) -> Source:
    """Returns the source of `given`, NAME or NAME:ARGUMENT, with the option values by field. Raises SourceError."""
    return find(given).parse(given, values).build(context)


def find(given: str) -> SourceType:
    """Returns the source of `given`, NAME or NAME:ARGUMENT. Raises SourceError."""
    from producers.sources.source import SourceError

    name = given.partition(":")[0]
    if name not in SOURCES:
        raise SourceError(f"no source {given!r}: it is {forms('or')}")
    return SOURCES[name]


def argv(given: str, values: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the command line that gives these values of the source's options to another process."""
    words = [given]
    for each in find(given).options:
        value = values[each.field]
        if each.type is bool:
            words += [each.flag] if value else []
        elif each.multiple:
            words += [word for one in value for word in (each.flag, one)]
        elif value is not None:
            words += [each.flag, str(value)]
    return tuple(words)


def forms(last: str = "") -> str:
    """Returns `synthetic, dcgm, ... replay:PATH`, with a word such as `or` before the last."""
    names = [s.form for s in shown()]
    return ", ".join(names[:-1]) + (f" {last} " if last else ", ") + names[-1]


def help_text() -> str:
    """Returns the sources with their lines of help, for the end of a command's help."""
    return "SOURCE is one of\n\n\b\n" + "".join(f"  {s.form:20s} {s.help}\n" for s in shown())


HEADERS = ("source", "what it reads", "options")


def rows() -> list[tuple[str, str, str]]:
    """Returns (form, what it reads, options) per source."""
    return [(s.form, s.help, ", ".join(_usages(s))) for s in shown()]


def markdown() -> str:
    """Returns the same as a Markdown table with links to the sources' own pages, from a page in docs/."""
    lines = [f"| {' | '.join(HEADERS)} |", "|" + "---|" * len(HEADERS)]
    for kind in shown():
        page = kind.folder / "README.md"
        name = f"`{kind.form}`"
        link = f"[{name}](../producers/sources/{kind.folder.name}/README.md)" if page.exists() else name
        cells = (link, kind.help, ", ".join(f"`{usage}`" for usage in _usages(kind)))
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _usages(kind: SourceType) -> list[str]:
    return [o.usage for o in kind.options if not o.hidden]
