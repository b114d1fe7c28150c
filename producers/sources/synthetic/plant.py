"""The plant: power, heat and coolant of all racks at once, one tick at a time. Arrays only; deterministic for a seed.

Chain: demand -> GPU power (first order, capped) -> die and HBM temperature (thermal resistance to the coolant, first
order) -> rack power -> coolant return temperature (first order) -> CDU -> facility. Constants are from the hardware
catalogue; where none is published the comment states the assumption.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from producers.sources.synthetic.topology import Topology
from producers.sources.synthetic.workload import Demand, Workloads
from schemas.arrays import Bools, Floats
from schemas.kinds.cooling import PG25_J_PER_L_K

TAU_POWER_S = 0.4  # board power follows load within a tick
TAU_DIE_S = 6.0  # cold plate and die
TAU_HBM_S = 12.0
TAU_COOLANT_S = 8.0  # coolant in a rack: about 40 L at 150 L/min
TAU_CDU_S = 30.0
DIE_RISE_K = 27.0  # H100 capture: 59 C at 632 W over 32 C coolant
HBM_RISE_K = 22.0  # the same capture: 54 C
PSU_EFFICIENCY = 0.975
COOLING_COP = 9.0  # fans and chillers: heat moved per watt; gives a PUE near 1.16 with pumps and losses
DISTRIBUTION_LOSS = 0.035
PRIMARY_SUPPLY_C, PRIMARY_RISE_K = 14.1, 19.0  # NVIDIA's facility trace: 14.1 in, 33.1 out
CDU_DP_KPA, CDU_PUMP_PCT = 90.0, 44.0  # the same: 90 kPa at set-point, running pump at 44 %


@dataclass(slots=True)
class FaultEffects:
    """What faults do to the plant this tick. Factors are 1 and offsets 0 without faults; shapes in brackets."""

    die_resistance: Floats  # [racks, gpus]
    clock_cap: Floats  # [racks, gpus] share of the maximum SM clock
    throughput_factor: Floats  # [racks, gpus] share of work that still gets done
    dead: Bools  # [racks, gpus]
    flow: Floats  # [racks]
    pump: Floats  # [cdus]
    leak: Floats  # [racks] litres a minute lost, 0 for none
    psu_lost: Floats  # [racks]
    dark: Bools  # [racks] nothing of it is heard

    @staticmethod
    def none(topology: Topology) -> FaultEffects:
        grid = (topology.racks, topology.count("gpu"))
        return FaultEffects(
            np.ones(grid),
            np.ones(grid),
            np.ones(grid),
            np.zeros(grid, bool),
            np.ones(topology.racks),
            np.ones(topology.cdus),
            np.zeros(topology.racks),
            np.zeros(topology.racks),
            np.zeros(topology.racks, bool),
        )


@dataclass(slots=True)
class State:
    """What sensors can read, in the units of the names. GPU arrays are [racks, gpus]."""

    power_w: Floats
    temp_c: Floats
    hbm_c: Floats
    clock: Floats
    energy_j: Floats
    compute: Floats
    communicate: Floats
    resident: Floats
    cpu_w: Floats
    dpu_w: Floats
    cpu_temp_c: Floats
    rack_w: Floats
    rack_energy_j: Floats
    node_energy_j: Floats
    flow_lpm: Floats
    supply_c: Floats
    return_c: Floats
    dp_kpa: Floats
    valve_pct: Floats
    level_pct: Floats
    cdu_supply_c: Floats
    cdu_return_c: Floats
    cdu_flow_lpm: Floats
    cdu_heat_w: Floats
    cdu_pump_pct: Floats
    cdu_pumps: Floats
    cooling_w: float
    facility_w: float
    facility_energy_j: float


class Plant:
    """Call `step` once a tick, in order."""

    def __init__(self, topology: Topology, workloads: Workloads, rng: np.random.Generator) -> None:
        self._topology, self._workloads = topology, workloads
        design, racks, gpus = topology.design, topology.racks, topology.count("gpu")
        self._tdp, self._idle = design.gpu["tdp_w"], design.gpu["idle_w"]
        self._die_k_per_w = DIE_RISE_K / self._tdp * rng.normal(1, 0.04, (racks, gpus)).clip(0.85, 1.15)
        self._hbm_k_per_w = HBM_RISE_K / self._tdp * rng.normal(1, 0.04, (racks, gpus)).clip(0.85, 1.15)
        self._silicon = rng.normal(1, 0.015, (racks, gpus)).clip(0.94, 1.06)
        self._design_flow = design["flow_lpm_per_kw"] * design.max_power_w / 1000 * rng.normal(1, 0.02, racks)
        self._dp_full = rng.uniform(78, 191, racks)  # NVIDIA's trace: 78 to 191 kPa
        self._capture = design["capture"] + rng.uniform(-0.006, 0.006, racks)
        self._cdu_of = topology.cdu_of()
        supply = design["supply_c"]
        zeros, grid = np.zeros(racks), np.zeros((racks, gpus))
        self.state = State(
            power_w=grid + self._idle,
            temp_c=grid + supply + 6,
            hbm_c=grid + supply + 5,
            clock=grid + 0.2,
            energy_j=rng.uniform(1e8, 5e9, (racks, gpus)).round(3),
            compute=grid,
            communicate=grid,
            resident=grid,
            cpu_w=zeros,
            dpu_w=zeros,
            cpu_temp_c=zeros + supply + 10,
            rack_w=zeros + 1,
            rack_energy_j=rng.uniform(1e11, 1e12, racks).round(),
            node_energy_j=rng.uniform(1e9, 1e10, racks).round(),
            flow_lpm=self._design_flow * 0.9,
            supply_c=zeros + supply,
            return_c=zeros + supply + 3,
            dp_kpa=self._dp_full * 0.8,
            valve_pct=zeros + 62,
            level_pct=zeros + 92.0,
            cdu_supply_c=np.full(topology.cdus, supply),
            cdu_return_c=np.full(topology.cdus, supply + 3),
            cdu_flow_lpm=np.zeros(topology.cdus),
            cdu_heat_w=np.zeros(topology.cdus),
            cdu_pump_pct=np.full(topology.cdus, CDU_PUMP_PCT),
            cdu_pumps=np.full(topology.cdus, 2.0),
            cooling_w=0.0,
            facility_w=1.0,
            facility_energy_j=1e12,
        )

    def settle(self, t_s: float) -> None:
        """Runs ten minutes of plant time, so that a new plant begins warm."""
        none = FaultEffects.none(self._topology)
        for k in range(60):
            self.step(t_s - 600 + 10 * k, 10.0, none)

    def replace_board(self, gpu: tuple[int, int], rng: np.random.Generator) -> None:
        """Puts a spare at (rack, GPU): its counter begins at 0, its silicon and cold plate are its own."""
        self.state.energy_j[gpu] = 0.0
        self._silicon[gpu] = rng.normal(1, 0.015)
        self._die_k_per_w[gpu] = DIE_RISE_K / self._tdp * rng.normal(1, 0.04)
        self._hbm_k_per_w[gpu] = HBM_RISE_K / self._tdp * rng.normal(1, 0.04)

    def exchange_boards(self, gpu: tuple[int, int], other: tuple[int, int]) -> None:
        for array in (self.state.energy_j, self._silicon, self._die_k_per_w, self._hbm_k_per_w):
            array[gpu], array[other] = array[other], array[gpu]

    def step(self, t_s: float, dt_s: float, effects: FaultEffects) -> State:
        """Advances by `dt_s` to `t_s` (seconds since 1970) and returns the state, which the next step changes."""
        s, demand = self.state, self._workloads.demand(t_s, dt_s)
        self._gpus(s, demand, dt_s, effects)
        self._racks(s, dt_s, effects)
        self._coolant(s, dt_s, effects)
        self._facility(s, dt_s, effects)
        return s

    def _gpus(self, s: State, demand: Demand, dt: float, effects: FaultEffects) -> None:
        done = demand.compute * effects.throughput_factor
        throttled = np.where(s.temp_c >= self._topology.design.gpu["slowdown_c"], 0.55, 1.0)
        cap = np.minimum(effects.clock_cap, throttled)
        s.compute, s.communicate, s.resident = done, demand.communicate, demand.resident
        busy = (done > 0.02) | (demand.communicate > 0.05)
        s.clock = np.where(busy, np.minimum(cap, 1.0 - 0.03 * done), 0.17)
        load = (0.80 * done + 0.16 * demand.communicate + 0.03 * (demand.resident > 0.1)) * cap**1.5
        target = np.minimum((self._idle + (self._tdp - self._idle) * load.clip(0, 1)) * self._silicon, self._tdp)
        target = np.where(effects.dead, 0.0, target)
        s.power_w = s.power_w + (target - s.power_w) * (1 - np.exp(-dt / TAU_POWER_S))
        s.energy_j = s.energy_j + s.power_w * dt
        coolant = (0.6 * s.supply_c + 0.4 * s.return_c)[:, None]
        # cold plates lose effect as flow drops below design: convective share of the resistance goes with flow^-0.8
        weak = (0.6 + 0.4 * np.maximum(s.flow_lpm / self._design_flow, 0.05) ** -0.8)[:, None]
        die = coolant + s.power_w * self._die_k_per_w * effects.die_resistance * weak
        s.temp_c = s.temp_c + (die - s.temp_c) * (1 - np.exp(-dt / TAU_DIE_S))
        hbm = coolant + s.power_w * self._hbm_k_per_w * (0.5 + 0.5 * effects.die_resistance) * weak
        s.hbm_c = s.hbm_c + (hbm - s.hbm_c) * (1 - np.exp(-dt / TAU_HBM_S))

    def _racks(self, s: State, dt: float, effects: FaultEffects) -> None:
        design = self._topology.design
        load = s.compute.mean(axis=1)
        traffic = s.communicate.mean(axis=1)
        cpu, dpu = design.cpu, design.dpu
        s.cpu_w = cpu["idle_w"] + (cpu["tdp_w"] - cpu["idle_w"]) * (0.15 + 0.55 * load + 0.2 * traffic) * (load > 0.02)
        s.dpu_w = dpu["idle_w"] + (dpu["tdp_w"] - dpu["idle_w"]) * (0.1 + 0.8 * traffic) * (load > 0.02)
        s.cpu_temp_c += (s.supply_c + 8 + 22 * s.cpu_w / cpu["tdp_w"] - s.cpu_temp_c) * (1 - np.exp(-dt / TAU_HBM_S))
        other = design["other_w"] * (0.55 + 0.35 * load + 0.1 * traffic)
        parts = (
            s.power_w.sum(axis=1)
            + self._topology.count("cpu") * s.cpu_w
            + self._topology.count("dpu") * s.dpu_w
            + other
        )
        s.rack_w = parts / PSU_EFFICIENCY
        s.rack_energy_j = s.rack_energy_j + s.rack_w * dt
        s.node_energy_j = s.node_energy_j + s.cpu_w * dt

    def _coolant(self, s: State, dt: float, effects: FaultEffects) -> None:
        demand = 0.9 + 0.1 * s.rack_w / self._topology.design.max_power_w
        pump = np.clip(s.cdu_pump_pct / CDU_PUMP_PCT, 0.05, 1.3)[self._cdu_of]
        share = np.minimum(pump, 1.0)
        s.flow_lpm = self._design_flow * demand * share * effects.flow
        s.dp_kpa = self._dp_full * (demand * share) ** 2 * np.where(effects.flow < 1, 1.25, 1.0)
        s.valve_pct = 58 + 9 * demand * np.where(effects.flow < 1, 0.6, 1.0)
        s.level_pct = np.maximum(
            s.level_pct - effects.leak * dt / 60 / 2.0, 0.0
        )  # a rack holds about 200 L: 1 % is 2 L
        heat = s.rack_w * self._capture
        rise = heat / (np.maximum(s.flow_lpm, 1.0) / 60 * PG25_J_PER_L_K)
        s.supply_c = s.supply_c + (s.cdu_supply_c[self._cdu_of] - s.supply_c) * (1 - np.exp(-dt / TAU_COOLANT_S))
        s.return_c = s.return_c + (s.supply_c + rise - s.return_c) * (1 - np.exp(-dt / TAU_COOLANT_S))
        s.return_c = np.minimum(s.return_c, 95.0)

    def _facility(self, s: State, dt: float, effects: FaultEffects) -> None:
        index, cdus = self._cdu_of, self._topology.cdus
        s.cdu_flow_lpm = np.bincount(index, s.flow_lpm, cdus)
        s.cdu_heat_w = np.bincount(index, s.flow_lpm / 60 * PG25_J_PER_L_K * (s.return_c - s.supply_c), cdus)
        s.cdu_return_c = np.bincount(index, s.flow_lpm * s.return_c, cdus) / np.maximum(s.cdu_flow_lpm, 1)
        # two pumps share the load; when one trips its twin speeds up within about 15 s, to what `pump` leaves it
        s.cdu_pumps = np.where(effects.pump < 1, 1.0, 2.0)
        target = CDU_PUMP_PCT * np.where(effects.pump < 1, effects.pump, 1.0)
        s.cdu_pump_pct = s.cdu_pump_pct + (target - s.cdu_pump_pct) * (1 - np.exp(-dt / 4.0))
        shortfall = np.clip(1 - s.cdu_pump_pct / CDU_PUMP_PCT, 0, 1)
        supply = self._topology.design["supply_c"] + 6.0 * shortfall
        s.cdu_supply_c = s.cdu_supply_c + (supply - s.cdu_supply_c) * (1 - np.exp(-dt / TAU_CDU_S))
        it = float(s.rack_w.sum())
        pumps = 0.018 * float(s.cdu_heat_w.sum())  # secondary and primary pumps, about 2 % of the heat they move
        s.cooling_w = max(0.0, float(s.cdu_heat_w.sum())) / COOLING_COP + pumps
        s.facility_w = it * (1 + DISTRIBUTION_LOSS) + s.cooling_w
        s.facility_energy_j = s.facility_energy_j + s.facility_w * dt
