"""The parts of the benchmark: each starts the real processes, loads them, and returns its figures."""

from __future__ import annotations

import asyncio
import shutil
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.bench.check import check
from pipeline.embedded.process import ProcessError
from pipeline.embedded.run_summary import bytes_per_value, summary
from pipeline.embedded.services import Plan
from pipeline.embedded.supervisor import Supervisor
from pipeline.monitoring import status
from pipeline.store import client as store_client

BenchResult = dict[str, Any]
#: Of nodes a second, in the part `jobs`.
JOB_CHANGES = 10.0
#: The embedded broker's log of a benchmark is kept whole, MB: two minutes of a gigawatt are about 6 GB.
BROKER_MB = 14_000


@dataclass(frozen=True, slots=True)
class Bench:
    """The broker and the folder that a part runs on; `progress` gets lines for people."""

    broker: str = "embedded"
    folder: Path | None = None
    progress: Callable[[str], None] = lambda _: None

    @asynccontextmanager
    async def factory(
        self, producer: tuple[str, ...], *, made: type[Supervisor] = Supervisor, spool: bool = False, **more: Any
    ) -> AsyncIterator[Supervisor]:
        """Starts services in a new folder, which is removed afterwards unless a process failed; with `spool` the
        producer buffers on disk there.
        """
        folder = Path(tempfile.mkdtemp(prefix="gigawatch-bench-", dir=self.folder))
        try:
            argv = (*producer, "--spool", str(folder / "spool")) if spool else producer
            async with made(
                Plan(folder, argv, self.broker, broker_memory_mb=BROKER_MB, max_age_days=2.0, **more), self.progress
            ) as factory:
                yield factory
        except ProcessError:
            self.progress(f"logs and data of the failure are in {folder}")
            raise
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(folder, ignore_errors=True)


def _premade(gpus: int, per: str, *more: object) -> tuple[str, ...]:
    return (f"premade:{gpus}/{per}", *map(str, more))


async def end_to_end(
    bench: Bench, gpus: int, seconds: float, per: str = "rack", speed: float = 1.0, workers: int = 1
) -> BenchResult:
    """Runs publisher, broker, workers, sink and ClickHouse for `seconds` at `speed` times real time; then drains and
    checks.
    """
    began = time.monotonic()
    back = 30 + seconds * max(0.0, speed - 1) if speed > 1 else 0  # so that event time does not run ahead of the clock
    merge = ("--merge", "0.25") if per == "node" else ()
    async with bench.factory(
        _premade(gpus, per, "--speed", speed, *(("--back", back) if back else ()), *merge), workers=workers
    ) as factory:
        watching = asyncio.create_task(factory.watchdog.run())
        for passed in range(int(seconds)):
            await asyncio.sleep(1)
            if passed % 10 == 9:
                bench.progress(_progress(factory))
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        drained = await factory.finish(drain_s=600 + 10 * seconds)
        client = store_client.connect(factory.clickhouse)
        result = summary(
            client,
            factory.statuses(),
            factory.cpu_s(),
            tick_s=1.0,
            wall_s=time.monotonic() - began,
            drained=drained,
            recycles=factory.watchdog.recycles,
            source=f"premade:{gpus}/{per}",
        )
        checked = check(client)
        client.close()
        restarts = {n: p.restarts for n, p in factory.processes.items() if p.restarts}
    return {
        **result,
        "speed": speed,
        "per": per,
        "workers": workers,
        "checked": checked,
        "restarts": restarts,
        "worker_rss_mb": result["peak_rss_mb"].get("stream-0"),
        "wrong": checked["wrong"]
        + result["rows_missing"]
        + result["rows_duplicate"]
        + result["dead_letters"]
        + (not drained),
    }


def _progress(factory: Supervisor) -> str:
    producer, sink = (status.read(factory.run_dir / f"{name}.json") for name in ("producer", "sink"))
    sent = producer.get("rows", {}).get("telemetry.gpu", 0)
    stored = sink.get("rows", {}).get("gpu", 0)
    return f"{sent:,} GPU samples sent, {stored:,} stored"


async def worker(
    bench: Bench,
    gpus: int,
    ticks: int,
    workers: int = 1,
    per: str = "rack",
    partitions: int = 4,
    job_changes: float = 0.0,
) -> BenchResult:
    """Measures GPUs a second a worker core: faust workers on a full log, from the first message to the last result in
    Kafka. `job_changes`: nodes that go from job to job each second.
    """
    source = (*premade(gpus, ticks, per), "--job-changes", str(job_changes))
    async with _filled(bench, source, f"{ticks} ticks of {gpus:,} GPUs", partitions) as (
        factory,
        rows,
    ):
        for n in range(workers):
            factory.spawn(f"stream-{n}", ["stream", "--broker", factory.bootstrap])
        if not await factory.drained(600, sink=False):
            raise ProcessError("the workers did not come to the end of the log within 10 minutes")
        await asyncio.sleep(1.5)  # a last status
        found = [status.read(factory.run_dir / f"stream-{n}.json") for n in range(workers)]
        whole_cpu = sum(factory.processes[f"stream-{n}"].cpu_s() for n in range(workers))
    busy = [s["busy"] for s in found]
    wall = max(b["ended"] for b in busy) - min(b["began"] for b in busy)
    cpu = sum(b["cpu_s"] for b in busy)
    return {
        "gpus": gpus,
        "ticks": ticks,
        "workers": workers,
        "rows": rows,
        "gpu_samples": gpus * ticks,
        "cpu_s": round(cpu, 3),
        "process_cpu_s": round(whole_cpu, 3),
        "wall_s": round(wall, 3),
        "gpus_per_core_s": round(gpus * ticks / cpu),
        "gpus_per_wall_s": round(gpus * ticks / wall),
        "peak_rss_mb": max(s["peak_rss_mb"] for s in found),
        "partitions_each": [s["assigned"] for s in found],
        "wrong": int(sum(s["counts"].get("rows:rows", 0) for s in found) != rows),
    }


