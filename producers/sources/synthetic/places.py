"""The places of a synthetic plant at which a fault may be, and how a place is written."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from producers.sources.source import SourceError
from producers.sources.synthetic.faults import FAULTS, Fault
from producers.sources.synthetic.topology import Topology

#: In the folder of the running factory, beside its status files, so that `gigawatch inject` knows what exists.
FILE = "plant.json"
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class Places:
    """Racks `R0001` and CDUs `CDU-001` of a site, and in each rack GPUs `R0001-N01-GPU0` by node and slot."""

    racks: int
    cdus: int
    nodes: int
    gpus_per_node: int

    @classmethod
    def of(cls, topology: Topology) -> Self:
        design = topology.design
        return cls(topology.racks, topology.cdus, int(design["nodes"]), int(design["gpus_per_node"]))

    @classmethod
    def load(cls, folder: Path) -> Self | None:
        """Returns the places of the plant that runs in `folder`, None when none does."""
        try:
            return cls(**json.loads((folder / FILE).read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def save(self, folder: Path) -> None:
        part = folder / f"{FILE}.part"
        part.write_text(json.dumps(asdict(self)))
        part.replace(folder / FILE)

    def index(self, fault: Fault) -> tuple[int, int]:
        """Returns (rack or CDU, GPU within the rack) of the fault's place, from 0.

        Raises SourceError that names the nearest place and all that exist.
        """
        nearest, numbers = self._nearest(fault)
        if nearest != fault.place:
            kind, all_of_them = self._form(fault)
            raise SourceError(
                f"fault {fault.name}: no {kind} {fault.place!r} here; the nearest is {nearest}. "
                f"A {kind} is {all_of_them}"
            )
        return (numbers[0], numbers[1] * self.gpus_per_node + numbers[2]) if len(numbers) == 3 else (numbers[0], 0)

    def _form(self, fault: Fault) -> tuple[str, str]:
        """Returns what the fault happens to, and the range of its names."""
        if fault.name == "cdu-pump":
            return "CDU", f"CDU-001 to CDU-{self.cdus:03d}"
        racks = f"R0001 to R{self.racks:04d}"
        if FAULTS[fault.name][0] == "gpu":
            nodes, slots = f"N01 to N{self.nodes:02d}", f"GPU0 to GPU{self.gpus_per_node - 1}"
            return "GPU", f"RACK-NODE-GPU: {racks}, {nodes}, {slots}, such as R0001-N01-GPU0"
        return "rack", racks

    def _nearest(self, fault: Fault) -> tuple[str, tuple[int, ...]]:
        """Returns the existing place whose numbers are nearest to those of the fault's place, and its numbers from 0.

        A number that is missing counts as the lowest one.
        """
        kind = self._form(fault)[0]
        sizes = {"CDU": (self.cdus,), "rack": (self.racks,), "GPU": (self.racks, self.nodes, self.gpus_per_node)}[kind]
        given = [int(n[:9]) for n in _NUMBER.findall(fault.place)]
        given += [1, 1, 0][len(given) :]
        low = (1, 1, 0)
        numbers = tuple(min(max(n - base, 0), size - 1) for n, base, size in zip(given, low, sizes, strict=False))
        if kind == "CDU":
            return f"CDU-{numbers[0] + 1:03d}", numbers
        rack = f"R{numbers[0] + 1:04d}"
        return (f"{rack}-N{numbers[1] + 1:02d}-GPU{numbers[2]}", numbers) if kind == "GPU" else (rack, numbers)
