"""Sensors: the plant's state as instruments with noise and resolution read it, as frame columns."""

from __future__ import annotations

import numpy as np

from producers.sources.synthetic.plant import (
    CDU_DP_KPA,
    CDU_PUMP_PCT,
    PRIMARY_RISE_K,
    PRIMARY_SUPPLY_C,
    PSU_EFFICIENCY,
    FaultEffects,
    State,
)
from producers.sources.synthetic.topology import Topology
from schemas.arrays import Floats
from schemas.catalogue import KINDS

Columns = dict[str, Floats]


def quantize(kind: str, columns: Columns) -> Columns:
    """Returns every column rounded to its sensor's resolution, in the wire's type."""
    out: Columns = {}
    for name, values in columns.items():
        metric = KINDS[kind][name]
        flat = np.asarray(values, np.float64).ravel()
        if metric.resolution:
            flat = np.round(flat / metric.resolution) * metric.resolution
        out[name] = np.clip(flat, metric.lo, metric.hi).astype(metric.dtype)
    return out


class Sensors:
    """Reads the plant's state; a method for each kind of equipment returns flat columns in the topology's order."""

    def __init__(self, topology: Topology, rng: np.random.Generator) -> None:
        self._topology, self._rng = topology, rng
        self._errors = rng.poisson(2, (topology.racks, topology.count("gpu"))).astype(np.float64)
        self._replays = np.zeros((topology.racks, topology.count("gpu")))
        self._flow_gain = rng.normal(1, 0.002, topology.racks)

    def replace_board(self, gpu: tuple[int, int]) -> None:
        """Puts a spare at (rack, GPU): it has counted nothing yet."""
        self._errors[gpu] = self._replays[gpu] = 0.0

    def exchange_boards(self, gpu: tuple[int, int], other: tuple[int, int]) -> None:
        for array in (self._errors, self._replays):
            array[gpu], array[other] = array[other], array[gpu]

    def _noise(self, sigma: float, shape: tuple[int, ...]) -> Floats:
        return self._rng.standard_normal(shape, np.float32) * sigma

    def gpu(self, s: State, effects: FaultEffects) -> Columns:
        gpu, shape, noise = self._topology.design.gpu, s.power_w.shape, self._noise
        self._errors += self._rng.random(shape) < 2e-6  # a corrected error every few days per GPU
        self._replays += self._rng.random(shape) < 5e-7
        work = s.compute + 0.3 * s.communicate
        busy = (work > 0.02).astype(np.float64)
        power = s.power_w * (1 + noise(0.004, shape))
        power_cap = (s.power_w > 0.985 * gpu["tdp_w"]) * 4
        hardware = (effects.clock_cap < 1) * 8
        thermal = (s.temp_c >= gpu["slowdown_c"]) * 0x20
        temp = s.temp_c + noise(0.35, shape)
        used = s.resident * gpu["fb_mib"] * 0.98
        columns = {
            "util_pct": np.minimum(
                100, 100 * busy * np.minimum(1, s.compute * 0.35 + 0.72 * (s.compute > 0.05) + s.communicate)
            ),
            "power_w": power,
            "temp_c": temp,
            "sm_clock_mhz": gpu["sm_clock_mhz"] * s.clock * (1 + noise(0.002, shape)),
            "mem_clock_mhz": np.full(shape, gpu["mem_clock_mhz"]),
            "mem_temp_c": s.hbm_c + noise(0.35, shape),
            "temp_margin_c": gpu["slowdown_c"] - temp,
            "power_instant_w": s.power_w * (1 + noise(0.03, shape)),
            "power_limit_w": np.full(shape, gpu["tdp_w"]),
            "mem_copy_util_pct": 55 * s.compute + 8 * s.communicate,
            "enc_util_pct": np.zeros(shape),
            "dec_util_pct": np.zeros(shape),
            "gr_engine_active": np.minimum(1, busy * (0.1 + 0.88 * work)),
            "sm_active": 0.93 * s.compute * (1 + noise(0.01, shape)),
            "tensor_active": 0.58 * s.compute * (1 + noise(0.015, shape)),
            "dram_active": (0.42 * s.compute + 0.1 * s.communicate) * (1 + noise(0.02, shape)),
            "fb_used_mib": used,
            "fb_free_mib": gpu["fb_mib"] * 0.98 - used,
            "fb_reserved_mib": np.full(shape, gpu["fb_mib"] * 0.02),
            "pcie_tx_bytes_per_s": 2e9 * s.compute * (1 + noise(0.1, shape)),
            "pcie_rx_bytes_per_s": 4e9 * s.compute * (1 + noise(0.1, shape)),
            "nvlink_bandwidth": 6.5e5 * s.communicate + 4e4 * s.compute,
            "xid": effects.dead * 79.0,
            "clock_event_reasons": power_cap + hardware + thermal + (busy == 0) * 1,
            "vgpu_license": np.zeros(shape),
            "row_remap_failure": np.zeros(shape),
            "energy_j": s.energy_j,
            "pcie_replay_total": self._replays,
            "ecc_sbe_total": self._errors,
            "ecc_dbe_total": np.zeros(shape),
            "row_remap_correctable_total": np.floor(self._errors / 64),
            "row_remap_uncorrectable_total": np.zeros(shape),
        }
        return quantize("gpu", columns)

    def node(self, s: State) -> Columns:
        """CPUs of all nodes then DPUs of all nodes, rack by rack."""
        topology, noise = self._topology, self._noise
        cpus, dpus = topology.count("cpu"), topology.count("dpu")

        def both(cpu: Floats, dpu: Floats, sigma: float = 0.0) -> Floats:
            grid = np.concatenate([np.repeat(cpu[:, None], cpus, 1), np.repeat(dpu[:, None], dpus, 1)], axis=1)
            return np.asarray(grid * (1 + noise(sigma, grid.shape)))

        load, traffic = s.compute.mean(axis=1), s.communicate.mean(axis=1)
        zero = np.zeros_like(load)
        cpu, dpu = topology.design.cpu, topology.design.dpu
        return quantize(
            "node",
            {
                "util_pct": both(8 + 45 * load + 15 * traffic, 5 + 60 * traffic, 0.03),
                "power_w": both(s.cpu_w, s.dpu_w, 0.01),
                "temp_c": both(s.cpu_temp_c, s.supply_c + 18 + 15 * traffic, 0.006),
                "power_limit_w": both(zero + cpu["tdp_w"], zero + dpu["tdp_w"]),
                "clock_mhz": both(zero + cpu["clock_mhz"] * 0.95, zero + dpu["clock_mhz"], 0.004),
                "mem_used_pct": both(20 + 40 * load, zero + 35, 0.01),
                "net_tx_bytes_per_s": both(zero, 4.4e10 * traffic, 0.05),
                "net_rx_bytes_per_s": both(zero, 4.4e10 * traffic, 0.05),
                "disk_bytes_per_s": both(2e9 * load, zero, 0.2),
                "energy_j": both(s.node_energy_j, s.node_energy_j / 4),
                "link_errors_total": both(zero, zero),
            },
        )

    def power(self, s: State, effects: FaultEffects) -> Columns:
        """Per rack: its meter, then its shelves."""
        topology, noise = self._topology, self._noise
        racks, shelves = topology.racks, int(topology.design["shelves"])
        psus = topology.design["psus_per_shelf"]
        share = np.ones((racks, shelves)) / shelves * (1 + noise(0.004, (racks, shelves)))
        failed = np.zeros((racks, shelves))
        failed[:, 0] = np.round(np.minimum(effects.psu_lost, psus))
        share *= 1 - failed / psus
        share /= share.sum(axis=1, keepdims=True)
        meter = (s.rack_w * (1 + noise(0.002, (racks,))))[:, None]
        dc = s.rack_w[:, None] * PSU_EFFICIENCY * share
        volts_ac, volts_dc = 404.0 + noise(0.6, (racks, 1)), 50.5 + noise(0.05, (racks, shelves))
        amps = meter / (np.sqrt(3) * volts_ac * 0.98)
        nan = np.full((racks, shelves), np.nan)
        wide = np.concatenate
        phase = [wide([amps * (1 + noise(0.01, (racks, 1))), nan], 1) for _ in range(3)]
        return quantize(
            "power",
            {
                "power_w": wide([meter, dc], 1),
                "apparent_power_va": wide([meter / 0.98, nan], 1),
                "power_factor": wide([0.98 + noise(0.001, (racks, 1)), nan], 1),
                "voltage_v": wide([volts_ac, volts_dc], 1),
                "current_a": wide([amps, dc / volts_dc], 1),
                "current_limit_a": wide([np.full((racks, 1), 400.0), nan], 1),
                "phase1_current_a": phase[0],
                "phase2_current_a": phase[1],
                "phase3_current_a": phase[2],
                "frequency_hz": wide([60 + noise(0.006, (racks, 1)), nan], 1),
                "psu_count": wide([np.full((racks, 1), np.nan), np.full((racks, shelves), psus)], 1),
                "psu_failed": wide([np.full((racks, 1), np.nan), failed], 1),
                "temp_c": wide(
                    [np.full((racks, 1), np.nan), 38 + 14 * dc * shelves / topology.design.max_power_w + 9 * failed], 1
                ),
                "energy_j": wide(
                    [
                        s.rack_energy_j[:, None],
                        s.rack_energy_j[:, None] * PSU_EFFICIENCY / shelves * np.ones((1, shelves)),
                    ],
                    1,
                ),
            },
        )

    def cooling(self, s: State, effects: FaultEffects) -> Columns:
        """The liquid loop of every rack."""
        shape, noise = s.flow_lpm.shape, self._noise
        return quantize(
            "cooling",
            {
                "flow_lpm": s.flow_lpm * self._flow_gain * (1 + noise(0.004, shape)),
                "supply_temp_c": s.supply_c + noise(0.05, shape),
                "return_temp_c": s.return_c + noise(0.08, shape),
                "diff_pressure_kpa": s.dp_kpa * (1 + noise(0.01, shape)),
                "diff_pressure_sp_kpa": np.full(shape, CDU_DP_KPA),
                "valve_pct": s.valve_pct + noise(0.2, shape),
                "level_pct": s.level_pct + noise(0.05, shape),
                "leak": (effects.leak > 0).astype(np.float64),
                "leak_sensor_fault": np.zeros(shape),
                "liquid_isolated": np.zeros(shape),
                "electrical_isolated": np.zeros(shape),
            },
        )

    def cdu(self, s: State) -> Columns:
        """Every CDU: secondary and primary side, pumps."""
        shape, noise = s.cdu_flow_lpm.shape, self._noise
        primary = np.maximum(s.cdu_heat_w, 0) / (4180 / 60 * PRIMARY_RISE_K)
        dp = CDU_DP_KPA * (s.cdu_pump_pct / CDU_PUMP_PCT) ** 2
        return quantize(
            "cooling",
            {
                "flow_lpm": s.cdu_flow_lpm * (1 + noise(0.003, shape)),
                "supply_temp_c": s.cdu_supply_c + noise(0.05, shape),
                "return_temp_c": s.cdu_return_c + noise(0.08, shape),
                "diff_pressure_kpa": dp + noise(0.4, shape),
                "diff_pressure_sp_kpa": np.full(shape, CDU_DP_KPA),
                "valve_pct": 61 + noise(0.2, shape),
                "pump_speed_pct": s.cdu_pump_pct + noise(0.2, shape),
                "primary_supply_temp_c": PRIMARY_SUPPLY_C + noise(0.1, shape),
                "primary_return_temp_c": PRIMARY_SUPPLY_C + PRIMARY_RISE_K + noise(0.15, shape),
                "primary_flow_lpm": primary,
                "supply_pressure_kpa": 210 + dp + noise(0.6, shape),
                "return_pressure_kpa": 210 + noise(0.6, shape),
                "filter_dp_kpa": 11 * (s.cdu_pump_pct / CDU_PUMP_PCT) ** 2 + noise(0.2, shape),
                "level_pct": np.full(shape, 88.0),
                "power_w": 0.018 * np.maximum(s.cdu_heat_w, 0),
                "leak": np.zeros(shape),
                "pumps_running": s.cdu_pumps,
            },
        )

    def meter(self, s: State) -> Columns:
        """The utility meter of the site."""
        return {
            "power_w": np.array([round(s.facility_w, -1)]),
            "frequency_hz": np.array([60.0]),
            "energy_j": np.array([s.facility_energy_j]),
        }

    def cooling_plant(self, s: State) -> Columns:
        """Chillers, towers and pumps of the site."""
        return {"power_w": np.array([round(s.cooling_w, -1)])}
