"""The processes of a factory on this machine: how each is started, what it reports, and whether all of the log is
processed. The supervisor and the watchdog share them.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pipeline import kafka
from pipeline.embedded import drain
from pipeline.embedded.broker import Apache, Broker, Tansu
from pipeline.embedded.ports import free_port, port_open
from pipeline.embedded.process import KEEP_MEMORY, Process, wait_for
from pipeline.instance import run_dir
from pipeline.monitoring import status
from pipeline.monitoring.health import STALL_S
from pipeline.monitoring.statuses import ProcessStatus, SinkStatus, StreamStatus, parse
from pipeline.store import client as store_client
from pipeline.store.migrate import migrate
from pipeline.store.tables import BY_TOPIC
from schemas import topics
from schemas.topics import CONSUMED

CLICKHOUSE_PORT = 18123
CONSUMERS = ("stream", "sink")


@dataclass(frozen=True, slots=True)
class Plan:
    """The options of `gigawatch up`.

    `producer` is the argument list of `gigawatch produce`, empty for no producer.
    """

    data_dir: Path
    producer: tuple[str, ...]
    broker: str = "embedded"
    clickhouse: str = "embedded"
    workers: int = 1
    tick_s: float = 1.0
    partitions: int = topics.PARTITIONS
    broker_memory_mb: int = 2048
    max_age_days: float = 1.0
    sink: tuple[str, ...] = ()
    consumers: bool = True
    services: tuple[str, ...] = ("broker", "clickhouse")
    stall_s: float = STALL_S
    watch_port: int | None = None  # preferred port of the watch page; None for no page


@dataclass(slots=True)
class Services:
    """Processes by name, and their addresses once they are started; `report` shows progress to people.

    `stopped`: processes that were stopped on purpose and stay down.
    """

    plan: Plan
    report: Callable[[str], None] = lambda _: None
    bootstrap: str = ""
    clickhouse: str = ""
    log_id: str = ""
    broker: Broker | None = None
    processes: dict[str, Process] = field(default_factory=dict)
    cpu_before: dict[str, float] = field(default_factory=dict)
    stopped: set[str] = field(default_factory=set)

    @property
    def run_dir(self) -> Path:
        return run_dir(self.plan.data_dir)

    @property
    def hold_file(self) -> Path:
        """While this file exists the producer sends nothing."""
        return self.run_dir / "hold"

    # -- start -------------------------------------------------------------------------------------------------------

    def start_broker(self) -> None:
        plan = self.plan
        if plan.broker == "embedded":
            self.broker = Tansu(plan.data_dir)
        elif plan.broker == "apache":
            self.broker = Apache(plan.data_dir)
        if self.broker is None:
            self.bootstrap = plan.broker
            return
        self.broker.start()
        self.bootstrap = self.broker.bootstrap
        self.processes["broker"] = self.broker.process

    async def prepare_broker(self) -> None:
        """Waits until the broker answers, makes the topics, and notes the id of its log."""
        await _until_answers(self.bootstrap)
        await kafka.ensure_topics(self.bootstrap, self.plan.partitions)
        self.log_id = await kafka.log_id(self.bootstrap)

    def start_clickhouse(self) -> None:
        """Starts the embedded ClickHouse if the plan has one, and makes the tables."""
        if self.plan.clickhouse == "embedded":
            port = free_port(CLICKHOUSE_PORT)
            process = self.spawn(
                "clickhouse", ["clickhouse", "--port", str(port), "--data-dir", str(self.plan.data_dir)]
            )
            wait_for(process, lambda: port_open(port), 60)
            self.clickhouse = f"http://127.0.0.1:{port}"
        else:
            self.clickhouse = self.plan.clickhouse
        client = store_client.connect(self.clickhouse)
        migrate(client)
        client.close()

    def start_consumers(self) -> None:
        plan = self.plan
        sink = ["--broker", self.bootstrap, "--clickhouse", self.clickhouse, "--max-age", str(plan.max_age_days)]
        self.spawn("sink", ["sink", *sink, *plan.sink])
        for n in range(plan.workers):
            state = ["--snapshot", str(self.run_dir / f"stream-{n}.state")] if plan.workers == 1 else []
            self.spawn(f"stream-{n}", ["stream", "--broker", self.bootstrap, "--tick", str(plan.tick_s), *state])

    async def stop_consumers(self, grace_s: float) -> None:
        """Stops workers and sink until `start_consumers`, on another log: their positions in this one go with it."""
        for name in [n for n in self.processes if n.startswith(CONSUMERS)]:
            await asyncio.to_thread(self.processes[name].stop, grace_s)
            self.note_cpu(name)
            (self.run_dir / f"{name}.json").unlink(missing_ok=True)

    def spawn(self, name: str, argv: list[str]) -> Process:
        """Starts `gigawatch ARGV` as a process of the factory."""
        argv = [sys.executable, "-m", "pipeline", *argv]
        if name != "clickhouse":
            argv += ["--status", str(self.run_dir / f"{name}.json")]
        if name not in ("clickhouse", "watch"):
            argv += ["--metrics", "127.0.0.1:0"]
        process = self.processes[name] = Process(
            name, argv, self.plan.data_dir / "log" / f"{name}.log", env=KEEP_MEMORY
        )
        process.start()
        return process

    def kill_all(self) -> None:
        for name, process in reversed(self.processes.items()):
            if name not in ("broker", "clickhouse"):
                process.kill()
        if "clickhouse" in self.processes:
            self.processes["clickhouse"].stop(20)
        if self.broker is not None:
            self.broker.stop()

    # -- what they report --------------------------------------------------------------------------------------------

    def status(self, name: str) -> ProcessStatus:
        """The last status of a process; an empty one before its first."""
        return parse(name, status.read(self.run_dir / f"{name}.json"))

    def statuses(self) -> dict[str, ProcessStatus]:
        return {name: self.status(name) for name in self.processes}

    def consumers(self) -> dict[str, StreamStatus | SinkStatus]:
        """The last status of every worker and sink."""
        return {n: s for n, s in self.statuses().items() if isinstance(s, (StreamStatus, SinkStatus))}

    async def wait_drained(
        self, timeout_s: float, *, stream: bool = True, sink: bool = True, meanwhile: Callable[[], None]
    ) -> bool:
        """Waits until the sink and the workers (those asked for) have processed every record of the log; False when it
        takes longer than `timeout_s`. Calls `meanwhile` at every check.
        """
        readers = {**({"sink": tuple(BY_TOPIC)} if sink else {}), **({"stream": CONSUMED} if stream else {})}
        return await drain.drained(self.bootstrap, lambda: self._readers(readers), timeout_s, meanwhile)

    def _readers(self, readers: dict[str, tuple[str, ...]]) -> list[drain.Reader]:
        found = self.consumers()
        return [
            drain.Reader(wanted, [s.positions for name, s in found.items() if name.startswith(prefix)])
            for prefix, wanted in readers.items()
        ]

    def cpu_s(self) -> dict[str, float]:
        """CPU seconds by process, those before its restarts included."""
        last = {n: p.cpu_s() if p.running else self.status(n).cpu_s for n, p in self.processes.items()}
        return {name: round(self.cpu_before.get(name, 0.0) + used, 2) for name, used in last.items()}

    def note_cpu(self, name: str) -> None:
        """Adds the CPU seconds of a process that ends to those before its restart."""
        used = self.status(name).cpu_s or self.processes[name].cpu_s()
        self.cpu_before[name] = self.cpu_before.get(name, 0.0) + used


async def _until_answers(bootstrap: str) -> None:
    for attempt in range(100):
        try:
            await kafka.log_id(bootstrap)
            return
        except kafka.BrokerError:
            if attempt == 99:
                raise
            await asyncio.sleep(0.1)
