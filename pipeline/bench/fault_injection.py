"""The faults of `gigawatch bench faults`, and what injects them into a running factory."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from pipeline.bench.proxy import FaultMode, Proxy
from pipeline.embedded.process import ProcessError
from pipeline.embedded.supervisor import Supervisor
from pipeline.monitoring import status

REFUSALS = (
    FaultMode(252, "Too many parts (3000). (TOO_MANY_PARTS)"),
    FaultMode(241, "Memory limit (total) exceeded. (MEMORY_LIMIT_EXCEEDED)"),
    FaultMode(242, "Table is in readonly mode. (TABLE_IS_READ_ONLY)"),
    FaultMode(243, "Cannot reserve 1.00 MiB, not enough space. (NOT_ENOUGH_SPACE)"),
)


class FaultyFactory(Supervisor):
    """A factory whose consumers reach ClickHouse through a proxy that can misbehave; `direct` goes past it."""

    proxy: Proxy

    def start_clickhouse(self) -> None:
        super().start_clickhouse()
        self.direct = self.clickhouse
        self.proxy = Proxy(self.clickhouse)
        self.clickhouse = self.proxy.url


@dataclass(slots=True)
class FaultInjector:
    """Injects faults into a factory. `down_s` is how long a service stays down."""

    factory: FaultyFactory
    down_s: float
    dice: random.Random

    async def kill(self, *names: str) -> None:
        """Kills with SIGKILL and waits until the supervisor has started each again."""
        old = self._pids(names)
        for pid in old.values():
            os.kill(pid, signal.SIGKILL)
        await self._until_new(old)

    def _pids(self, names: Sequence[str]) -> dict[str, int]:
        return {name: self.factory.processes[name].pid for name in names}

    async def _until_new(self, old: dict[str, int]) -> None:
        names, deadline = list(old), time.monotonic() + 60
        while not all(self.factory.processes[n].running and pid != old[n] for n, pid in self._pids(names).items()):
            if time.monotonic() > deadline:
                raise ProcessError(f"{', '.join(names)} did not come back within 60 s")
            await asyncio.sleep(0.1)

    async def away(self, name: str) -> None:
        """Kills a process and lets it start again only after `down_s`."""
        old = self._pids([name])
        self.factory.stopped.add(name)
        await asyncio.to_thread(self.factory.processes[name].kill)
        await asyncio.sleep(self.down_s)
        self.factory.stopped.discard(name)
        await self._until_new(old)

    async def freeze(self, name: str, seconds: float) -> None:
        """SIGSTOP and, later, SIGCONT: its peers see a live process that does not answer."""
        pid = self.factory.processes[name].pid
        os.kill(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            with contextlib.suppress(ProcessLookupError):  # the supervisor kills a process that is hung for long
                os.kill(pid, signal.SIGCONT)

    async def misbehave(self, mode: FaultMode, seconds: float) -> None:
        proxy = self.factory.proxy
        before, proxy.mode = proxy.misbehaved, mode
        await asyncio.sleep(seconds)
        while proxy.misbehaved == before:  # the next insert is at most a second away  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        proxy.mode = FaultMode()

    async def refuse(self) -> None:
        for mode in REFUSALS:
            await self.misbehave(mode, self.down_s / len(REFUSALS))

    async def kill_in_turn(self) -> None:
        """Kills each worker twice, a second or two apart, so that rebalances overlap."""
        for name in ("stream-0", "stream-1") * 2:
            await self.kill(name)
            await asyncio.sleep(self.dice.uniform(0.5, 2.5))

    async def add_and_kill_worker(self) -> None:
        """Adds a worker, which takes over half of the partitions, and kills it while it works on them."""
        factory, name = self.factory, "stream-9"
        process = factory.spawn(name, ["stream", "--broker", factory.bootstrap, "--tick", str(factory.plan.tick_s)])
        deadline = time.monotonic() + 60
        while not status.read(factory.run_dir / f"{name}.json").get("assigned"):
            if time.monotonic() > deadline:
                raise ProcessError(f"the added worker got no partitions within 60 s: {process.tail()}")
            await asyncio.sleep(0.2)
        await asyncio.sleep(self.down_s)
        factory.stopped.add(name)
        process.kill()
        del factory.processes[name]
        (factory.run_dir / f"{name}.json").unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class FaultCase:
    """A fault by the name that `--only` takes, and how to inject it."""

    name: str
    do: Callable[[FaultInjector], Awaitable[None]]


FAULTS = (
    FaultCase("sink killed", lambda s: s.kill("sink")),
    FaultCase("worker killed", lambda s: s.kill("stream-0")),
    FaultCase("worker and sink killed together", lambda s: s.kill("stream-0", "sink")),
    FaultCase("workers killed again and again", lambda s: s.kill_in_turn()),
    FaultCase("worker added, then killed", lambda s: s.add_and_kill_worker()),
    FaultCase("sink frozen past its session", lambda s: s.freeze("sink", 9.0)),
    FaultCase("worker frozen past its session", lambda s: s.freeze("stream-1", 9.0)),
    FaultCase("broker killed", lambda s: s.kill("broker")),
    FaultCase("broker away", lambda s: s.away("broker")),
    FaultCase("broker frozen", lambda s: s.freeze("broker", s.down_s)),
    FaultCase("ClickHouse killed", lambda s: s.kill("clickhouse")),
    FaultCase("ClickHouse away", lambda s: s.away("clickhouse")),
    FaultCase("ClickHouse frozen", lambda s: s.freeze("clickhouse", s.down_s)),
    FaultCase("ClickHouse slow, 2 s an answer", lambda s: s.misbehave(FaultMode(late_s=2.0), s.down_s)),
    FaultCase("inserts refused: too many parts, memory, read-only, disk full", lambda s: s.refuse()),
    FaultCase(
        "inserts stored and not acknowledged", lambda s: s.misbehave(FaultMode(hang_up=True), min(s.down_s, 6.0))
    ),
)
