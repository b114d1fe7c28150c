"""The names that other systems use for our metrics: `points/*.toml` in the folder of each source.

```
[[point]]
at = "DCGM_FI_DEV_GPU_UTIL_RATIO"   # the name there
is = "gpu.util_pct"                 # kind.metric of the catalogue
scale = 100                         # value here = value there * scale; 1 when it is missing
```
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from producers import sources
from producers.sources.source import SourceError
from schemas.catalogue import KINDS
from schemas.metric import Metric

_KEYS = {"at", "is", "scale"}


class PointsError(SourceError):
    """A points file that cannot be used: which file, which point, and what is wrong."""


@dataclass(frozen=True, slots=True)
class PointName:
    """`at` is what `system` calls `metric` of `kind`; value here = value there * scale."""

    system: str
    at: str
    kind: str
    metric: str
    scale: float = 1.0

    def __str__(self) -> str:
        return f"{self.system}:{self.at}" + (f" x {self.scale:g}" if self.scale != 1 else "")


@cache
def of(system: str) -> tuple[PointName, ...]:
    """Returns the names of one system, such as `dcgm`, in the order of its files. Raises PointsError."""
    return next((read(folder) for folder in _folders() if folder.name == system), ())


def every() -> Iterator[PointName]:
    """Yields the names of all systems, system by system."""
    for folder in _folders():
        yield from read(folder)


def by_name(system: str, kind: str) -> dict[str, tuple[Metric, float]]:
    """Returns (metric, scale) by the name that the system uses, for one kind."""
    return {p.at: (KINDS[kind][p.metric], p.scale) for p in of(system) if p.kind == kind}


def read(folder: Path) -> tuple[PointName, ...]:
    """Returns the names in `folder`/points/*.toml; the folder's name is the system. Raises PointsError."""
    found: dict[str, PointName] = {}
    for path in sorted((folder / "points").glob("*.toml")):
        try:
            entries = tomllib.loads(path.read_text(encoding="utf-8")).get("point", [])
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as err:
            raise PointsError(f"{path}: {err}") from err
        for number, entry in enumerate(entries, 1):
            point = _point(folder.name, entry, f"{path}, point {number}")
            if point.at in found:
                raise PointsError(f"{path}, point {number}: {point.at!r} is {found[point.at].metric} already")
            found[point.at] = point
    return tuple(found.values())


def _point(system: str, entry: dict[str, Any], where: str) -> PointName:
    at, scale = entry.get("at"), entry.get("scale", 1.0)
    kind, _, metric = str(entry.get("is", "")).partition(".")
    if unknown := sorted(set(entry) - _KEYS):
        raise PointsError(f"{where}: unknown key {', '.join(unknown)}; a point has at, is and scale")
    if not isinstance(at, str) or not at:
        raise PointsError(f"{where}: no name: at = {at!r}")
    if kind not in KINDS or metric not in {m.name for m in KINDS[kind].stored}:
        raise PointsError(f"{where}: is = {entry.get('is')!r} is no metric; `gigawatch catalogue` lists them")
    if isinstance(scale, bool) or not isinstance(scale, (int, float)) or not scale:
        raise PointsError(f"{where}: scale = {scale!r} is no factor")
    return PointName(system, at, kind, metric, float(scale))


def _folders() -> list[Path]:
    """Folders of sources that have points, by name."""
    return sorted(
        (p.parent for root in sources.__path__ for p in Path(root).glob("*/points")), key=lambda folder: folder.name
    )