async def job_changes(bench: Bench, gpus: int, ticks: int, rounds: int = 3) -> BenchResult:
    """Measures what JOB_CHANGES a second cost the worker, against the same jobs without a change, run by turns.

    `cost` is the difference of whole processes, so that reading the allocations counts, as a share of what the worker
    spends on messages; medians of `rounds`.
    """
    runs: dict[float, list[BenchResult]] = {0.0: [], JOB_CHANGES: []}
    for _ in range(rounds):
        for changes, found in runs.items():
            found.append(await worker(bench, gpus, ticks, job_changes=changes))
            bench.progress(f"{changes:g} changes a second: {found[-1]['process_cpu_s']:.2f} s of CPU")
    without, with_changes = (statistics.median(r["process_cpu_s"] for r in found) for found in runs.values())
    busy = statistics.median(r["cpu_s"] for r in runs[0.0])
    return {
        "gpus": gpus,
        "ticks": ticks,
        "changes_per_s": JOB_CHANGES,
        "process_cpu_s": {f"{changes:g}": [r["process_cpu_s"] for r in found] for changes, found in runs.items()},
        "cost": round((with_changes - without) / busy, 4),
        "wrong": sum(r["wrong"] for found in runs.values() for r in found),
    }


async def sink(bench: Bench, gpus: int, ticks: int, per: str = "rack") -> BenchResult:
    """Measures rows a second a core from Kafka to durable: the sink and ClickHouse on a full log."""
    async with _filled(bench, premade(gpus, ticks, per), f"{ticks} ticks of {gpus:,} GPUs", 4) as (factory, rows):
        await asyncio.to_thread(factory.start_clickhouse)
        before = factory.processes["clickhouse"].cpu_s()
        spawn_sink(factory)
        if not await factory.drained(600, stream=False):
            raise ProcessError("the sink did not come to the end of the log within 10 minutes")
        await asyncio.sleep(1.5)
        found = status.read(factory.run_dir / "sink.json")
        clickhouse = factory.processes["clickhouse"].cpu_s() - before
    own, wall = found["busy"]["cpu_s"], found["busy"]["ended"] - found["busy"]["began"]
    stored = sum(n for table, n in found["rows"].items() if table in ("gpu", "power", "cooling"))
    return {
        "gpus": gpus,
        "ticks": ticks,
        "rows": rows,
        "sink_cpu_s": round(own, 3),
        "clickhouse_cpu_s": round(clickhouse, 3),
        "wall_s": round(wall, 3),
        "rows_per_core_s": round(rows / (own + clickhouse)),
        "rows_per_sink_core_s": round(rows / own),
        "rows_per_wall_s": round(rows / wall),
        "wrong": int(stored != rows),
    }


async def size(bench: Bench, racks: int, ticks: int) -> BenchResult:
    """Measures bytes a stored value of the raw tier with its parts merged: the simulated plant's ticks, each once."""
    source = ("synthetic", "--racks", str(racks), "--speed", "0", "--ticks", str(ticks), "--back", str(ticks))
    async with _filled(bench, source, f"{ticks} ticks of {racks} racks", 4) as (factory, rows):
        await asyncio.to_thread(factory.start_clickhouse)
        spawn_sink(factory)
        if not await factory.drained(600, stream=False):
            raise ProcessError("the sink did not come to the end of the log within 10 minutes")
        metrics = int(status.read(factory.run_dir / "producer.json")["metrics"]["gpu"])
        client = store_client.connect(factory.clickhouse)
        client.command("OPTIMIZE TABLE gigawatch.gpu_frames FINAL")
        found = bytes_per_value(client, metrics)
        client.close()
    return {
        "racks": racks,
        "ticks": ticks,
        "rows": rows,
        "metrics": metrics,
        "bytes_per_value": found,
        "wrong": int(not found),
    }


def premade(gpus: int, ticks: int, per: str) -> tuple[str, ...]:
    """The arguments of `gigawatch produce` that fill a log with ticks that end about now."""
    return _premade(gpus, per, "--speed", 0, "--ticks", ticks, "--back", ticks)


def spawn_sink(factory: Supervisor, max_age_days: int = 2) -> None:
    """Starts a sink without roll-ups on the factory's log."""
    addresses = ["--broker", factory.bootstrap, "--clickhouse", factory.clickhouse]
    factory.spawn("sink", ["sink", *addresses, "--max-age", str(max_age_days), "--roll-every", "3600"])


@asynccontextmanager
async def _filled(
    bench: Bench, source: tuple[str, ...], what: str, partitions: int
) -> AsyncIterator[tuple[Supervisor, int]]:
    """Yields a broker with the source's ticks in its log and no reader, and the number of rows in it."""
    async with bench.factory((), consumers=False, partitions=partitions, services=("broker",)) as factory:
        bench.progress(f"filling the log with {what}")
        producer = factory.spawn("producer", ["produce", *source, "--broker", factory.bootstrap])
        while producer.running:  # noqa: ASYNC110 - nothing wakes the loop when a process ends
            await asyncio.sleep(0.2)
        if producer.code:
            raise ProcessError(f"the producer ended with code {producer.code}: {producer.tail()}")
        yield factory, sum(status.read(factory.run_dir / "producer.json")["rows"].values())
