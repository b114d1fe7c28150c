"""Storing and asking: a JSONEachRow consumer, Prometheus and VictoriaMetrics, against the sink and ClickHouse on the
same samples.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition
from clickhouse_connect.driver.client import Client

from pipeline import kafka
from pipeline.bench.peers import environment, remote_write, samples
from pipeline.bench.peers.samples import TOPIC, Samples
from pipeline.bench.peers.streams import fill
from pipeline.bench.stages import Bench, BenchResult, spawn_sink
from pipeline.embedded.ports import free_port, port_open
from pipeline.embedded.process import Process, ProcessError, wait_for
from pipeline.embedded.supervisor import Supervisor
from pipeline.monitoring import status
from pipeline.store import client as store_client
from schemas.tables import DATABASE

#: A day of two racks, a sample a minute.
RACKS, TICKS, TICK_S = 2, 1_440, 60.0
ASKED = 7
STORED = "values stored a second a core, Kafka to durable"
Answers = dict[str, tuple[float, Any]]  # question -> (milliseconds, answer)


async def run(bench: Bench) -> BenchResult:
    absent, rows, wrong = [], [], 0
    async with bench.factory((), consumers=False) as factory:
        await fill(factory, ("synthetic", "--racks", str(RACKS)), TICKS, TICK_S)
        found = await samples.read(factory.bootstrap)
        await samples.publish(factory, found)
        values = found.count * len(found.names)
        bench.progress(f"a day of {len(found.devices)} GPUs, a sample a minute: {values:,} values")
        stored_cpu = await _sink(factory)
        json_cpu = await _json_each_row(factory, found)
        rows.append(
            _row(STORED, "aiokafka to ClickHouse, JSONEachRow", values / stored_cpu, values / json_cpu, "/s", True)
        )
        client = store_client.connect(factory.clickhouse)
        size = int(
            client.query(
                "SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND database = {d:String} AND table "
                "= 'gpu_frames'",
                parameters={"d": DATABASE},
            ).result_rows[0][0]
        )
        device, truth = found.devices[3], _truth(found)
        ours = await asyncio.to_thread(_ask_clickhouse, client, found, device)
        wrong += _differs(truth, ours)
        client.close()
        for name, peer in (("Prometheus", _prometheus), ("VictoriaMetrics", _victoria)):
            bench.progress(name)
            measured = await peer(factory.plan.data_dir, found, device)
            if measured is None:
                absent.append(f"{name} (not on PATH; Debian: apt-get install prometheus victoria-metrics)")
                continue
            cpu, disk, answers = measured
            wrong += _differs(truth, answers)
            rows.append(
                _row(f"{STORED} (the peer: from remote write)", name, values / stored_cpu, values / cpu, "/s", True)
            )
            rows.append(_row("bytes a value on disk", name, size / values, disk / values, "bytes", False))
            rows += [_row(question, name, ours[question][0], answers[question][0], "ms", False) for question in ours]
    return {"rows": rows, "absent": absent, "wrong": wrong, "values": values}


def _row(what: str, peer: str, ours: float, theirs: float, unit: str, more_is_better: bool) -> dict[str, Any]:
    return {"what": what, "peer": peer, "ours": ours, "theirs": theirs, "unit": unit, "more_is_better": more_is_better}


MEAN, HOTTEST, DAY = "fleet mean utilization over an hour", "hottest 20 GPUs now", "one GPU's day of power"


def _truth(found: Samples) -> dict[str, Any]:
    """Returns the right answers, from the samples themselves."""
    end = found.ticks[-1].ts_ms
    hour = [t for t in found.ticks if t.ts_ms > end - 3_600_000]
    util, temp, power = (found.names.index(n) for n in ("util_pct", "temp_c", "power_w"))
    return {
        MEAN: float(np.mean([t.values[util] for t in hour])),
        HOTTEST: sorted(found.ticks[-1].values[temp].tolist())[-20:],
        DAY: float(np.mean([t.values[power][3] for t in found.ticks])),
    }


def _differs(truth: dict[str, Any], answers: Answers) -> int:
    return sum(not np.allclose(answers[q][1], truth[q], rtol=5e-3) for q in truth)


async def _timed(ask: Callable[[], Any]) -> tuple[float, Any]:
    """Returns (median of ASKED runs in ms, the answer)."""
    took = []
    for _ in range(ASKED):
        began = time.perf_counter()
        answer = await ask()
        took.append((time.perf_counter() - began) * 1000)
    return statistics.median(took), answer


# -- Gigawatch, and the baseline of its store ----------------------------------------------------------------------


async def _sink(factory: Supervisor) -> float:
    """Returns the CPU seconds of sink and ClickHouse for the day's telemetry."""
    before = factory.processes["clickhouse"].cpu_s()
    spawn_sink(factory, max_age_days=3)
    if not await factory.drained(300, stream=False):
        raise ProcessError("the sink did not come to the end of the log")
    await asyncio.sleep(1.5)
    used = (
        float(status.read(factory.run_dir / "sink.json")["busy"]["cpu_s"])
        + factory.processes["clickhouse"].cpu_s()
        - before
    )
    await asyncio.to_thread(factory.processes["sink"].stop, 60)
    return used


