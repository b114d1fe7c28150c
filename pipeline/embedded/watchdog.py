"""Keeps a factory's processes alive: restarts what died, kills what hangs, and bounds the embedded broker's memory."""

from __future__ import annotations

import asyncio
import time
import urllib.error
import urllib.request

from pipeline import kafka
from pipeline.embedded.broker import Broker, Tansu
from pipeline.embedded.process import Process
from pipeline.embedded.services import Services
from pipeline.monitoring.statuses import ProducerStatus

HOLD_WAIT_S = 30.0
BACKOFF_S = (0.5, 1, 2, 5, 10)
_PING_S = 5.0


class Watchdog:
    """`run()` checks once a second until cancelled, and prints everything that it does."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._failed_at: dict[str, list[float]] = {}
        self._answered = time.monotonic()
        self.hung = 0
        self.recycles = 0

    async def run(self) -> None:
        services = self._services
        while True:
            await asyncio.sleep(1.0)
            self.restart_dead()
            await self._kill_hung()
            broker = services.broker
            if broker is None:
                continue
            if not broker.process.running and "broker" not in services.stopped:
                await self._restart_broker(broker)
            elif isinstance(broker, Tansu) and broker.process.rss_bytes() > services.plan.broker_memory_mb << 20:
                await self.recycle_broker(broker)

    def restart_dead(self) -> None:
        """Restarts processes that ended, with growing pauses."""
        services = self._services
        for name, process in services.processes.items():
            if process.running or name == "broker" or name in services.stopped:
                continue
            if name == "producer" and process.code == 0:
                continue  # its source has ended
            if self._pause_is_over(name, process):
                services.note_cpu(name)
                process.start()
                process.restarts += 1

    def _pause_is_over(self, name: str, process: Process) -> bool:
        failures = self._failed_at.setdefault(name, [])
        if not failures or failures[-1] < process.started:
            failures.append(time.monotonic())
            self._services.report(
                f"{name} ended with code {process.code}: restarting it. The end of its log:\n{process.tail(4)}"
            )
        pause = BACKOFF_S[min(len([f for f in failures if time.monotonic() - f < 120]), len(BACKOFF_S)) - 1]
        return time.monotonic() - failures[-1] >= pause

    async def _kill_hung(self) -> None:
        """Kills a process that runs and has reported nothing for `stall_s`; `restart_dead` starts it again."""
        services, stall_s = self._services, self._services.plan.stall_s
        if "clickhouse" in services.processes and await asyncio.to_thread(_pings, services.clickhouse):
            self._answered = time.monotonic()
        for name, process in services.processes.items():
            if (
                not process.running
                or name == "broker"
                or name in services.stopped
                or time.monotonic() - process.started < stall_s
            ):
                continue
            silent_s = (
                time.monotonic() - self._answered if name == "clickhouse" else time.time() - services.status(name).at
            )
            if silent_s > stall_s:
                services.report(f"{name} runs but has given no sign for {min(silent_s, 9999):.0f} s: ending it")
                self.hung += 1
                self._answered = time.monotonic()
                await asyncio.to_thread(process.kill)

    async def _restart_broker(self, broker: Broker) -> None:
        """Restarts a broker that died: Apache Kafka with its log; Tansu without one, so its readers are restarted."""
        services = self._services
        if not self._pause_is_over("broker", broker.process):
            return
        restarts = broker.process.restarts + 1
        if isinstance(broker, Tansu):
            services.report(
                "the embedded broker died: records that nobody had read yet are lost (rows_missing in the summary "
                "counts them); Apache Kafka keeps its log on disk (--broker apache)"
            )
            await services.stop_consumers(10)
            await asyncio.to_thread(broker.recycle)
        else:
            await asyncio.to_thread(broker.start)
        services.processes["broker"] = broker.process
        broker.process.restarts = restarts
        await services.prepare_broker()
        if isinstance(broker, Tansu):
            services.start_consumers()
        services.report("the broker is back")

    async def recycle_broker(self, broker: Tansu) -> None:
        """Gives the embedded broker's memory back: the producer holds, everything is drained, a fresh broker starts.

        Nothing is lost: the producer waits, the workers keep their state in a snapshot, the sink has committed all.
        """
        services = self._services
        began, size = time.monotonic(), broker.process.rss_bytes() >> 20
        services.hold_file.touch()
        try:
            if not await self._until_held():
                services.report("the broker's memory bound is reached, but the producer does not pause; trying again")
                return
            if not await services.wait_drained(120, meanwhile=self.restart_dead):
                services.report(
                    "the broker's memory bound is reached, but the sink or a worker does not keep up; trying again"
                )
                return
            await services.stop_consumers(30)
            services.note_cpu("broker")
            await asyncio.to_thread(broker.recycle)
            services.processes["broker"] = broker.process
            await services.prepare_broker()
            services.start_consumers()
            self.recycles += 1
        except kafka.BrokerError as err:
            services.report(f"the broker could not be recycled: {err}")
            return
        finally:
            services.hold_file.unlink(missing_ok=True)
        services.report(
            f"embedded broker recycled at {size} MB in {time.monotonic() - began:.1f} s (bound "
            f"{services.plan.broker_memory_mb} MB); nothing was dropped"
        )

    async def _until_held(self) -> bool:
        """Waits until the producer holds and Kafka has all that it sent; False when that takes over HOLD_WAIT_S."""
        services = self._services
        if "producer" not in services.processes:
            return True
        deadline = time.monotonic() + HOLD_WAIT_S
        while time.monotonic() < deadline:
            producer = services.status("producer")
            held = isinstance(producer, ProducerStatus) and producer.held and not producer.pending_bytes
            if held or not services.processes["producer"].running:
                return True
            await asyncio.sleep(0.1)
        return False


def _pings(url: str) -> bool:
    try:
        # our own ClickHouse on loopback
        with urllib.request.urlopen(url + "/ping", timeout=_PING_S) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
