"""The devices of a synthetic site as device lists: one message a rack and kind, one a CDU, two for the site."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain

import numpy as np
import pyarrow as pa

from producers.emission import DeviceList
from producers.sources.synthetic.topology import Topology
from schemas.arrays import Bools, Ints
from schemas.identity import IDENTITY

Identity = dict[str, pa.Array]


class SiteDevices:
    """Identity columns by equipment (`gpu`, `node`, `power`, `cooling` by rack; `cdu`, `meter`, `plant`) and the device
    list of each; `jobs` is the job of each rack.
    """

    def __init__(self, topology: Topology, jobs: Sequence[str]) -> None:
        self._racks = topology.racks
        self.identity = _identities(topology, jobs)
        self._cuts = {name: self._cuts_of(name, len(found["device"])) for name, found in self.identity.items()}
        self._lists: dict[str, DeviceList] = {}
        self._gone = b""

    def of(self, name: str, metrics: tuple[str, ...]) -> DeviceList:
        """Returns the list of this equipment, the same at every call."""
        found = self._lists.get(name)
        if found is None:
            kind = name if name in ("gpu", "node", "power") else "power" if name == "meter" else "cooling"
            found = self._lists[name] = DeviceList(kind, self.identity[name], self._cuts[name], metrics)
        return found

    def present_gpus(self, gone: Bools, metrics: tuple[str, ...]) -> DeviceList:
        """Returns the list of the GPUs that are not `gone` (bool[racks, gpus]), the same until others are."""
        if not gone.any():
            return self.of("gpu", metrics)
        if gone.tobytes() != self._gone:
            mask = pa.array(~gone.ravel())
            rows = np.count_nonzero(~gone, axis=1)
            cuts = np.concatenate([[0], np.cumsum(rows[rows > 0])])
            identity = {name: column.filter(mask) for name, column in self.identity["gpu"].items()}
            self._lists["present gpu"] = DeviceList("gpu", identity, cuts, metrics)
            self._gone = gone.tobytes()
        return self._lists["present gpu"]

    def _cuts_of(self, name: str, rows: int) -> Ints:
        messages = self._racks if name in ("gpu", "node", "power", "cooling") else rows
        return np.arange(0, rows + 1, rows // messages)


def _identities(topology: Topology, jobs: Sequence[str]) -> dict[str, Identity]:
    racks = topology.racks
    cpu, dpu = topology.identity(("cpu",)), topology.identity(("dpu",))
    of_rack = [np.repeat(np.arange(racks), topology.count(part)) for part in ("cpu", "dpu")]
    order = pa.array(np.argsort(np.concatenate(of_rack), kind="stable"))
    shelves = tuple((f"SHELF{i}", "power-shelf") for i in range(int(topology.design["shelves"])))
    found = {
        "gpu": topology.identity(("gpu",)),
        "node": {name: pa.concat_arrays([cpu[name], dpu[name]]).take(order) for name in cpu},
        "power": topology.rack_identity((("", "rack-meter"), *shelves)),
        "cooling": topology.rack_identity((("", "rack-loop"),)),
    }
    for identity in found.values():
        each = len(identity["device"]) // racks
        identity["job"] = pa.array(chain.from_iterable([job] * each for job in jobs), pa.string())
    cdus = topology.cdu_names()
    for name, devices, model in (
        ("cdu", cdus, "cdu"),
        ("meter", ["utility-meter"], "utility-meter"),
        ("plant", ["cooling-plant"], "plant"),
    ):
        columns: Mapping[str, list[str]] = {
            "site": [topology.site] * len(devices),
            "device": devices,
            "model": [model] * len(devices),
        }
        found[name] = {n: pa.array(columns.get(n, [""] * len(devices)), pa.string()) for n in IDENTITY}
    return found
