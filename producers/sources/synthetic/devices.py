"""The devices of a synthetic site as device lists: one message a rack and kind, one a CDU, two for the site."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from producers.emission import DeviceList
from producers.sources.synthetic.boards import Boards
from producers.sources.synthetic.topology import Topology
from schemas.arrays import Bools, Ints
from schemas.identity import IDENTITY

Identity = dict[str, pa.Array]
#: Equipment that comes in one message a rack.
BY_RACK = ("gpu", "node", "power", "cooling")


class SiteDevices:
    """Identity columns by equipment (`gpu`, `node`, `power`, `cooling` by rack; `cdu`, `meter`, `plant`) and the device
    list of each. Meters, loops and the cooling plant have no board: they are known by their place.
    """

    def __init__(self, topology: Topology, boards: Boards) -> None:
        self._racks = topology.racks
        self.identity = _identities(topology, boards)
        self._cuts = {name: self._cuts_of(name, len(found["device"])) for name, found in self.identity.items()}
        self._lists: dict[str, DeviceList] = {}
        self._present: dict[str, tuple[bytes, DeviceList]] = {}

    def of(self, name: str, metrics: tuple[str, ...]) -> DeviceList:
        """Returns the list of this equipment, the same until a board is replaced."""
        found = self._lists.get(name)
        if found is None:
            kind = name if name in ("gpu", "node", "power") else "power" if name == "meter" else "cooling"
            found = self._lists[name] = DeviceList(kind, self.identity[name], self._cuts[name], metrics)
        return found

    def present(self, name: str, gone: Bools, metrics: tuple[str, ...]) -> DeviceList:
        """Returns the list of this equipment without those that are `gone` (bool[rows]), the same until others are."""
        key = gone.tobytes()
        kept = self._present.get(name)
        if kept is None or kept[0] != key:
            whole, left = self.of(name, metrics), ~gone
            rows = np.add.reduceat(left, self._cuts[name][:-1], dtype=np.int64)
            cuts = np.concatenate([[0], np.cumsum(rows[rows > 0])])
            identity = {n: column.filter(pa.array(left)) for n, column in whole.identity.items()}
            kept = self._present[name] = key, DeviceList(whole.kind, identity, cuts, metrics)
        return kept[1]

    def each_rack(self, name: str) -> int:
        """Returns the number of devices of this equipment in a rack."""
        return len(self.identity[name]["device"]) // self._racks

    def set_gpu_boards(self, boards: Mapping[int, str]) -> None:
        """Puts other boards at rows of `gpu`; the lists of GPUs are other ones from now on."""
        held = self.identity["gpu"]["board"].to_pylist()
        for row, board in boards.items():
            held[row] = board
        self.identity["gpu"] = {**self.identity["gpu"], "board": pa.array(held, pa.string())}
        self._lists.pop("gpu", None)
        self._present.pop("gpu", None)

    def _cuts_of(self, name: str, rows: int) -> Ints:
        messages = self._racks if name in BY_RACK else rows
        return np.arange(0, rows + 1, rows // messages)


def _identities(topology: Topology, boards: Boards) -> dict[str, Identity]:
    racks = topology.racks
    gpu, cpu, dpu = (topology.identity(part) for part in ("gpu", "cpu", "dpu"))
    of_rack = [np.repeat(np.arange(racks), topology.count(part)) for part in ("cpu", "dpu")]
    order = pa.array(np.argsort(np.concatenate(of_rack), kind="stable"))
    node = {name: pa.concat_arrays([cpu[name], dpu[name]]).take(order) for name in cpu}
    shelves = tuple((f"SHELF{i}", "power-shelf") for i in range(int(topology.design["shelves"])))
    power = topology.rack_identity((("", "rack-meter"), *shelves))
    meters = np.arange(len(power["device"])) % (1 + len(shelves)) == 0
    serials = boards.serials(power["device"]).to_numpy(zero_copy_only=False)
    loops = topology.rack_identity((("", "rack-loop"),))
    found = {
        "gpu": {**gpu, "board": boards.uuids(gpu["device"])},
        "node": {**node, "board": boards.serials(node["device"])},
        "power": {**power, "board": pa.array(np.where(meters, "", serials), pa.string())},
        "cooling": {**loops, "board": _repeated("", racks)},
    }
    cdus = pa.array(topology.cdu_names(), pa.string())
    for name, devices, model, held in (
        ("cdu", cdus, "cdu", boards.serials(cdus)),
        ("meter", pa.array(["utility-meter"]), "utility-meter", _repeated("", 1)),
        ("plant", pa.array(["cooling-plant"]), "plant", _repeated("", 1)),
    ):
        empty = _repeated("", len(devices))
        columns = {
            "site": _repeated(topology.site, len(devices)),
            "device": devices,
            "model": _repeated(model, len(devices)),
            "board": held,
        }
        found[name] = {n: columns.get(n, empty) for n in IDENTITY}
    return {name: {n: columns[n] for n in IDENTITY} for name, columns in found.items()}


def _repeated(value: str, rows: int) -> pa.Array:
    return pa.repeat(pa.scalar(value, pa.string()), rows)