async def _json_each_row(factory: Supervisor, found: Samples) -> float:
    """Returns the CPU seconds of a plain consumer that hands JSON lines to ClickHouse, and of ClickHouse."""
    client = store_client.connect(factory.clickhouse)
    columns = ", ".join(f"`{n}` Float64" for n in found.names)
    client.command(
        f"CREATE TABLE {DATABASE}.bench_json (ts UInt64, device String, {columns}) ENGINE = MergeTree ORDER BY "
        "(device, ts)"
    )
    consumer = AIOKafkaConsumer(**kafka.consumer_options(factory.bootstrap, None))
    await consumer.start()
    before, own, left, held = factory.processes["clickhouse"].cpu_s(), time.process_time(), found.count, list[bytes]()
    try:
        consumer.assign([TopicPartition(TOPIC, 0)])
        await consumer.seek_to_beginning()
        while left:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                held += [r.value for r in records]
                left -= len(records)
            if held and (len(held) >= 50_000 or not left):
                client.raw_insert(f"{DATABASE}.bench_json", None, b"\n".join(held), fmt="JSONEachRow")
                held = []
    finally:
        await consumer.stop()
    used = time.process_time() - own + factory.processes["clickhouse"].cpu_s() - before
    stored = int(client.query(f"SELECT count() FROM {DATABASE}.bench_json").result_rows[0][0])
    client.close()
    if stored != found.count:
        raise ProcessError(f"the JSONEachRow baseline stored {stored} of {found.count} rows")
    return used


def _ask_clickhouse(client: Client, found: Samples, device: str) -> Answers:
    end = found.ticks[-1].ts_ms
    last = f"toDateTime64({end / 1000}, 3, 'UTC')"

    async def every() -> Answers:
        async def ask(sql: str) -> Any:
            return client.query(sql).result_rows

        mean = await _timed(
            lambda: ask(f"SELECT avg(util_pct) FROM {DATABASE}.gpu WHERE ts > {last} - INTERVAL 1 HOUR")
        )
        hottest = await _timed(
            lambda: ask(
                f"SELECT argMax(temp_c, ts) AS t FROM {DATABASE}.gpu WHERE ts > {last} - INTERVAL 5 MINUTE "
                "GROUP BY device "
                "ORDER BY t DESC LIMIT 20"
            )
        )
        day = await _timed(
            lambda: ask(
                f"SELECT ts, power_w FROM {DATABASE}.gpu WHERE site = 'site-1' AND rack = 'R0001' AND device = "
                f"'{device}' ORDER BY ts"
            )
        )
        return {
            MEAN: (mean[0], mean[1][0][0]),
            HOTTEST: (hottest[0], sorted(r[0] for r in hottest[1])),
            DAY: (day[0], float(np.mean([r[1] for r in day[1]]))),
        }

    return asyncio.run(every())


