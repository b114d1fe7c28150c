"""The watchdog on real child processes: the dead are restarted, the hung killed first, the stopped stay down."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from aiokafka import TopicPartition

from pipeline.embedded import watchdog as watchdog_module
from pipeline.embedded.process import Process
from pipeline.embedded.services import Plan, Services
from pipeline.embedded.watchdog import BACKOFF_S, Watchdog

RUNS, ENDS, FAILS = "import time; time.sleep(60)", "", "raise SystemExit(3)"


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    made = Services(Plan(tmp_path, (), stall_s=0.5))
    made.run_dir.mkdir()
    yield made
    made.kill_all()


def start(services: Services, name: str, program: str, *, status_at: float | None = None) -> Process:
    process = Process(name, [sys.executable, "-c", program], services.plan.data_dir / f"{name}.log")
    services.processes[name] = process
    process.start()
    if status_at is not None:
        (services.run_dir / f"{name}.json").write_text(json.dumps({"at": status_at, "cpu_s": 1.5}))
    return process


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():  # a child process gives no event  # noqa: ASYNC110
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def running(watchdog: Watchdog) -> AsyncIterator[None]:
    task = asyncio.create_task(watchdog.run())
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_a_process_that_died_is_restarted_after_a_pause_and_its_cpu_seconds_are_kept(services: Services) -> None:
    lines = list[str]()
    services.report = lines.append
    watchdog, sink = Watchdog(services), start(services, "sink", FAILS, status_at=time.time())
    await until(lambda: not sink.running)
    watchdog.restart_dead()
    assert sink.restarts == 0, "not before the first pause is over"
    await asyncio.sleep(BACKOFF_S[0])
    watchdog.restart_dead()
    assert (sink.restarts, sink.running) == (1, True)
    assert services.cpu_before == {"sink": 1.5}
    assert lines[0].startswith("sink ended with code 3: restarting it.")


async def test_pauses_between_restarts_grow(services: Services) -> None:
    watchdog, sink = Watchdog(services), start(services, "sink", FAILS)
    began = list[float]()
    while sink.restarts < 3:
        before = sink.restarts
        watchdog.restart_dead()
        if sink.restarts > before:
            began.append(time.monotonic())
        await asyncio.sleep(0.02)
    first, second = (late - early for early, late in itertools.pairwise(began))
    assert BACKOFF_S[1] <= first
    assert BACKOFF_S[2] <= second


async def test_a_source_that_ended_and_a_process_stopped_on_purpose_stay_down(services: Services) -> None:
    watchdog = Watchdog(services)
    producer, sink, stream = (start(services, n, ENDS) for n in ("producer", "sink", "stream-0"))
    services.stopped.add("sink")
    await until(lambda: not (producer.running or sink.running or stream.running))
    watchdog.restart_dead()
    await asyncio.sleep(BACKOFF_S[0])
    watchdog.restart_dead()
    assert (producer.restarts, sink.restarts, stream.restarts) == (0, 0, 1)


async def test_a_process_that_hangs_is_killed_and_restarted_and_one_that_reports_is_left_alone(
    services: Services,
) -> None:
    hung = start(services, "stream-0", RUNS, status_at=time.time() - 100)
    works = start(services, "sink", RUNS, status_at=time.time() + 100)
    watchdog = Watchdog(services)
    async with running(watchdog):
        await until(lambda: hung.restarts > 0)
    assert watchdog.hung >= 1
    assert (works.running, works.restarts) == (True, 0)


class KeptBroker:
    """A broker that must not be replaced."""

    def __init__(self, process: Process) -> None:
        self.process = process

    def recycle(self) -> None:
        raise AssertionError("replaced, though its producer has not paused")


async def test_a_broker_whose_producer_does_not_pause_is_kept(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = list[str]()
    services.report = lines.append
    monkeypatch.setattr(watchdog_module, "HOLD_WAIT_S", 0.3)
    start(services, "producer", RUNS)
    (services.run_dir / "producer.json").write_text(json.dumps({"at": time.time(), "held": True, "pending_bytes": 7}))
    broker = KeptBroker(start(services, "broker", RUNS))
    await Watchdog(services).recycle_broker(broker)  # type: ignore[arg-type]
    assert lines == ["the broker's memory bound is reached, but the producer does not pause; trying again"]
    assert not services.hold_file.exists()


async def test_positions_in_the_log_of_a_former_broker_do_not_count_as_read(services: Services) -> None:
    """A sink that has not begun on the new log is behind, however far the one before had come on the old log."""
    start(services, "sink", RUNS)
    (services.run_dir / "sink.json").write_text(json.dumps({"at": time.time(), "positions": {"telemetry.gpu/0": 98}}))
    tp = TopicPartition("telemetry.gpu", 0)

    def behind() -> int:
        (reader,) = services._readers({"sink": ("telemetry.gpu",)})
        return reader.behind({tp: 0}, {tp: 1})

    assert behind() == 0
    await services.stop_consumers(5)
    assert behind() == 1
