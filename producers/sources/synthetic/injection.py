"""Injected faults at work: what they do to the plant and to its sensors at a moment, and the labels that name them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from producers.emission import Event
from producers.sources.synthetic.faults import FAULTS, SWAP, Fault
from producers.sources.synthetic.places import Places
from producers.sources.synthetic.plant import FaultEffects
from producers.sources.synthetic.sensors import Columns
from producers.sources.synthetic.topology import Topology
from schemas.arrays import Bools, Floats
from schemas.derived import LABEL


@dataclass(frozen=True, slots=True)
class BoardSwap:
    """The board at `place` (rack, GPU within it) changes places with that at `other`; None: a spare takes its place."""

    place: tuple[int, int]
    other: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class ActiveFault:
    """A fault at `level` (above 0); `unit` is its rack or CDU, `gpu` the GPU within the rack."""

    fault: Fault
    level: float
    unit: int
    gpu: int


class Injection:
    """The faults of one plant. Times are seconds after its start."""

    def __init__(self, topology: Topology) -> None:
        self._topology, self._places = topology, Places.of(topology)
        self._faults: list[Fault] = []
        self._swaps: list[Fault] = []
        self._labelled: dict[Fault, tuple[bool, bool]] = {}
        self._frozen: dict[str, dict[str, Floats]] = {}

    def add(self, fault: Fault, delay_s: float = 0.0) -> None:
        """Adds a fault, `delay_s` later than it states. Raises SourceError for a place that the plant has not."""
        self._places.index(fault)
        fault = replace(fault, at_s=fault.at_s + delay_s)
        (self._swaps if fault.name == SWAP else self._faults).append(fault)
        self._labelled[fault] = (False, False)

    def due_swaps(self, t_s: float) -> list[BoardSwap]:
        """Returns the swaps up to `t_s` that were not returned yet. What ails a board ends when a spare replaces it."""
        due = sorted((f for f in self._swaps if f.at_s <= t_s), key=lambda f: f.at_s)
        self._swaps = [f for f in self._swaps if f.at_s > t_s]
        for swap in due:
            if not swap.other:
                self._end_at(swap.place, t_s)
        where = self._places.position
        return [BoardSwap(where(f, f.place), where(f, f.other) if f.other else None) for f in due]

    def _end_at(self, gpu: str, t_s: float) -> None:
        for number, fault in enumerate(self._faults):
            if fault.place == gpu and fault.level(t_s) > 0:
                self._faults[number] = replace(fault, lasts_s=t_s - fault.at_s)
                self._labelled[self._faults[number]] = self._labelled.pop(fault)

    def idle_nodes(self, active: list[ActiveFault]) -> tuple[int, ...]:
        """Returns the nodes, numbered over all racks, whose job does nothing."""
        a_node, a_rack = self._places.gpus_per_node, self._places.nodes
        return tuple(one.unit * a_rack + one.gpu // a_node for one in active if one.fault.name == "job-idle")

    def active(self, t_s: float) -> list[ActiveFault]:
        return [ActiveFault(f, level, *self._places.index(f)) for f in self._faults if (level := f.level(t_s)) > 0]

    def effects(self, active: list[ActiveFault]) -> FaultEffects:
        """Returns what these faults do to the plant."""
        effects = FaultEffects.none(self._topology)
        for one in active:
            rack, gpu, level = one.unit, one.gpu, one.level
            match one.fault.name:
                case "gpu-thermal":
                    effects.die_resistance[rack, gpu] = 1 + 0.9 * level
                case "gpu-throttle":
                    effects.clock_cap[rack, gpu] = max(0.2, 1 - 0.45 * level)
                case "gpu-straggler":
                    effects.throughput_factor[rack, gpu] = max(0.1, 1 - 0.35 * level)
                case "gpu-dead":
                    effects.dead[rack, gpu] = True
                case "coolant-flow":
                    effects.flow[rack] = max(0.1, 1 - 0.5 * level)
                case "leak":
                    effects.leak[rack] = 3.0 * level
                    effects.flow[rack] = min(effects.flow[rack], 1 - 0.08 * level)
                case "cdu-pump":
                    effects.pump[rack] = max(0.1, 1 - 0.4 * level)
                case "rack-dark":
                    effects.dark[rack] = True
                case "psu-loss":
                    effects.psu_lost[rack] = max(1.0, round(level))
        return effects

    def distort(self, gpu: Columns, cooling: Columns, active: list[ActiveFault]) -> None:
        """Changes readings in place as faults of the sensors themselves do: an offset, or a GPU that repeats itself."""
        frozen = set()
        for one in active:
            if one.fault.name == "lying-sensor":
                true = cooling["return_temp_c"][one.unit]
                cooling["return_temp_c"][one.unit] = np.round(true - 3.0 * one.level, 1)
            elif one.fault.name == "gpu-frozen":
                row = one.unit * self._topology.count("gpu") + one.gpu
                frozen.add(one.fault.place)
                for name, value in self._frozen.setdefault(
                    one.fault.place, {n: gpu[n][row].copy() for n in gpu}
                ).items():
                    gpu[name][row] = value
        self._frozen = {place: values for place, values in self._frozen.items() if place in frozen}

    def gone(self, effects: FaultEffects, active: list[ActiveFault]) -> Bools:
        """Returns bool[racks, gpus] of GPUs that no longer answer: a GPU that fell off the bus reports XID 79 for a few
        ticks, then nothing; nothing is heard of a dark rack.
        """
        gone = effects.dead.copy()
        for one in active:
            if one.fault.name == "gpu-dead" and one.level < 0.9:
                gone[one.unit, one.gpu] = False
        return gone | effects.dark[:, None]

    def labels(self, started_ms: int, t_s: float) -> Event | None:
        """Returns a row for every fault that began or ended since the last call; None without any."""
        rows = []
        for fault, before in self._labelled.items():
            now = t_s >= fault.at_s, t_s >= fault.at_s + fault.lasts_s
            if now == before or not any(now):
                continue
            start = started_ms + int(fault.at_s * 1000)
            rows.append(
                {
                    "fault": fault.name,
                    "started": start,
                    "ended": start + int(fault.lasts_s * 1000) if now[1] else 0,
                    "kind": FAULTS[fault.name].kind,
                    "site": self._topology.site,
                    "rack": fault.place.split("-")[0] if fault.place.startswith("R") else "",
                    "device": fault.place,
                    "cause": FAULTS[fault.name].cause,
                    "severity": fault.severity,
                }
            )
            self._labelled[fault] = now
        return Event(LABEL, LABEL.build_rows(rows)) if rows else None
