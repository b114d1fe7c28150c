"""The hardware catalogue: GPUs, CPUs, DPUs and racks, read from `hardware.toml` and an operator's own file."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from schemas.errors import GigawatchError

ENV = "GIGAWATCH_HARDWARE"


class HardwareError(GigawatchError, ValueError):
    """A hardware file or model name is wrong; the message names it and what to do."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A number with its grade (A to D) and source."""

    value: float
    grade: str
    source: str


@dataclass(frozen=True, slots=True)
class Part:
    """A GPU, CPU or DPU model. Figures in the units of their names (W, MHz, MiB, C)."""

    name: str
    figures: dict[str, Figure]
    family: str = ""

    def __getitem__(self, name: str) -> float:
        if name not in self.figures:
            raise HardwareError(f"hardware model {self.name!r} has no {name!r}: add it to its table")
        return self.figures[name].value


@dataclass(frozen=True, slots=True)
class Rack:
    """A rack design: parts, counts, and how it is cooled."""

    name: str
    gpu: Part
    cpu: Part
    dpu: Part
    figures: dict[str, Figure]

    def __getitem__(self, name: str) -> float:
        if name not in self.figures:
            raise HardwareError(f"rack {self.name!r} has no {name!r}: add it to its table")
        return self.figures[name].value

    @property
    def gpus(self) -> int:
        return int(self["nodes"] * self["gpus_per_node"])

    @property
    def max_power_w(self) -> float:
        """All parts at TDP, W."""
        nodes = self["nodes"]
        return float(
            self.gpus * self.gpu["tdp_w"]
            + nodes * self["cpus_per_node"] * self.cpu["tdp_w"]
            + nodes * self["dpus_per_node"] * self.dpu["tdp_w"]
            + self["other_w"]
        )


@dataclass(frozen=True, slots=True)
class Hardware:
    gpus: dict[str, Part]
    cpus: dict[str, Part]
    dpus: dict[str, Part]
    racks: dict[str, Rack]

    def rack(self, name: str) -> Rack:
        """A rack by its name, or by its GPU's name (`GB200` is `NVL72-GB200`)."""
        if name in self.racks:
            return self.racks[name]
        for rack in self.racks.values():
            if rack.gpu.name.lower() == name.lower():
                return rack
        known = ", ".join(f"{r.name} ({r.gpu.name})" for r in self.racks.values())
        raise HardwareError(f"no rack or GPU model {name!r}; known: {known}. Add one in a file named by {ENV}")


def _figures(where: str, table: dict[str, Any]) -> dict[str, Figure]:
    figures = {}
    for key, entry in table.items():
        if isinstance(entry, str):
            continue
        try:
            figure = Figure(float(entry["value"]), str(entry["grade"]), str(entry["source"]))
        except (KeyError, TypeError, ValueError) as err:
            raise HardwareError(f"{where}.{key}: wants {{ value = NUMBER, grade = 'A'..'D', source = '...' }}") from err
        if figure.grade not in ("A", "B", "C", "D") or not figure.source or figure.value < 0:
            raise HardwareError(f"{where}.{key}: grade is A, B, C or D, the source not empty, the value not negative")
        figures[key] = figure
    return figures


def parse(tables: dict[str, Any]) -> Hardware:
    """Builds the catalogue from parsed TOML; raises HardwareError naming the table that is wrong."""
    parts = {
        group: {
            name: Part(name, _figures(f"{group}.{name}", table), table.get("family", ""))
            for name, table in tables.get(group, {}).items()
        }
        for group in ("gpu", "cpu", "dpu")
    }
    racks: dict[str, Rack] = {}
    raw = tables.get("rack", {})
    for name in raw:
        merged: dict[str, Any] = {}
        chain, base = [], name
        while base:
            if base not in raw or base in chain:
                raise HardwareError(f"rack.{name}: base {base!r} does not exist or leads back to itself")
            chain.append(base)
            base = raw[base].get("base", "")
        for link in reversed(chain):
            merged |= raw[link]
        for group in ("gpu", "cpu", "dpu"):
            if merged.get(group) not in parts[group]:
                raise HardwareError(
                    f"rack.{name}: {group} = {merged.get(group)!r} is not among {', '.join(parts[group])}"
                )
        racks[name] = Rack(
            name,
            parts["gpu"][merged["gpu"]],
            parts["cpu"][merged["cpu"]],
            parts["dpu"][merged["dpu"]],
            _figures(f"rack.{name}", merged),
        )
    return Hardware(parts["gpu"], parts["cpu"], parts["dpu"], racks)


@cache
def load(extra: str | None = None) -> Hardware:
    """The built-in catalogue, with `extra` (or the file named by GIGAWATCH_HARDWARE) laid over it."""
    tables = tomllib.loads(resources.files("schemas").joinpath("hardware.toml").read_text("utf-8"))
    path = extra or os.environ.get(ENV)
    if path:
        try:
            more = tomllib.loads(Path(path).read_text("utf-8"))
        except (OSError, tomllib.TOMLDecodeError) as err:
            raise HardwareError(f"hardware file {path}: {err}") from err
        for group, models in more.items():
            for name, table in models.items():
                merged = tables.setdefault(group, {}).setdefault(name, {})
                merged |= table
    return parse(tables)


HEADERS = ("part", "model", "figure", "value", "grade", "source")


def rows(hardware: Hardware) -> list[tuple[str, ...]]:
    """One row a figure, for the printed table."""
    groups: list[tuple[str, dict[str, Part] | dict[str, Rack]]] = [
        ("gpu", hardware.gpus),
        ("cpu", hardware.cpus),
        ("dpu", hardware.dpus),
        ("rack", hardware.racks),
    ]
    return [
        (group, model.name, name, f"{figure.value:g}", figure.grade, figure.source)
        for group, models in groups
        for model in models.values()
        for name, figure in model.figures.items()
    ]
