"""The synthetic source: steps the plant once a tick and emits what its sensors read, faults and their labels."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from producers.emission import Emission, Event, SiteTick
from producers.sources.source import SourceError, Ticker
from producers.sources.synthetic.boards import Boards
from producers.sources.synthetic.devices import Identity, SiteDevices
from producers.sources.synthetic.faults import Fault, parse
from producers.sources.synthetic.injection import ActiveFault, Injection
from producers.sources.synthetic.places import Places
from producers.sources.synthetic.plant import FaultEffects, Plant, State
from producers.sources.synthetic.sensors import Columns, Sensors
from producers.sources.synthetic.topology import Topology
from producers.sources.synthetic.workload import Workloads
from schemas import hardware
from schemas.frame import Frame

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
        self.topology = Topology(site, hardware.load().rack(model), racks)
        self._ticker = Ticker(tick_s, start_ms, speed)
        self._ticks, self._control = ticks, control
        self._control_read = 0
        self.workloads = Workloads(racks, self.topology.count("gpu"), rng)
        self.plant = Plant(self.topology, self.workloads, rng)
        self._sensors = Sensors(self.topology, rng)
        self._devices = SiteDevices(self.topology, Boards(site, seed))
        self._injection = Injection(self.topology)
        self._started_ms: int | None = None
        for fault in faults:
            self.inject(fault)
        if control is not None:
            Places.of(self.topology).save(control.parent)

    @property
    def describe(self) -> str:
        topology, design = self.topology, self.topology.design
        return (
            f"synthetic: {topology.racks} x {design.name} ({topology.racks * design.gpus} {design.gpu.name} GPUs), "
            f"{topology.cdus} CDU, a sample every {self._ticker.tick_ms / 1000:g} s"
        )

    def inject(self, fault: Fault, now_ms: int | None = None) -> None:
        """Adds a fault; with `now_ms` its times count from then instead of from the start.

        Raises SourceError for a wrong place.
        """
        running = now_ms is not None and self._started_ms is not None
        self._injection.add(fault, (now_ms - self._started_ms) / 1000 if running else 0.0)  # type: ignore[operator]

    async def emissions(self) -> AsyncGenerator[Emission]:
        done = 0
        while self._ticks is None or done < self._ticks:
            stamp = await self._ticker.wait()
            self._read_control(stamp)
            for emission in self.tick(stamp):
                yield emission
            done += 1

    def tick(self, ts_ms: int) -> Iterator[SiteTick | Event]:
        """Advances the plant to `ts_ms`; yields that tick of each list of devices, and the labels of faults."""
        t_s = self._elapsed_s(ts_ms)
        active = self._injection.active(t_s)
        effects = self._injection.effects(active)
        state = self._step(ts_ms, effects)
        yield from self._site_ticks(ts_ms, state, effects, active)
        labels = self._injection.labels(self._started_ms or 0, t_s)
        if labels is not None:
            yield labels

    def frames(self, ts_ms: int) -> Iterator[Frame | Event]:
        """The same as `tick` in frames: four a rack, one a CDU, two for the site."""
        for emission in self.tick(ts_ms):
            if isinstance(emission, SiteTick):
                yield from emission.frames()
            else:
                yield emission

    def columns(self, ts_ms: int) -> dict[str, tuple[Identity, Columns]]:
        """Returns one tick of a healthy plant as (identity, readings) of whole sites: gpu, power, cooling (racks) and
        cdu.
        """
        self._elapsed_s(ts_ms)
        effects = FaultEffects.none(self.topology)
        state = self._step(ts_ms, effects)
        found = {
            "gpu": self._sensors.gpu(state, effects),
            "power": self._sensors.power(state, effects),
            "cooling": self._sensors.cooling(state, effects),
            "cdu": self._sensors.cdu(state),
        }
        return {name: (self._devices.identity[name], columns) for name, columns in found.items()}

    def _elapsed_s(self, ts_ms: int) -> float:
        """Returns seconds since the first tick, before which the plant warms up."""
        if self._started_ms is None:
            self._started_ms = ts_ms
            self.plant.settle(ts_ms / 1000)
        return (ts_ms - self._started_ms) / 1000

    def _step(self, ts_ms: int, effects: FaultEffects) -> State:
        return self.plant.step(ts_ms / 1000, self._ticker.tick_ms / 1000, effects)

    def _read_control(self, now_ms: int) -> None:
        if self._control is None or not self._control.exists():
            return
        lines = self._control.read_text().splitlines()
        for line in lines[self._control_read :]:
            try:
                fault = parse(line)
                self.inject(replace(fault, at_s=0.0), now_ms)
                log.info("injected %s", line)
            except SourceError as err:
                log.warning("%s", err)
        self._control_read = len(lines)

    def _site_ticks(
        self, ts_ms: int, state: State, effects: FaultEffects, active: list[ActiveFault]
    ) -> Iterator[SiteTick]:
        sensors, devices = self._sensors, self._devices
        gpu, cooling = sensors.gpu(state, effects), sensors.cooling(state, effects)
        self._injection.distort(gpu, cooling, active)
        gone = self._injection.gone(effects, active)
        gpus_gone = gone.ravel()
        for name, columns in (
            ("gpu", gpu),
            ("node", sensors.node(state)),
            ("power", sensors.power(state, effects)),
            ("cooling", cooling),
            ("cdu", sensors.cdu(state)),
            ("meter", sensors.meter(state)),
            ("plant", sensors.cooling_plant(state)),
        ):
            missing = gpus_gone if name == "gpu" else None
            if missing is None or not missing.any():
                yield SiteTick(devices.of(name, tuple(columns)), ts_ms, columns)
            elif not missing.all():
                left = {n: values[~missing] for n, values in columns.items()}
                yield SiteTick(devices.present(name, missing, tuple(columns)), ts_ms, left)
