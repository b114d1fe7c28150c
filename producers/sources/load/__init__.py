"""Pre-made plant ticks, stamped anew and sent over and over: a load for benchmarks, at a fraction of the plant's own
cost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator

import numpy as np
import pyarrow as pa

from producers.publish.encoder import DeviceList, SiteTick
from producers.sources.source import Emission, SourceError, Ticker
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
#: A building-management gateway speaks for so many racks: their meters, shelves and coolant loops come in one message.
GATEWAY_RACKS = 64


class LoadSource:
    """`gpus` GPUs in NVL72 racks with their power and cooling. The plant's first `made` ticks are repeated with new
    time stamps;
    counters go on growing. `per` is what a GPU message covers: `rack`, `pod` (16 racks) or `node` (a tray of 8 GPUs).
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
    ) -> None:
        if gpus < 1:
            raise SourceError(f"{gpus} GPUs; there must be at least one")
        self._ticks, self._ticker = ticks, Ticker(tick_s, start_ms, speed)
        plant = Synthetic(-(-gpus // 72), "GB200", seed=seed, tick_s=tick_s)
        each = plant.layout.count("gpu")
        step = {"rack": each, "pod": 16 * each, "node": 8}.get(per)
        if step is None:
            raise SourceError(f"messages per {per!r}: it is rack, pod or node")
        self.per, self._made = per, list[dict[str, tuple[dict[str, pa.Array], dict[str, Floats]]]]()
        self._decoder = Decoder()
        self.rosters: dict[str, DeviceList] = {}
        for k in range(made):
            self._made.append(plant.columns(k * self._ticker.tick_ms))
        for kind, (identity, columns) in self._made[0].items():
            rows = gpus if kind == "gpu" else len(identity["device"])
            who = {n: identity[n][:rows] for n in IDENTITY if n in identity}
            names = tuple(n for n in (DCGM_DEFAULT if kind == "gpu" else columns) if n in columns)
            self.rosters[kind] = DeviceList(
                KINDS.get(kind, KINDS["cooling"]).kind,
                who,
                _cuts(who["rack"], rows, step if kind == "gpu" else 0),
                names,
            )
        #: what each counter gains in one round of the pre-made ticks
        self._round = {
            (kind, n): (self._made[-1][kind][1][n] - self._made[0][kind][1][n]) * made / max(1, made - 1)
            for kind, roster in self.rosters.items()
            for n in roster.names
            if KINDS[roster.kind][n].kind == "counter"
        }

    @property
    def describe(self) -> str:
        gpus = self.rosters["gpu"]
        return (
            f"pre-made: {len(self._made)} plant ticks of {gpus.rows} GB200 GPUs and their power and cooling, "
            "stamped anew; "
            f"{len(gpus.names)} metrics a GPU, {len(gpus.cuts) - 1} GPU messages a tick (per {self.per})"
        )

    def sheets(self, tick: int, ts_ms: int) -> list[SiteTick]:
        """All kinds at one tick, the `tick`th."""
        rounds, which = divmod(tick, len(self._made))
        out = []
        for kind, roster in self.rosters.items():
            columns = self._made[which][kind][1]
            values: dict[str, Floats] = {}
            for name in roster.names:
                grown = self._round.get((kind, name))
                values[name] = (columns[name] if grown is None or not rounds else columns[name] + rounds * grown)[
                    : roster.rows
                ]
            out.append(SiteTick(roster, ts_ms, values))
        return out

    async def emissions(self) -> AsyncGenerator[Emission]:
        tick = 0
        while self._ticks is None or tick < self._ticks:
            stamp = await self._ticker.wait()
            for sheet in self.sheets(tick, stamp):
                if self.per == "node" and sheet.roster.kind == "gpu":  # as agents send them: each tray its own message
                    for message in sheet.roster.packer.pack(sheet, Counter()):
                        yield self._decoder.decode(message)
                else:
                    yield sheet
            tick += 1


def _cuts(racks: pa.Array, rows: int, step: int) -> Ints:
    """Where messages begin: every `step` rows but never across racks unless a step is several racks; 0: every
    GATEWAY_RACKS racks.
    """
    names = racks.to_numpy(zero_copy_only=False)
    starts = np.concatenate([[0], np.flatnonzero(names[1:] != names[:-1]) + 1])
    if not step:
        return np.concatenate([starts[::GATEWAY_RACKS], [rows]])
    return np.concatenate([np.arange(0, rows, step), [rows]])
