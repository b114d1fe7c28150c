"""Keeps a factory's processes alive: what died is started again, what stands still is ended first, a broker's memory
is bounded.
"""

from __future__ import annotations

import asyncio
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

from pipeline import kafka
from pipeline.embedded.broker import Tansu
from pipeline.monitoring import status

if TYPE_CHECKING:
    from pipeline.embedded.process import Process
    from pipeline.embedded.supervisor import Supervisor

BACKOFF_S = (0.5, 1, 2, 5, 10)
_PING_S = 5.0


class Watchdog:
    """`run()` looks once a second until cancelled; all that it does is said."""

    def __init__(self, factory: Supervisor) -> None:
        self._factory = factory
        self._failed_at: dict[str, list[float]] = {}
        self._answered = time.monotonic()
        self.stalls = 0

    async def run(self) -> None:
        factory = self._factory
        while True:
            await asyncio.sleep(1.0)
            self.revive()
            await self._end_what_stands_still()
            broker = factory.broker
            if broker is not None and not broker.process.running and "broker" not in factory.stopped:
                await self._mend_broker()
            elif (
                broker is not None
                and broker.bounded
                and broker.process.rss_bytes() > factory.plan.broker_memory_mb << 20
            ):
                await self.rotate()

    def revive(self) -> None:
        """Starts again what died, with growing pauses."""
        factory = self._factory
        for name, process in factory.processes.items():
            if process.running or name == "broker" or name in factory.stopped:
                continue
            if name == "producer" and process.code == 0:
                continue  # its source has ended
            if self._pause_is_over(name, process):
                factory.note_cpu(name)
                process.start()
                process.restarts += 1

    def _pause_is_over(self, name: str, process: Process) -> bool:
        failures = self._failed_at.setdefault(name, [])
        if not failures or failures[-1] < process.started:
            failures.append(time.monotonic())
            self._factory.say(
                f"{name} ended with code {process.code}: starting it again. The end of its log:\n{process.tail(4)}"
            )
        pause = BACKOFF_S[min(len([f for f in failures if time.monotonic() - f < 120]), len(BACKOFF_S)) - 1]
        return time.monotonic() - failures[-1] >= pause

    async def _end_what_stands_still(self) -> None:
        """A process that says nothing for long, though it runs, is killed; `revive` starts it again."""
        factory, stall_s = self._factory, self._factory.plan.stall_s
        if "clickhouse" in factory.processes and await asyncio.to_thread(_pings, factory.clickhouse):
            self._answered = time.monotonic()
        for name, process in factory.processes.items():
            if (
                not process.running
                or name == "broker"
                or name in factory.stopped
                or time.monotonic() - process.started < stall_s
            ):
                continue
            said = status.read(factory.run_dir / f"{name}.json")
            silent_s = (
                time.monotonic() - self._answered
                if name == "clickhouse"
                else time.time() - float(said.get("at") or 0.0)
            )
            if silent_s > stall_s:
                factory.say(f"{name} runs but has given no sign for {min(silent_s, 9999):.0f} s: ending it")
                self.stalls += 1
                self._answered = time.monotonic()
                await asyncio.to_thread(process.kill)

    async def _mend_broker(self) -> None:
        """A broker that died comes back: Apache Kafka with its log; Tansu without, so that readers begin anew."""
        factory, broker = self._factory, self._factory.broker
        assert broker is not None
        if not self._pause_is_over("broker", broker.process):
            return
        restarts = broker.process.restarts + 1
        if isinstance(broker, Tansu):
            factory.say(
                "the embedded broker died: what it held and nobody had read yet is lost (rows_missing in the "
                "summary counts it); "
                "Apache Kafka keeps its log on disk (--broker apache)"
            )
            for name in [n for n in factory.processes if n.startswith(("stream", "sink"))]:
                await asyncio.to_thread(factory.processes[name].stop, 10)
                factory.note_cpu(name)
            await asyncio.to_thread(broker.renew)
        else:
            await asyncio.to_thread(broker.start)
        factory.processes["broker"] = broker.process
        broker.process.restarts = restarts
        await factory.take_broker()
        if isinstance(broker, Tansu):
            factory.start_consumers()
        factory.say("the broker is back")

    async def rotate(self) -> None:
        """Gives the embedded broker's memory back: producers hold, everything is drained, a fresh broker takes over.

        The producer waits (nothing is dropped), the workers keep their state in a snapshot, the sink has committed all.
        """
        factory = self._factory
        broker = factory.broker
        assert isinstance(broker, Tansu)
        began, size = time.monotonic(), broker.process.rss_bytes() >> 20
        hold = factory.run_dir / "hold"
        hold.touch()
        try:
            await self._until_held()
            if not await factory.drained(120):
                factory.say(
                    "the broker's memory bound is reached, but the sink or a worker does not keep up; trying again"
                )
                return
            for name in [n for n in factory.processes if n.startswith(("stream", "sink"))]:
                await asyncio.to_thread(factory.processes[name].stop, 30)
                factory.note_cpu(name)
            factory.note_cpu("broker")
            await asyncio.to_thread(broker.renew)
            factory.processes["broker"] = broker.process
            await factory.take_broker()
            factory.start_consumers()
            factory.rotations += 1
        except kafka.BrokerError as err:
            factory.say(f"the broker could not be renewed: {err}")
            return
        finally:
            hold.unlink(missing_ok=True)
        factory.say(
            f"embedded broker renewed at {size} MB in {time.monotonic() - began:.1f} s (bound "
            f"{factory.plan.broker_memory_mb} MB); nothing was dropped"
        )

    async def _until_held(self) -> None:
        factory = self._factory
        if "producer" not in factory.processes:
            return
        for _ in range(300):
            said = status.read(factory.run_dir / "producer.json")
            if not factory.processes["producer"].running or (said.get("held") and not said.get("pending_bytes")):
                return
            await asyncio.sleep(0.1)


def _pings(url: str) -> bool:
    try:
        # our own ClickHouse on loopback
        with urllib.request.urlopen(url + "/ping", timeout=_PING_S) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
