"""A load for benchmarks: plant ticks made once and repeated with new time stamps, at a fraction of the plant's cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator

import numpy as np
import pyarrow as pa

from producers.emission import DeviceList, Emission, Event, SiteTick
from producers.publish.encoder import TickEncoder
from producers.sources.source import SourceError, Ticker
from producers.sources.synthetic.job_events import JobEvents
from producers.sources.synthetic.job_schedule import JobSchedule
from producers.sources.synthetic.node_list import NodeList
from producers.sources.synthetic.source import Synthetic
from schemas.arrays import Floats, Ints
from schemas.catalogue import KINDS
from schemas.codec import Decoder
from schemas.identity import IDENTITY

#: What dcgm-exporter gives by default (`etc/default-counters.csv`, d5e5f51): 25 metrics.
DCGM_DEFAULT = (
    "util_pct",
    "power_w",
    "temp_c",
    "sm_clock_mhz",
    "mem_clock_mhz",
    "mem_temp_c",
    "mem_copy_util_pct",
    "enc_util_pct",
    "dec_util_pct",
    "gr_engine_active",
    "tensor_active",
    "dram_active",
    "fb_used_mib",
    "fb_free_mib",
    "fb_reserved_mib",
    "pcie_tx_bytes_per_s",
    "pcie_rx_bytes_per_s",
    "nvlink_bandwidth",
    "xid",
    "vgpu_license",
    "row_remap_failure",
    "energy_j",
    "pcie_replay_total",
    "row_remap_correctable_total",
    "row_remap_uncorrectable_total",
)
#: Racks whose meters, shelves and coolant loops come in one message of a building-management gateway.
GATEWAY_RACKS = 64


class LoadSource:
    """`gpus` GPUs in NVL72 racks with their power and cooling. The plant's first `made` ticks are repeated with new
    time stamps; counters keep growing. `per` is what a GPU message covers: `rack`, `pod` (16 racks) or `node` (a tray
    of 8 GPUs, a loose frame each, as agents send them). Jobs hold its nodes as the plant's do, and `job_changes`
    nodes a second pass from one to another.
    """

    def __init__(
        self,
        gpus: int,
        *,
        per: str = "rack",
        tick_s: float = 1.0,
        ticks: int | None = None,
        made: int = 8,
        seed: int = 0,
        start_ms: int | None = None,
        speed: float = 1.0,
        job_changes: float = 0.0,
    ) -> None:
        if gpus < 1:
            raise SourceError(f"{gpus} GPUs; there must be at least one")
        self._ticks, self._ticker = ticks, Ticker(tick_s, start_ms, speed)
        plant = Synthetic(-(-gpus // 72), "GB200", seed=seed, tick_s=tick_s)
        each = plant.topology.count("gpu")
        step = {"rack": each, "pod": 16 * each, "node": 8}.get(per)
        if step is None:
            raise SourceError(f"messages per {per!r}: it is rack, pod or node")
        self.per = per
        self._made = [plant.columns(k * self._ticker.tick_ms) for k in range(made)]
        self.devices: dict[str, DeviceList] = {}
        for name, (identity, columns) in self._made[0].items():
            rows = gpus if name == "gpu" else len(identity["device"])
            metrics = tuple(n for n in (DCGM_DEFAULT if name == "gpu" else columns) if n in columns)
            self.devices[name] = DeviceList(
                KINDS.get(name, KINDS["cooling"]).kind,
                {n: identity[n][:rows] for n in IDENTITY},
                _cuts(identity["rack"][:rows], rows, step if name == "gpu" else 0),
                metrics,
            )
        #: What each counter gains in one round of the ticks.
        self._round = {
            (name, n): (self._made[-1][name][1][n] - self._made[0][name][1][n]) * made / max(1, made - 1)
            for name, devices in self.devices.items()
            for n in devices.metrics
            if KINDS[devices.kind][n].kind == "counter"
        }
        nodes = NodeList.of(self.devices["gpu"].identity)
        self.schedule = JobSchedule(nodes, plant.workloads.names, seed, job_changes)
        self._job_events = JobEvents(nodes, self.schedule, self._ticker.tick_ms)
        self._agents, self._decoder = TickEncoder(self.devices["gpu"]) if per == "node" else None, Decoder()

    @property
    def describe(self) -> str:
        gpus = self.devices["gpu"]
        return (
            f"load: {len(self._made)} plant ticks of {gpus.rows} GB200 GPUs and their power and cooling, repeated; "
            f"{len(gpus.metrics)} metrics a GPU, {len(gpus.cuts) - 1} GPU messages a tick (per {self.per})"
        )

    def site_ticks(self, tick: int, ts_ms: int) -> list[SiteTick]:
        """Returns all kinds at one tick, the `tick`th."""
        rounds, which = divmod(tick, len(self._made))
        out = []
        for name, devices in self.devices.items():
            columns = self._made[which][name][1]
            values: dict[str, Floats] = {}
            for metric in devices.metrics:
                gain = self._round.get((name, metric))
                whole = columns[metric] if gain is None or not rounds else columns[metric] + rounds * gain
                values[metric] = whole[: devices.rows]
            out.append(SiteTick(devices, ts_ms, values))
        return out

    def job_events(self, ts_ms: int) -> list[Event]:
        """Returns what changed among the jobs at one tick, as the plant has it; the load itself stays as it is."""
        self.schedule.advance(ts_ms)
        return self._job_events.at(ts_ms)

    async def emissions(self) -> AsyncGenerator[Emission]:
        tick = 0
        while self._ticks is None or tick < self._ticks:
            stamp = await self._ticker.wait()
            for event in self.job_events(stamp):
                yield event
            for site_tick in self.site_ticks(tick, stamp):
                if self._agents is not None and site_tick.devices.kind == "gpu":
                    for message in self._agents.encode(site_tick, Counter()):
                        yield self._decoder.decode(message)
                else:
                    yield site_tick
            tick += 1


def _cuts(racks: pa.Array, rows: int, step: int) -> Ints:
    """Returns where messages begin: every `step` rows, or every GATEWAY_RACKS racks for 0."""
    if step:
        return np.concatenate([np.arange(0, rows, step), [rows]])
    names = racks.to_numpy(zero_copy_only=False)
    starts = np.concatenate([[0], np.flatnonzero(names[1:] != names[:-1]) + 1])
    return np.concatenate([starts[::GATEWAY_RACKS], [rows]])
