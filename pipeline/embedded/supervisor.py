"""A whole factory on this machine: its processes are started in order, kept alive, drained and stopped."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Self

from pipeline.embedded.broker import kafka_at_hand
from pipeline.embedded.ports import free_port
from pipeline.embedded.process import ProcessError
from pipeline.embedded.services import Services
from pipeline.embedded.watchdog import Watchdog
from pipeline.instance import Instance, forget, running

_BROKERS = {"embedded": "Kafka (Tansu, in memory)", "apache": "Kafka (Apache, on disk)"}


@dataclass(slots=True)
class Supervisor(Services):
    """Use as `async with`. `watchdog.run()` keeps the processes alive while it runs."""

    watch: str = ""
    watchdog: Watchdog = field(init=False)

    def __post_init__(self) -> None:
        self.watchdog = Watchdog(self)

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
        self.hold_file.unlink(missing_ok=True)
        for left in ("stream-0.state", "inject"):
            (self.run_dir / left).unlink(missing_ok=True)
        try:
            await self._start()
        except BaseException:
            self.kill_all()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self.kill_all()
        forget(self.plan.data_dir)

    async def _start(self) -> None:
        if self.plan.broker == "apache" and not kafka_at_hand():
            self.say("fetching Apache Kafka with Maven, once; this takes a minute")
        with self._step(_BROKERS.get(self.plan.broker, "Kafka")):
            await asyncio.to_thread(self.start_broker)
            await self.prepare_broker()
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
                    ["produce", *self.plan.producer, "--broker", self.bootstrap, "--hold", str(self.hold_file)],
                )
                await self._until((self.run_dir / "producer.json").exists, 60, "the producer")

    @contextlib.contextmanager
    def _step(self, what: str) -> Iterator[None]:
        began = time.monotonic()
        self.say(f"starting {what} ...")
        yield
        self.say(f"{what} ready in {time.monotonic() - began:.1f} s")

    def _consumers_joined(self) -> bool:
        """Whether every consumer has partitions, so a producer started now loses no warm-up time."""
        return all(s.assigned for s in self.consumers().values())

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

    async def finish(self, drain_s: float = 120.0) -> bool:
        """Stops the producer, waits until everything produced is windowed and stored, then stops the consumers; False
        when not all of it drained.
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

    async def drained(self, timeout_s: float, stream: bool = True, sink: bool = True) -> bool:
        """As `wait_drained`; what dies meanwhile is restarted."""
        return await self.wait_drained(timeout_s, stream=stream, sink=sink, meanwhile=self.watchdog.restart_dead)

    async def _stop(self, name: str, grace_s: float) -> int:
        self.stopped.add(name)
        return await asyncio.to_thread(self.processes[name].stop, grace_s)
