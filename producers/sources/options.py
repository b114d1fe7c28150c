"""How a source declares its options: fields of its settings. Those that several sources have are declared here, once.

Standard library only: the command line reads all of it before it knows which source runs.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

DEFAULT_SITE = "site-1"


@dataclass(frozen=True, slots=True)
class Option:
    """An option of the command line that fills `field` of a source's settings. `minimum` bounds numbers; a bool is a
    flag; with `multiple` the values are strings, and the option may be repeated.
    """

    flag: str
    type: type
    default: Any
    help: str
    minimum: float | None = None
    metavar: str | None = None
    multiple: bool = False
    hidden: bool = False
    field: str = ""

    @property
    def usage(self) -> str:
        """As a table shows it, such as `--endpoint [RACK/NODE=]URL`."""
        return f"{self.flag} {self.metavar}" if self.metavar else self.flag


@dataclass(frozen=True, slots=True)
class BuildContext:
    """What a source cannot know from its options: the time, and the file to which faults are appended while it runs."""

    now_s: float
    control: Path | None = None

    def start_ms(self, back_s: float | None, tick_s: float) -> int | None:
        """Returns the tick `back_s` ago, ms since 1970; None, which is now, without `back_s`."""
        return round((self.now_s - back_s) // tick_s * tick_s * 1000) if back_s else None


def option(
    flag: str,
    default: T,
    help: str,  # noqa: A002 - click's name for it
    *,
    type: type | None = None,  # noqa: A002 - as above
    minimum: float | None = None,
    metavar: str | None = None,
    hidden: bool = False,
) -> T:
    """Returns a field of a settings dataclass that the option fills. A tuple as default: it may be repeated.

    `type` is the default's; name it where the default is None.
    """
    multiple = isinstance(default, tuple)
    kind = str if multiple else type or default.__class__
    declared = Option(flag, kind, default, help, minimum, metavar, multiple, hidden)
    declaration: T = field(default=default, metadata={"option": declared})
    return declaration


def argument(metavar: str) -> str:
    """Returns a field of a settings dataclass for what follows the colon of `NAME:ARGUMENT`."""
    declaration: str = field(default="", metadata={"argument": metavar})
    return declaration


def options_of(settings: type) -> tuple[Option, ...]:
    """Returns the options of a settings dataclass, in the order of its fields."""
    return tuple(replace(f.metadata["option"], field=f.name) for f in fields(settings) if "option" in f.metadata)


def argument_of(settings: type) -> tuple[str, str] | None:
    """Returns (field, metavar) of what follows the colon; None when nothing does."""
    return next(((f.name, f.metadata["argument"]) for f in fields(settings) if "argument" in f.metadata), None)


def tick() -> float:
    return option("--tick", 1.0, "Seconds between samples.", minimum=0.01)


def seed() -> int:
    return option("--seed", 0, "Synthetic: same seed, same factory.")


def job_changes() -> float:
    return option(
        "--job-changes",
        0.0,
        "Synthetic, premade: so many nodes a second pass from one job to another.",
        minimum=0,
        hidden=True,
    )


def site() -> str:
    return option("--site", "", "The site's name. Default: site-1, or the one that a recording has.")


def speed() -> float:
    return option("--speed", 1.0, "Replay, synthetic: 2 is twice as fast, 0 as fast as it goes.", minimum=0)


def back() -> float | None:
    return option("--back", None, "Synthetic, premade: begin so many seconds ago.", type=float, minimum=0, hidden=True)


def ticks() -> int | None:
    return option("--ticks", None, "End after so many ticks.", type=int, minimum=1)
