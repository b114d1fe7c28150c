"""The hardware catalogue: GPUs, CPUs, DPUs and racks, read from `hardware.toml` and an operator's own file."""

from __future__ import annotations

import json
import os
import re
import tomllib
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from schemas.errors import GigawatchError
from schemas.model_names import ModelNames, Spelling, is_profile, pattern, plain

ENV = "GIGAWATCH_HARDWARE"
GROUPS = ("gpu", "cpu", "dpu", "rack")
#: What a table holds besides figures: other names of the model, words that may stand in them, and PCI ids.
SPELLINGS = ("names", "words", "pci")


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
    """A GPU, CPU or DPU model. Figures in the units of their names (W, MHz, MiB, C). `pattern` matches the names that
    the field gives it, in Python and in ClickHouse.
    """

    name: str
    figures: dict[str, Figure]
    pattern: str
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
    """All models. `names` finds those of each group by any name of the field."""

    gpus: dict[str, Part]
    cpus: dict[str, Part]
    dpus: dict[str, Part]
    racks: dict[str, Rack]
    names: dict[str, ModelNames]

    def find(self, name: str) -> Part | None:
        """The GPU, CPU or DPU of a name from the field (`NVIDIA H100 80GB HBM3`, `10de:2330`, `h100_1g.10gb`); None for
        a name that the catalogue does not have.
        """
        for group, parts in (("gpu", self.gpus), ("cpu", self.cpus), ("dpu", self.dpus)):
            if model := self.names[group].find(name):
                return parts[model]
        return None

    def canonical(self, name: str) -> str:
        """The catalogue's name of the GPU, CPU, DPU or rack that the field calls `name`; the name itself without its
        vendor where the catalogue has none.
        """
        found = (self.names[group].find(name) for group in GROUPS)
        return next((model for model in found if model), plain(name))

    def rack(self, name: str) -> Rack:
        """A rack by any of its names, or by its GPU's (`GB200` is `NVL72-GB200`)."""
        if model := self.names["rack"].find(name):
            return self.racks[model]
        gpu = self.names["gpu"].find(name)
        for rack in self.racks.values():
            if rack.gpu.name == gpu:
                return rack
        known = ", ".join(f"{r.name} ({r.gpu.name})" for r in self.racks.values())
        raise HardwareError(f"no rack or GPU model {name!r}; known: {known}. Add one in a file named by {ENV}")


@dataclass(slots=True)
class UnknownModels:
    """Names each model that the catalogue lacks once, and at most `most` of them."""

    hardware: Hardware
    most: int = 100
    _seen: set[str] = field(default_factory=set)

    def note(self, name: str, group: str = "gpu") -> str | None:
        """What to add for an unknown model, the first time its name comes; None for a known one and ever after. A bare
        MIG profile names no board, and an empty name no model.
        """
        if not name.strip() or is_profile(name) or self.hardware.names[group].find(name):
            return None
        model = plain(name)
        if model in self._seen or len(self._seen) >= self.most:
            return None
        self._seen.add(model)
        table = f"[{group}.{json.dumps(model, ensure_ascii=False)}]"
        return (
            f"the hardware catalogue has no {group.upper()} {name.strip()!r}: what needs its figures (TDP, limits, "
            f"provisioned power) stays empty. Add {table} with tdp_w to a file and name it in {ENV}; or, if it is a "
            f"model that `gigawatch catalogue hardware` lists, names = [...] in that model's table"
        )


def _spelling(where: str, name: str, table: dict[str, Any]) -> Spelling:
    lists = {}
    for key in SPELLINGS:
        lists[key] = table.get(key, [])
        if not isinstance(lists[key], list) or not all(isinstance(e, str) and e for e in lists[key]):
            raise HardwareError(f"{where}.{key}: wants a list of strings that are not empty")
    for pci in lists["pci"]:
        if not re.fullmatch("[0-9a-f]{4}:[0-9a-f]{4}", pci):
            raise HardwareError(f"{where}.pci: {pci!r} is not VENDOR:DEVICE in lower-case hexadecimal, as '10de:2330'")
    return Spelling(name, pattern([name, *lists["names"]], lists["words"]), tuple(lists["pci"]))


def _figures(where: str, table: dict[str, Any]) -> dict[str, Figure]:
    figures = {}
    for key, entry in table.items():
        if isinstance(entry, str) or key in SPELLINGS:
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
    spellings = {
        group: {name: _spelling(f"{group}.{name}", name, table) for name, table in tables.get(group, {}).items()}
        for group in GROUPS
    }
    parts = {
        group: {
            name: Part(
                name,
                _figures(f"{group}.{name}", table),
                spellings[group][name].pattern,
                table.get("family", ""),
            )
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
    names = {group: ModelNames.of(known) for group, known in spellings.items()}
    return Hardware(parts["gpu"], parts["cpu"], parts["dpu"], racks, names)


@cache
def load(extra: str | None = None) -> Hardware:
    """The built-in catalogue, with `extra` (or the file named by GIGAWATCH_HARDWARE) laid over it; its names,
    words and PCI ids of a model come on top of the built-in ones.
    """
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
                lists = {key: merged[key] for key in SPELLINGS if key in merged}
                merged |= table
                for key, builtin in lists.items():
                    if isinstance(merged[key], list) and merged[key] is not builtin:
                        merged[key] = builtin + merged[key]
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
