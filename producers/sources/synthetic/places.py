"""The places of a synthetic plant at which a fault may be, and how a place is written."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from producers.sources.source import SourceError
from producers.sources.synthetic.faults import FAULTS, Fault, FaultPlace
from producers.sources.synthetic.topology import Topology

#: In the folder of the running factory, beside its status files, so that `gigawatch inject` knows what exists.
FILE = "plant.json"
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class Places:
    """Racks `R0001` and CDUs `CDU-001` of a site, in each rack nodes `R0001-N01` and their GPUs `R0001-N01-GPU0`."""

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
        """Returns (rack or CDU, GPU within the rack) of the fault's place, from 0; of a node, its first GPU.

        Raises SourceError that names the nearest place and all that exist.
        """
        if fault.other:
            if fault.other == fault.place:
                raise SourceError(f"fault {fault.name}: {fault.place} cannot change places with itself")
            self.position(fault, fault.other)
        return self.position(fault, fault.place)

    def position(self, fault: Fault, place: str) -> tuple[int, int]:
        """Returns the same of `place`, one of the fault's."""
        form = FAULTS[fault.name].at
        nearest, numbers = self._nearest(form, place)
        if nearest != place:
            raise SourceError(
                f"fault {fault.name}: no {form} {place!r} here; the nearest is {nearest}. A {form} is {self._all(form)}"
            )
        return numbers[0], sum(n * size for n, size in zip(numbers[1:], (self.gpus_per_node, 1), strict=False))

    def _all(self, form: FaultPlace) -> str:
        """Returns the range of the names of such places."""
        racks, nodes = f"R0001 to R{self.racks:04d}", f"N01 to N{self.nodes:02d}"
        match form:
            case "CDU":
                return f"CDU-001 to CDU-{self.cdus:03d}"
            case "rack":
                return racks
            case "node":
                return f"RACK-NODE: {racks}, {nodes}, such as R0001-N01"
            case "GPU":
                slots = f"GPU0 to GPU{self.gpus_per_node - 1}"
                return f"RACK-NODE-GPU: {racks}, {nodes}, {slots}, such as R0001-N01-GPU0"

    def _nearest(self, form: FaultPlace, place: str) -> tuple[str, tuple[int, ...]]:
        """Returns the existing place whose numbers are nearest to those of `place`, and its numbers from 0.

        A number that is missing counts as the lowest one.
        """
        most = (self.racks, self.nodes, self.gpus_per_node)
        sizes = (self.cdus,) if form == "CDU" else most[: ("rack", "node", "GPU").index(form) + 1]
        given = [int(n[:9]) for n in _NUMBER.findall(place)]
        given += [1, 1, 0][len(given) :]
        low = (1, 1, 0)
        numbers = tuple(min(max(n - base, 0), size - 1) for n, base, size in zip(given, low, sizes, strict=False))
        if form == "CDU":
            return f"CDU-{numbers[0] + 1:03d}", numbers
        names = [f"R{numbers[0] + 1:04d}", *(f"N{n + 1:02d}" for n in numbers[1:2]), *(f"GPU{n}" for n in numbers[2:])]
        return "-".join(names), numbers
