"""Where Slurm's nodes stand: which node of ours a name of Slurm's is, and in which rack. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, field

from producers.sources.slurm.hostlist import InvalidHostlist, expand
from producers.sources.source import SourceError

HEADER = ("slurm", "rack", "node")


@dataclass(frozen=True, slots=True)
class NodePlaces:
    """Racks and nodes by Slurm's name. A name that is not listed is the node's own, in a rack that is not known."""

    listed: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def of(self, name: str) -> tuple[str, str]:
        """Returns (rack, node) of a node of Slurm's."""
        return self.listed.get(name, ("", name))


def parse_places(text: str, name: str) -> NodePlaces:
    """Returns the places of a CSV with the columns `slurm,rack,node`: hostlists, `gpu[001-018],R0001,N[01-18]`.

    An empty node is Slurm's own name. Raises SourceError, which names the file and the line.
    """
    lines = list(csv.reader(io.StringIO(text)))
    if not lines or tuple(cell.strip() for cell in lines[0]) != HEADER:
        raise SourceError(f"{name}: its first line must be {','.join(HEADER)}")
    listed: dict[str, tuple[str, str]] = {}
    for number, cells in enumerate(lines[1:], 2):
        if not any(cells):
            continue
        try:
            slurm, rack, node = (cell.strip() for cell in cells)
            names, nodes = expand(slurm), expand(node or slurm)
        except InvalidHostlist as err:
            raise SourceError(f"{name}, line {number}: {err}") from err
        except ValueError as err:
            raise SourceError(
                f'{name}, line {number}: {len(cells)} cells, not 3; a list with commas stands in quotes ("n[1,3]")'
            ) from err
        if len(names) != len(nodes):
            raise SourceError(f"{name}, line {number}: {len(names)} of Slurm's nodes, but {len(nodes)} nodes")
        for one, other in zip(names, nodes, strict=True):
            if one in listed:
                raise SourceError(f"{name}, line {number}: {one} is listed twice")
            listed[one] = (rack, other)
    return NodePlaces(listed)
