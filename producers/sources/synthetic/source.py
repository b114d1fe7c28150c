"""The synthetic source: steps the plant once a tick and emits its sensors' frames, faults and their labels."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from producers.sources.source import Emission, Event, SourceError, Ticker
from producers.sources.synthetic.faults import FAULTS, Fault, parse
from producers.sources.synthetic.places import Places
from producers.sources.synthetic.plant import FaultEffects, Plant, State
from producers.sources.synthetic.sensors import Columns, Sensors
from producers.sources.synthetic.topology import Topology
from producers.sources.synthetic.workload import Workloads
from schemas import hardware
from schemas.arrays import Floats
from schemas.derived import LABEL
from schemas.frame import Frame, build

log = logging.getLogger("gigawatch.synthetic")


class Synthetic:
    """`racks` racks of `model` (a rack or GPU name) at one sample every `tick_s`. Same seed and start, same telemetry.

    `speed` 1 is real time, 0 as fast as it goes. `ticks` ends it. `start_ms` defaults to now. `inject` adds faults
    while it runs, and so does a line appended to the file `control`.
    """

    def __init__(
        self,
        racks: int = 4,
        model: str = "GB200",
        *,
        site: str = "site-1",
        tick_s: float = 1.0,
        seed: int = 0,
        faults: Sequence[Fault] = (),
        ticks: int | None = None,
        start_ms: int | None = None,
        speed: float = 1.0,
        control: Path | None = None,
    ) -> None:
        if racks < 1:
            raise SourceError(f"{racks} racks; there must be at least one")
        rng = np.random.default_rng(seed)
        self.layout = Topology(site, hardware.load().rack(model), racks)
        self._places = Places.of(self.layout)
        self._ticker = Ticker(tick_s, start_ms, speed)
        self._ticks, self._control = ticks, control
        self._control_read = 0
        self.workloads = Workloads(racks, self.layout.count("gpu"), rng)
        self.plant = Plant(self.layout, self.workloads, rng)
        self._sensors = Sensors(self.layout, rng)
        self._started_ms: int | None = None
        self._faults: list[Fault] = []
        self._frozen: dict[str, dict[str, Floats]] = {}
        self._labelled: dict[Fault, tuple[bool, bool]] = {}
        self._identity = self._identities()
        for fault in faults:
            self.inject(fault)
        if control is not None:
            self._places.save(control.parent)

    @property
    def describe(self) -> str:
        layout = self.layout
        return (
            f"synthetic: {layout.racks} x {layout.design.name} ({layout.racks * layout.design.gpus} "
            f"{layout.design.gpu.name} "
            f"GPUs), {layout.cdus} CDU, a sample every {self._ticker.tick_ms / 1000:g} s"
        )

    def inject(self, fault: Fault, now_ms: int | None = None) -> None:
        """Adds a fault; with `now_ms` its times count from then instead of from the start.

        SourceError for a wrong place.
        """
        self._places.index(fault)
        if now_ms is not None and self._started_ms is not None:
            fault = Fault(
                fault.name, fault.place, fault.at_s + (now_ms - self._started_ms) / 1000, fault.lasts_s, fault.severity
            )
        self._faults.append(fault)
        self._labelled[fault] = (False, False)

    async def emissions(self) -> AsyncGenerator[Emission]:
        done = 0
        while self._ticks is None or done < self._ticks:
            stamp = await self._ticker.wait()
            self._read_control(stamp)
            for emission in self.tick(stamp):
                yield emission
            done += 1

    def tick(self, ts_ms: int) -> Iterator[Emission]:
        """Advances the plant to `ts_ms` and gives that tick's frames, four a rack, one a CDU, two a site."""
        if self._started_ms is None:
            self._started_ms = ts_ms
            self.plant.settle(ts_ms / 1000)
        t_s = (ts_ms - self._started_ms) / 1000
        pull = FaultEffects.none(self.layout)
        active = [(f, level) for f in self._faults if (level := f.level(t_s)) > 0]
        for fault, level in active:
            self._pull(pull, fault, level)
        state = self.plant.step(ts_ms / 1000, self._ticker.tick_ms / 1000, pull)
        yield from self._frames(ts_ms, state, pull, active)
        yield from self._labels(ts_ms, t_s)

    def columns(self, ts_ms: int) -> dict[str, tuple[dict[str, pa.Array], Columns]]:
        """One tick of a healthy plant as whole-site columns with their identity: gpu, power, cooling (racks), cdu,
        meter and plant.
        """
        if self._started_ms is None:
            self._started_ms = ts_ms
            self.plant.settle(ts_ms / 1000)
        pull = FaultEffects.none(self.layout)
        state = self.plant.step(ts_ms / 1000, self._ticker.tick_ms / 1000, pull)
        found = {
            "gpu": self._sensors.gpu(state, pull),
            "power": self._sensors.power(state, pull),
            "cooling": self._sensors.cooling(state, pull),
            "cdu": self._sensors.cdu(state),
        }
        return {kind: (self._identity[kind], columns) for kind, columns in found.items()}

    def _read_control(self, now: int) -> None:
        if self._control is None or not self._control.exists():
            return
        lines = self._control.read_text().splitlines()
        for line in lines[self._control_read :]:
            try:
                fault = parse(line)
                self.inject(replace(fault, at_s=0.0), now)
                log.info("injected %s", line)
            except SourceError as err:
                log.warning("%s", err)
        self._control_read = len(lines)

    # -- faults --------------------------------------------------------------------------------------------------

    def _pull(self, pull: FaultEffects, fault: Fault, level: float) -> None:
        rack, gpu = self._places.index(fault)
        match fault.name:
            case "gpu-thermal":
                pull.die_resistance[rack, gpu] = 1 + 0.9 * level
            case "gpu-throttle":
                pull.clock_cap[rack, gpu] = max(0.2, 1 - 0.45 * level)
            case "gpu-straggler":
                pull.slow[rack, gpu] = max(0.1, 1 - 0.35 * level)
            case "gpu-dead":
                pull.dead[rack, gpu] = True
            case "coolant-flow":
                pull.flow[rack] = max(0.1, 1 - 0.5 * level)
            case "leak":
                pull.leak[rack] = 3.0 * level
                pull.flow[rack] = min(pull.flow[rack], 1 - 0.08 * level)
            case "cdu-pump":
                pull.pump[rack] = max(0.1, 1 - 0.4 * level)
            case "psu-loss":
                pull.psu_lost[rack] = max(1.0, round(level))

    def _labels(self, ts_ms: int, t_s: float) -> Iterator[Event]:
        rows = []
        for fault, (started, ended) in self._labelled.items():
            begins, ends = t_s >= fault.at_s, t_s >= fault.at_s + fault.lasts_s
            if (begins and not started) or (ends and not ended):
                start = (self._started_ms or 0) + int(fault.at_s * 1000)
                kind, cause = FAULTS[fault.name]
                site_end = start + int(fault.lasts_s * 1000) if ends else 0
                rows.append(
                    {
                        "fault": fault.name,
                        "started": start,
                        "ended": site_end,
                        "kind": kind,
                        "site": self.layout.site,
                        "rack": fault.place.split("-")[0] if fault.place.startswith("R") else "",
                        "device": fault.place,
                        "cause": cause,
                        "severity": fault.severity,
                    }
                )
                self._labelled[fault] = (begins, ends)
        if rows:
            yield Event(LABEL, LABEL.build_rows(rows))

    # -- frames --------------------------------------------------------------------------------------------------

    def _identities(self) -> dict[str, dict[str, pa.Array]]:
        layout, racks = self.layout, self.layout.racks
        cpu, dpu = layout.identity(("cpu",)), layout.identity(("dpu",))
        order = np.argsort(
            np.concatenate([np.repeat(np.arange(racks), layout.count(p)) for p in ("cpu", "dpu")]), kind="stable"
        )
        nodes = {k: pa.concat_arrays([cpu[k], dpu[k]]).take(pa.array(order)) for k in cpu}
        shelves = tuple((f"SHELF{i}", "power-shelf") for i in range(int(layout.design["shelves"])))
        found = {
            "gpu": layout.identity(("gpu",)),
            "node": nodes,
            "power": layout.rack_identity((("", "rack-meter"), *shelves)),
            "cooling": layout.rack_identity((("", "rack-loop"),)),
        }
        for kind, each in (
            ("gpu", layout.count("gpu")),
            ("node", layout.count("cpu") + layout.count("dpu")),
            ("power", 1 + len(shelves)),
            ("cooling", 1),
        ):
            found[kind]["job"] = pa.array([name for name in self.workloads.names for _ in range(each)], pa.string())
        names = layout.cdu_names()
        empty = pa.array([""] * len(names), pa.string())
        found["cdu"] = {
            "site": pa.array([layout.site] * len(names)),
            "rack": empty,
            "node": empty,
            "device": pa.array(names),
            "model": pa.array(["cdu"] * len(names)),
            "job": empty,
        }
        return found

    def _frames(self, ts: int, s: State, pull: FaultEffects, active: list[tuple[Fault, float]]) -> Iterator[Frame]:
        gone = pull.dead.copy()
        for fault, level in active:  # a GPU that fell off the bus says XID 79 for a few ticks, then nothing
            if fault.name == "gpu-dead" and level < 0.9:
                gone[self._places.index(fault)] = False
        gpu, cooling = self._sensors.gpu(s, pull), self._sensors.cooling(s, pull)
        for fault, level in active:
            rack, column = self._places.index(fault)
            if fault.name == "lying-sensor":
                cooling["return_temp_c"][rack] = np.round(cooling["return_temp_c"][rack] - 3.0 * level, 1)
            elif fault.name == "gpu-frozen":
                row = rack * self.layout.count("gpu") + column
                held = self._frozen.setdefault(fault.place, {n: gpu[n][row].copy() for n in gpu})
                for name, value in held.items():
                    gpu[name][row] = value
        for place in set(self._frozen) - {f.place for f, _ in active if f.name == "gpu-frozen"}:
            del self._frozen[place]
        whole = {"gpu": gpu, "node": self._sensors.node(s), "power": self._sensors.power(s, pull), "cooling": cooling}
        for kind, columns in whole.items():
            batch = build(kind, ts, self._identity[kind], columns).batch
            each = batch.num_rows // self.layout.racks
            for rack in range(self.layout.racks):
                part = batch.slice(rack * each, each)
                if kind == "gpu" and gone[rack].any():
                    part = part.filter(pa.array(~gone[rack]))
                if part.num_rows:
                    yield Frame(kind, part)
        cdus = build("cooling", ts, self._identity["cdu"], self._sensors.cdu(s)).batch
        for index in range(cdus.num_rows):
            yield Frame("cooling", cdus.slice(index, 1))
        yield from self._site(ts, s)

    def _site(self, ts: int, s: State) -> Iterator[Frame]:
        site = self.layout.site
        meter: Columns = {
            "power_w": np.array([round(s.facility_w, -1)]),
            "frequency_hz": np.array([60.0]),
            "energy_j": np.array([s.facility_energy_j]),
        }
        yield build("power", ts, {"site": [site], "device": ["utility-meter"], "model": ["utility-meter"]}, meter)
        plant: Columns = {"power_w": np.array([round(s.cooling_w, -1)])}
        yield build("cooling", ts, {"site": [site], "device": ["cooling-plant"], "model": ["plant"]}, plant)
