"""The synthetic source: steps the plant once a tick and emits what its sensors read, faults and their labels."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from producers.emission import Emission, Event, SiteTick
from producers.sources.source import SourceError, Ticker
from producers.sources.synthetic.boards import Boards
from producers.sources.synthetic.devices import BY_RACK, Identity, SiteDevices
from producers.sources.synthetic.faults import Fault, parse
from producers.sources.synthetic.injection import ActiveFault, BoardSwap, Injection
from producers.sources.synthetic.inventory import SiteInventory
from producers.sources.synthetic.job_events import JobEvents
from producers.sources.synthetic.job_schedule import JobSchedule
from producers.sources.synthetic.node_list import NodeList
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
    while it runs, and so does a line appended to the file `control`. `job_changes` nodes a second pass from one job to
    another.
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
        job_changes: float = 0.0,
    ) -> None:
        if racks < 1:
            raise SourceError(f"{racks} racks; there must be at least one")
        rng = np.random.default_rng(seed)
        self.topology = Topology(site, hardware.load().rack(model), racks)
        self._ticker = Ticker(tick_s, start_ms, speed)
        self._ticks, self._control, self._seed = ticks, control, seed
        self._control_read = 0
        self.workloads = Workloads(racks, self.topology.count("gpu"), rng)
        self.plant = Plant(self.topology, self.workloads, rng)
        self._sensors = Sensors(self.topology, rng)
        self._boards = Boards(site, seed)
        self._devices = SiteDevices(self.topology, self._boards)
        self._inventory = SiteInventory(self.topology, self._devices, self._boards)
        nodes = NodeList.of(self._devices.identity["gpu"])
        self.schedule = JobSchedule(nodes, self.workloads.names, seed, job_changes)
        self._job_events = JobEvents(nodes, self.schedule, self._ticker.tick_ms)
        self._idle_nodes: tuple[int, ...] = ()
        self._spares: Counter[tuple[int, int]] = Counter()
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
        """Advances the plant to `ts_ms`; yields what changed in the inventory and among the jobs, that tick of each
        list of devices, and the labels of faults.
        """
        t_s = self._elapsed_s(ts_ms)
        yield from self._inventory.at(ts_ms)
        for swap in self._injection.due_swaps(t_s):
            yield from self._swap(swap, ts_ms)
        active = self._injection.active(t_s)
        yield from self._jobs(ts_ms, self._injection.idle_nodes(active))
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

    def _jobs(self, ts_ms: int, idle_nodes: tuple[int, ...]) -> list[Event]:
        """Lets the load follow the jobs; `idle_nodes` do nothing, held or not."""
        self.schedule.advance(ts_ms)
        events = self._job_events.at(ts_ms)
        if events or idle_nodes != self._idle_nodes:
            self.workloads.follow(self.schedule.levels(idle_nodes))
            self._idle_nodes = idle_nodes
        return events

    def _swap(self, swap: BoardSwap, ts_ms: int) -> list[Event]:
        gpu, held = self._devices.identity["gpu"], self.topology.count("gpu")
        rows = [rack * held + number for rack, number in (swap.place, swap.other or swap.place)]
        if swap.other is not None:
            self.plant.exchange_boards(swap.place, swap.other)
            self._sensors.exchange_boards(swap.place, swap.other)
            boards = {row: gpu["board"][other].as_py() for row, other in zip(rows, reversed(rows), strict=True)}
            return self._inventory.change_boards(boards, ts_ms, "active", "moved")
        self._spares[swap.place] += 1
        place, number = gpu["device"][rows[0]].as_py(), self._spares[swap.place]
        self.plant.replace_board(swap.place, np.random.default_rng([self._seed, 4, rows[0], number]))
        self._sensors.replace_board(swap.place)
        return self._inventory.change_boards({rows[0]: self._boards.uuid(place, number)}, ts_ms, "retired", "swapped")

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
        missing = {"gpu": gone.ravel()}
        if effects.dark.any():
            missing |= {name: np.repeat(effects.dark, devices.each_rack(name)) for name in BY_RACK if name != "gpu"}
        for name, columns in (
            ("gpu", gpu),
            ("node", sensors.node(state)),
            ("power", sensors.power(state, effects)),
            ("cooling", cooling),
            ("cdu", sensors.cdu(state)),
            ("meter", sensors.meter(state)),
            ("plant", sensors.cooling_plant(state)),
        ):
            lost = missing.get(name)
            if lost is None or not lost.any():
                yield SiteTick(devices.of(name, tuple(columns)), ts_ms, columns)
            elif not lost.all():
                left = {n: values[~lost] for n, values in columns.items()}
                yield SiteTick(devices.present(name, lost, tuple(columns)), ts_ms, left)
