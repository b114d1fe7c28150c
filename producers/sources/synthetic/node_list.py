"""The nodes of a site, as schedulers and inventories see them: where they are, and which GPUs they have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa

from schemas.arrays import Ints


@dataclass(frozen=True, slots=True)
class NodeList:
    """Nodes in rack order: `rack`, `node`, the names of its GPUs in `devices` (a list a node); `gpus` counts them,
    `rack_number` numbers the racks from 0.
    """

    site: str
    rack: pa.Array
    node: pa.Array
    devices: pa.ListArray
    gpus: Ints
    rack_number: Ints

    @classmethod
    def of(cls, gpu: Mapping[str, pa.Array]) -> Self:
        """Returns the nodes of these GPUs: identity columns in rack order, a node's GPUs together."""
        names = gpu["node"].to_numpy(zero_copy_only=False)
        first = np.concatenate([[0], np.flatnonzero(names[1:] != names[:-1]) + 1])
        offsets = np.append(first, len(names))
        rack = gpu["rack"].take(pa.array(first))
        racks = rack.to_numpy(zero_copy_only=False)
        return cls(
            gpu["site"][0].as_py(),
            rack,
            gpu["node"].take(pa.array(first)),
            pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), gpu["device"]),
            np.diff(offsets),
            np.concatenate([[0], np.cumsum(racks[1:] != racks[:-1])]),
        )

    def __len__(self) -> int:
        return len(self.gpus)
