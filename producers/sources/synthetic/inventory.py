"""The inventory of a synthetic site as event streams: assets at their places, what other systems call them, edges."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from producers.emission import Event
from producers.sources.synthetic import hall
from producers.sources.synthetic.boards import Boards
from producers.sources.synthetic.devices import Identity, SiteDevices
from producers.sources.synthetic.topology import RACKS_PER_CDU, Topology
from schemas.arrays import Ints
from schemas.derived_stream import Derived
from schemas.inventory import ASSET, EDGE, NAME

ORIGIN = "synthetic"
_REPEAT_MS = 600_000


class SiteInventory:
    """Equipment with a board is an asset by it; racks, nodes, rows, PDUs and their like are assets by their name. A row
    with a `device` reports telemetry of its `kind` under that name.
    """

    def __init__(self, topology: Topology, devices: SiteDevices, boards: Boards) -> None:
        self._topology, self._devices, self._boards = topology, devices, boards
        self._began_ms: int | None = None
        self._repeat_ms = 0
        self._gpu_since = np.zeros(len(devices.identity["gpu"]["device"]), np.int64)
        self._closed: list[Event] = []  # rows of boards that are no longer where they were

    def at(self, now_ms: int) -> list[Event]:
        """Returns everything at the first call and every ten minutes."""
        if self._began_ms is None:
            self._began_ms = self._repeat_ms = now_ms
            self._gpu_since[:] = now_ms
        if now_ms < self._repeat_ms:
            return []
        self._repeat_ms = now_ms + _REPEAT_MS
        gpus = np.arange(len(self._gpu_since))
        return [
            *self._closed,
            *(Event(ASSET, batch) for batch in (*self._places(now_ms), *self._equipment(now_ms))),
            Event(ASSET, self._gpus(gpus, now_ms)),
            Event(NAME, self._gpu_names(gpus, now_ms)),
            Event(NAME, self._cdu_names(now_ms)),
            Event(EDGE, self._edges(now_ms)),
        ]

    def change_boards(self, boards: Mapping[int, str], now_ms: int, state: str, reason: str) -> list[Event]:
        """Puts other boards at rows of the GPUs. Returns the rows of those that were there, which are valid no longer
        and `state`, and of those that are there now.
        """
        rows = np.array(sorted(boards))
        closed = [
            Event(ASSET, _with(self._gpus(rows, now_ms), ASSET, valid_to=now_ms, state=state, reason=reason)),
            Event(NAME, _with(self._gpu_names(rows, now_ms), NAME, valid_to=now_ms)),
        ]
        self._devices.set_gpu_boards(boards)
        self._gpu_since[rows] = now_ms
        self._closed += closed
        return [*closed, Event(ASSET, self._gpus(rows, now_ms)), Event(NAME, self._gpu_names(rows, now_ms))]

    def _gpus(self, rows: Ints, now_ms: int) -> pa.RecordBatch:
        gpu = self._devices.identity["gpu"]
        found = {name: column.take(pa.array(rows)) for name, column in gpu.items()}
        plate = [pc.utf8_slice_codeunits(found["board"], *cut) for cut in ((4, 12), (13, 17))]
        serial = pc.utf8_upper(pc.binary_join_element_wise("sn", *plate, ""))
        row = rows // self._devices.each_rack("gpu") // RACKS_PER_CDU
        return self._device_assets("gpu", found, serial, row, now_ms, self._gpu_since[rows])

    def _equipment(self, now_ms: int) -> list[pa.RecordBatch]:
        """CPUs, DPUs and power shelves of racks, CDUs, the utility's meter and the cooling plant."""
        found = []
        for name, kind in (("node", "node"), ("power", "power")):
            identity = self._devices.identity[name]
            rows = np.flatnonzero(identity["board"].to_numpy(zero_copy_only=False) != "")
            identity = {n: column.take(pa.array(rows)) for n, column in identity.items()}
            row = rows // self._devices.each_rack(name) // RACKS_PER_CDU
            found.append(self._device_assets(kind, identity, identity["board"], row, now_ms))
        cdu = self._devices.identity["cdu"]
        found.append(self._device_assets("cooling", cdu, cdu["board"], np.arange(self._topology.cdus), now_ms))
        for name, kind in (("meter", "power"), ("plant", "cooling")):
            identity = self._devices.identity[name]
            columns = {"asset": identity["device"], "device": identity["device"], "model": identity["model"]}
            found.append(self._assets(1, now_ms, kind=kind, **columns))
        return found

    def _device_assets(
        self, kind: str, identity: Identity, serial: pa.Array, row: Ints, now_ms: int, since: Ints | None = None
    ) -> pa.RecordBatch:
        return self._assets(
            len(row),
            now_ms,
            kind=kind,
            asset=identity["board"],
            serial=serial,
            hall=hall.HALL,
            row=self._row_names().take(pa.array(row)),
            slot=pc.utf8_slice_codeunits(identity["node"], -3),
            valid_from=self._began_ms if since is None else since,
            **{name: identity[name] for name in ("model", "rack", "node", "device")},
        )

    def _places(self, now_ms: int) -> list[pa.RecordBatch]:
        """The hall, its rows, racks and nodes, and what feeds them."""
        topology = self._topology
        racks, nodes = pa.array(topology.rack_names()), pa.array(topology.node_names())
        rack_row, each = np.arange(topology.racks) // RACKS_PER_CDU, len(nodes) // len(racks)
        node_rack = np.arange(len(nodes)) // each
        rows, pdus = self._row_names(), pa.array(hall.pdu_names(topology))
        design, at = pa.scalar(topology.design.name), {"hall": hall.HALL}

        def of_row(numbers: Ints) -> pa.Array:
            return rows.take(pa.array(numbers))

        found = [
            self._assets(
                len(racks), now_ms, asset=racks, rack=racks, kind="rack", model=design, row=of_row(rack_row), **at
            ),
            self._assets(
                len(nodes),
                now_ms,
                asset=nodes,
                node=nodes,
                kind="node",
                rack=racks.take(pa.array(node_rack)),
                row=of_row(rack_row[node_rack]),
                slot=pc.utf8_slice_codeunits(nodes, -3),
                **at,
            ),
            self._assets(len(rows), now_ms, asset=rows, row=rows, kind="row", **at),
            self._assets(
                len(pdus),
                now_ms,
                asset=pdus,
                serial=self._boards.serials(pdus),
                kind="pdu",
                row=of_row(np.arange(len(pdus)) // len(hall.FEEDS)),
                **at,
            ),
        ]
        for kind, names in (
            ("hall", [hall.HALL]),
            ("utility", [hall.UTILITY]),
            ("switchgear", [hall.SWITCHGEAR]),
            ("ups", hall.UPS),
        ):
            assets = pa.array(names)
            serial = "" if kind == "hall" else self._boards.serials(assets)
            found.append(self._assets(len(names), now_ms, asset=assets, serial=serial, kind=kind, **at))
        return found

    def _row_names(self) -> pa.Array:
        return pa.array(hall.row_names(self._topology))

    def _assets(self, rows: int, now_ms: int, **columns: Any) -> pa.RecordBatch:
        return self._build(ASSET, rows, now_ms, {"state": "active", **columns})

    def _gpu_names(self, rows: Ints, now_ms: int) -> pa.RecordBatch:
        """What DCGM, the PCI bus and Slurm call a GPU: its node, and an index or address there."""
        gpu, which = self._devices.identity["gpu"], pa.array(rows)
        node, board = gpu["node"].take(which), gpu["board"].take(which)
        slots = np.arange(int(self._topology.design["gpus_per_node"]))
        of = pa.array(rows % len(slots))
        forms = {
            "dcgm": [f"gpu{n}" for n in slots],
            "pci": [f"{8 + 16 * (n // 2) + n % 2:08x}:01:00.0" for n in slots.tolist()],
            "slurm": [str(n) for n in slots],
        }
        names = [pc.binary_join_element_wise(node, pa.array(form).take(of), "/") for form in forms.values()]
        systems = pa.array(list(forms)).take(pa.array(np.repeat(np.arange(len(forms)), len(rows))))
        return self._build(
            NAME,
            len(forms) * len(rows),
            now_ms,
            {
                "system": systems,
                "name": pa.concat_arrays(names),
                "asset": pa.concat_arrays([board] * len(forms)),
                "valid_from": np.tile(self._gpu_since[rows], len(forms)),
            },
        )

    def _cdu_names(self, now_ms: int) -> pa.RecordBatch:
        cdu = self._devices.identity["cdu"]
        columns = {"system": "bms", "name": cdu["device"], "asset": cdu["board"]}
        return self._build(NAME, self._topology.cdus, now_ms, columns)

    def _edges(self, now_ms: int) -> pa.RecordBatch:
        edges = list(hall.edges(self._topology))
        columns = {
            name: [getattr(edge, name) for edge in edges]
            for name in ("network", "upstream", "downstream", "capacity_w", "redundancy")
        }
        return self._build(EDGE, len(edges), now_ms, columns)

    def _build(self, stream: Derived, rows: int, now_ms: int, columns: Mapping[str, Any]) -> pa.RecordBatch:
        """Rows of one of the three streams; columns that are not given are empty, one value stands for all rows."""
        known = {
            "seen": now_ms,
            "site": self._topology.site,
            "origin": ORIGIN,
            "valid_from": self._began_ms,
            "valid_to": 0,
            **columns,
        }
        return stream.build({name: _column(known.get(name, ""), dtype, rows) for name, dtype in stream.columns})


def _column(value: Any, dtype: pa.DataType, rows: int) -> Any:
    if isinstance(value, int | str | pa.Scalar):
        return pa.repeat(pa.scalar(value, dtype) if not isinstance(value, pa.Scalar) else value, rows)
    return value


def _with(batch: pa.RecordBatch, stream: Derived, **values: int | str) -> pa.RecordBatch:
    """Returns the batch with one value in all rows of each of these columns."""
    dtypes = dict(stream.columns)
    columns = {name: batch.column(name) for name in stream.names}
    return stream.build({**columns, **{n: _column(v, dtypes[n], batch.num_rows) for n, v in values.items()}})
