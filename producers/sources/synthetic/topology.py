"""The topology of a synthetic site: which device is where, as flat arrays over all racks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from schemas.arrays import Ints
from schemas.hardware import Rack

RACKS_PER_CDU = 8  # an NVL72 rack is 120 kW, a row CDU about 1 MW


@dataclass(frozen=True, slots=True)
class Topology:
    """`racks` racks of one design, `RACKS_PER_CDU` to a CDU.

    Device arrays are ordered by rack, then node, then slot.
    """

    site: str
    design: Rack
    racks: int

    @property
    def cdus(self) -> int:
        return -(-self.racks // RACKS_PER_CDU)

    def cdu_of(self) -> Ints:
        """int[racks]: the CDU that serves each rack."""
        return np.arange(self.racks) // RACKS_PER_CDU

    def rack_names(self) -> list[str]:
        return [f"R{r + 1:04d}" for r in range(self.racks)]

    def cdu_names(self) -> list[str]:
        return [f"CDU-{c + 1:03d}" for c in range(self.cdus)]

    def count(self, part: str) -> int:
        """Returns how many parts a rack has: `gpu`, `cpu` or `dpu`."""
        return int(self.design["nodes"] * self.design[f"{part}s_per_node"])

    def node_names(self) -> list[str]:
        return [f"{rack}-N{n + 1:02d}" for rack in self.rack_names() for n in range(int(self.design["nodes"]))]

    def identity(self, part: str) -> dict[str, pa.Array]:
        """Returns identity columns (without board) of `gpu`, `cpu` or `dpu` of every rack, in rack order."""
        each, nodes = int(self.design[f"{part}s_per_node"]), self.node_names()
        model = {"gpu": self.design.gpu.name, "cpu": self.design.cpu.name, "dpu": self.design.dpu.name}[part]
        racks = pa.array(self.rack_names(), pa.string())
        rows = len(nodes) * each
        return {
            "site": pa.repeat(pa.scalar(self.site, pa.string()), rows),
            "rack": racks.take(pa.array(np.repeat(np.arange(self.racks), self.count(part)))),
            "node": pa.array(nodes, pa.string()).take(pa.array(np.repeat(np.arange(len(nodes)), each))),
            "device": pa.array([f"{node}-{part.upper()}{slot}" for node in nodes for slot in range(each)], pa.string()),
            "model": pa.repeat(pa.scalar(model, pa.string()), rows),
        }

    def rack_identity(self, models: tuple[tuple[str, str], ...]) -> dict[str, pa.Array]:
        """Returns the identity of rack-level equipment: (device suffix, model) pairs per rack; an empty suffix is the
        rack itself.
        """
        rack = [name for name in self.rack_names() for _ in models]
        device = [f"{name}-{suffix}" if suffix else name for name in self.rack_names() for suffix, _ in models]
        model = [m for _ in range(self.racks) for _, m in models]
        return {
            "site": pa.array([self.site] * len(rack)),
            "rack": pa.array(rack),
            "node": pa.array([""] * len(rack)),
            "device": pa.array(device),
            "model": pa.array(model),
        }