# -- Prometheus and VictoriaMetrics --------------------------------------------------------------------------------


async def _prometheus(folder: Path, found: Samples, device: str) -> tuple[float, int, Answers] | None:
    program = environment.program("prometheus")
    if program is None:
        return None
    port, home = free_port(), folder / "prometheus"
    home.mkdir()
    (home / "prometheus.yml").write_text("global: {}\n")
    process = Process(
        "prometheus",
        [
            program,
            f"--config.file={home}/prometheus.yml",
            f"--storage.tsdb.path={home}/data",
            f"--web.listen-address=127.0.0.1:{port}",
            "--web.enable-remote-write-receiver",
            "--log.level=error",
        ],
        folder / "log" / "prometheus.log",
    )
    return await _remote(process, port, home / "data", found, device, "/api/v1/write", "/api/v1", "")


async def _victoria(folder: Path, found: Samples, device: str) -> tuple[float, int, Answers] | None:
    program = environment.program("victoria-metrics", "victoria-metrics-prod")
    if program is None:
        return None
    port, home = free_port(), folder / "victoria"
    process = Process(
        "victoria",
        [
            program,
            f"-storageDataPath={home}",
            f"-httpListenAddr=127.0.0.1:{port}",
            "-retentionPeriod=1",
            "-search.latencyOffset=0s",
            "-search.disableCache",
            "-loggerLevel=ERROR",
        ],
        folder / "log" / "victoria.log",
    )
    return await _remote(process, port, home, found, device, "/api/v1/write", "/api/v1", "/internal/force_flush")


async def _remote(
    process: Process, port: int, home: Path, found: Samples, device: str, write: str, api: str, flush: str
) -> tuple[float, int, Answers]:
    """Returns (the peer's CPU seconds for taking in the samples, bytes on its disk, its answers)."""
    url, end = f"http://127.0.0.1:{port}", found.ticks[-1].ts_ms / 1000
    series = [remote_write.labels(n, d) for n in found.names for d in found.devices]
    requests = [remote_write.request(series, t.values.ravel().tolist(), t.ts_ms) for t in found.ticks]
    process.start()
    try:
        await asyncio.to_thread(wait_for, process, lambda: port_open(port), 30)
        async with aiohttp.ClientSession() as session:

            async def get(path: str, **params: str) -> Any:
                async with session.get(url + path, params=params) as answer:
                    if answer.status != 200:
                        raise ProcessError(f"{process.name} answered {answer.status}: {(await answer.text())[:300]}")
                    return (await answer.json())["data"]["result"] if path.startswith("/api") else None

            before = process.cpu_s()
            for body in requests:
                async with session.post(url + write, data=body, headers=remote_write.HEADERS) as answer:
                    if answer.status >= 300:
                        raise ProcessError(
                            f"{process.name} refused samples, {answer.status}: {(await answer.text())[:300]}"
                        )
            if flush:
                await get(flush)
            await asyncio.sleep(2)
            used = process.cpu_s() - before
            when = str(end)
            mean = await _timed(lambda: get(f"{api}/query", query="avg(avg_over_time(gpu_util_pct[1h]))", time=when))
            hottest = await _timed(lambda: get(f"{api}/query", query="topk(20, gpu_temp_c)", time=when))
            day = await _timed(
                lambda: get(
                    f"{api}/query_range",
                    query=f'gpu_power_w{{device="{device}"}}',
                    start=str(found.ticks[0].ts_ms / 1000),
                    end=when,
                    step="60",
                )
            )
        answers: Answers = {
            MEAN: (mean[0], float(mean[1][0]["value"][1])),
            HOTTEST: (hottest[0], sorted(float(r["value"][1]) for r in hottest[1])),
            DAY: (day[0], float(np.mean([float(v) for _, v in day[1][0]["values"]]))),
        }
        return used, sum(f.stat().st_size for f in home.rglob("*") if f.is_file()), answers
    finally:
        process.stop(10)
