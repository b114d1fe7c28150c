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

    def identity(self, parts: tuple[str, ...]) -> dict[str, pa.Array]:
        """Returns identity columns (without job) of the given parts of every rack, in rack order."""
        nodes = int(self.design["nodes"])
        site, rack, node, device, model = [], [], [], [], []
        models = {"gpu": self.design.gpu.name, "cpu": self.design.cpu.name, "dpu": self.design.dpu.name}
        for name in self.rack_names():
            for part in parts:
                each = int(self.design[f"{part}s_per_node"])
                for n in range(nodes):
                    for slot in range(each):
                        site.append(self.site)
                        rack.append(name)
                        node.append(f"{name}-N{n + 1:02d}")
                        device.append(f"{name}-N{n + 1:02d}-{part.upper()}{slot}")
                        model.append(models[part])
        return {
            k: pa.array(v, pa.string())
            for k, v in (("site", site), ("rack", rack), ("node", node), ("device", device), ("model", model))
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
