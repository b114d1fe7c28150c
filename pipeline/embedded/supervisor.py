"""A whole factory on this machine: broker, ClickHouse, stream workers, sink and producer as processes, kept alive and
drained.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from pipeline import kafka
from pipeline.embedded import drain
from pipeline.embedded.broker import Apache, Broker, Tansu, kafka_at_hand
from pipeline.embedded.process import KEEP_MEMORY, Process, ProcessError, free_port, port_open, wait_for
from pipeline.embedded.watchdog import Watchdog
from pipeline.instance import Instance, forget, run_dir, running
from pipeline.monitoring import status
from pipeline.monitoring.health import STALL_S
from pipeline.store import client as store_client
from pipeline.store.migrate import migrate
from pipeline.store.tables import BY_TOPIC
from pipeline.stream.names import CONSUMED
from schemas import topics

log = logging.getLogger("gigawatch.up")

CLICKHOUSE_PORT = 18123


@dataclass(frozen=True, slots=True)
class Plan:
    """What `gigawatch up` was asked for.

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
    watch_port: int | None = None  # of the watch page; another one when it is taken


@dataclass(slots=True)
class Supervisor:
    """Use as `async with`; `say` gets progress for people.

    Processes that die are started again, with growing pauses.
    """

    plan: Plan
    say: Callable[[str], None] = lambda _: None
    bootstrap: str = ""
    clickhouse: str = ""
    watch: str = ""
    log_id: str = ""
    broker: Broker | None = None
    processes: dict[str, Process] = field(default_factory=dict)
    cpu_before: dict[str, float] = field(default_factory=dict)
    rotations: int = 0
    stopped: set[str] = field(default_factory=set)
    tender: Watchdog = field(init=False)

    def __post_init__(self) -> None:
        self.tender = Watchdog(self)

    @property
    def run_dir(self) -> Path:
        return run_dir(self.plan.data_dir)

    async def __aenter__(self) -> Self:
        other = running(self.plan.data_dir)
        if other is not None:
            raise ProcessError(
                f"a factory (process {other.pid}) already runs on {self.plan.data_dir}: stop it, or use "
                "another --data-dir"
            )
        self.run_dir.mkdir(parents=True, exist_ok=True)
        for old in self.run_dir.glob("*.json"):
            old.unlink()
        for name in ("hold", "stream-0.state", "inject"):
            (self.run_dir / name).unlink(missing_ok=True)
        try:
            await self._start()
        except BaseException:
            self._kill_all()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._kill_all()
        forget(self.plan.data_dir)

    async def _start(self) -> None:
        if self.plan.broker == "apache" and not kafka_at_hand():
            self.say("fetching Apache Kafka with Maven, once; this takes a minute")
        with self._step(
            {"embedded": "Kafka (Tansu, in memory)", "apache": "Kafka (Apache, on disk)"}.get(self.plan.broker, "Kafka")
        ):
            await asyncio.to_thread(self._start_broker)
            await self.take_broker()
        if "clickhouse" in self.plan.services:
            with self._step("ClickHouse"):
                await asyncio.to_thread(self.start_clickhouse)
        if self.plan.watch_port is not None:
            port = free_port(self.plan.watch_port)
            self.watch = f"http://127.0.0.1:{port}"
            self.spawn("watch", ["watch", "--clickhouse", self.clickhouse, "--port", str(port)])
        Instance(os.getpid(), self.bootstrap, self.clickhouse, round(self.plan.tick_s * 1000), self.watch).save(
            self.plan.data_dir
        )
        if self.plan.consumers:
            with self._step("stream worker and sink"):
                self.start_consumers()
                await self._until(self._consumers_joined, 60, "the stream worker and the sink")
        if self.plan.producer:
            with self._step("producer"):
                self.spawn(
                    "producer",
                    ["produce", *self.plan.producer, "--broker", self.bootstrap, "--hold", str(self.run_dir / "hold")],
                )
                await self._until((self.run_dir / "producer.json").exists, 60, "the producer")

    @contextlib.contextmanager
    def _step(self, what: str) -> Iterator[None]:
        began = time.monotonic()
        self.say(f"starting {what} ...")
        yield
        self.say(f"{what} ready in {time.monotonic() - began:.1f} s")

    def _consumers_joined(self) -> bool:
        """Every consumer is in its group with partitions: only now would a producer be followed at once."""
        return all(
            status.read(self.run_dir / f"{n}.json").get("assigned")
            for n in self.processes
            if n.startswith(("sink", "stream"))
        )

    def _start_broker(self) -> None:
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

    async def take_broker(self) -> None:
        """Waits for the broker, makes its topics, notes which log it is."""
        await _until_answers(self.bootstrap)
        await kafka.ensure_topics(self.bootstrap, self.plan.partitions)
        self.log_id = await kafka.log_id(self.bootstrap)

    def start_clickhouse(self) -> None:
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
        self.spawn(
            "sink",
            [
                "sink",
                "--broker",
                self.bootstrap,
                "--clickhouse",
                self.clickhouse,
                "--max-age",
                str(plan.max_age_days),
                *plan.sink,
            ],
        )
        for n in range(plan.workers):
            state = ["--snapshot", str(self.run_dir / f"stream-{n}.state")] if plan.workers == 1 else []
            self.spawn(f"stream-{n}", ["stream", "--broker", self.bootstrap, "--tick", str(plan.tick_s), *state])

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

    async def _until(self, ready: Callable[[], bool], timeout_s: float, what: str) -> None:
        deadline = time.monotonic() + timeout_s
        while not ready():
            for process in self.processes.values():
                if process.code not in (None, 0):
                    raise ProcessError(
                        f"{process.name} ended with code {process.code}. The end of {process.log}:\n{process.tail()}"
                    )
            if time.monotonic() > deadline:
                raise ProcessError(
                    f"{what} did not come up within {timeout_s:g} s; see the logs in {self.plan.data_dir / 'log'}"
                )
            await asyncio.sleep(0.05)

    # -- the end -----------------------------------------------------------------------------------------------------

    async def finish(self, drain_s: float = 120.0) -> bool:
        """Stops the producer, lets everything already produced be windowed and stored, then stops; False when it did
        not all drain.
        """
        if "producer" in self.processes:
            self.say("stopping the producer")
            await self._stop("producer", 30)
        self.say("draining: what was produced is windowed and stored")
        done = await self.drained(drain_s)
        for name in [n for n in self.processes if n.startswith("stream")]:
            await self._stop(name, 30)
        done = await self.drained(drain_s, stream=False) and done
        return await self._stop("sink", max(60.0, drain_s)) == 0 and done  # it makes the last roll-ups

    async def _stop(self, name: str, grace_s: float) -> int:
        self.stopped.add(name)
        return await asyncio.to_thread(self.processes[name].stop, grace_s)

    async def drained(self, timeout_s: float, stream: bool = True, sink: bool = True) -> bool:
        """Waits until the sink and the workers (those asked for) have dealt with every record in the log."""
        readers = {**({"sink": tuple(BY_TOPIC)} if sink else {}), **({"stream": CONSUMED} if stream else {})}
        return await drain.drained(self.bootstrap, lambda: self._positions(readers), timeout_s, self.tender.revive)

    def _positions(self, readers: dict[str, tuple[str, ...]]) -> list[drain.Reader]:
        said = {name: status.read(self.run_dir / f"{name}.json").get("positions", {}) for name in self.processes}
        return [
            drain.Reader(wanted, [p for name, p in said.items() if name.startswith(prefix)])
            for prefix, wanted in readers.items()
        ]

    def statuses(self) -> dict[str, dict[str, Any]]:
        return {name: status.read(self.run_dir / f"{name}.json") for name in self.processes}

    def cpu_s(self) -> dict[str, float]:
        """CPU seconds by process, restarts included."""
        last = {
            n: p.cpu_s() if p.running else float(status.read(self.run_dir / f"{n}.json").get("cpu_s") or 0)
            for n, p in self.processes.items()
        }
        return {name: round(self.cpu_before.get(name, 0.0) + used, 2) for name, used in last.items()}

    def note_cpu(self, name: str) -> None:
        said = status.read(self.run_dir / f"{name}.json").get("cpu_s") or self.processes[name].cpu_s()
        self.cpu_before[name] = self.cpu_before.get(name, 0.0) + float(said)

    def _kill_all(self) -> None:
        for name, process in reversed(self.processes.items()):
            if name not in ("broker", "clickhouse"):
                process.kill()
        if "clickhouse" in self.processes:
            self.processes["clickhouse"].stop(20)
        if self.broker is not None:
            self.broker.stop()


async def _until_answers(bootstrap: str) -> None:
    for attempt in range(100):
        try:
            await kafka.log_id(bootstrap)
            return
        except kafka.BrokerError:
            if attempt == 99:
                raise
            await asyncio.sleep(0.1)
