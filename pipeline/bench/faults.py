"""Injects every fault that a factory must survive, one after the other, then counts that every row is stored once."""

from __future__ import annotations

import asyncio
import datetime as dt
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from pipeline.bench import markdown_table, recompute
from pipeline.bench.fault_injection import FAULTS, FaultInjector, FaultyFactory
from pipeline.bench.stages import Bench, BenchResult
from pipeline.embedded.process import ProcessError
from pipeline.embedded.supervisor import Supervisor
from pipeline.monitoring import status
from pipeline.store import client as store_client
from schemas.tables import DATABASE

RACKS, GPUS = 4, 288
PARTITIONS = 6  # three for each of two workers, two for each of three
#: Caught up: the newest raw sample and the newest pane are at most so far behind what was produced, s.
RAW_BEHIND_S, PANE_BEHIND_S = 4.0, 19.0
RECOVERY_S = 180.0
HEADERS = ("fault", "times", "rows through", "lost", "twice", "longest recovery, s")


@dataclass(slots=True)
class _Outcome:
    begin_ms: int
    end_ms: int = 0
    recovery_s: float = 0.0
    rows: int = 0
    lost: int = 0
    twice: int = 0


@dataclass(slots=True)
class _Run:
    outcomes: dict[str, list[_Outcome]] = field(default_factory=dict)


async def run(bench: Bench, times: int, down_s: float, seed: int = 1, names: Sequence[str] = ()) -> BenchResult:
    """Injects every fault `times` times into a factory with Apache Kafka and two workers; then counts rows and
    recomputes all results undisturbed.
    """
    chosen = [f for f in FAULTS if not names or f.name in names]
    dice, done = random.Random(seed), _Run()  # noqa: S311 - moments, not secrets
    producer = (
        "synthetic",
        "--racks",
        str(RACKS),
        "--gpu",
        "GB200",
        "--fault",
        "gpu-thermal@R0002-N03-GPU2:20",
        "--fault",
        "leak@R0001:30",
        "--fault",
        "gpu-dead@R0003-N01-GPU0:40+30",
    )
    async with bench.factory(producer, made=FaultyFactory, workers=2, partitions=PARTITIONS, spool=True) as factory:
        assert isinstance(factory, FaultyFactory)
        watching = asyncio.create_task(factory.watchdog.run())
        client = store_client.connect(factory.direct)
        injector = FaultInjector(factory, down_s, dice)
        await _caught_up(factory, client, 60)
        for round_ in range(times):
            for fault in chosen:
                await asyncio.sleep(dice.uniform(0.0, 2.0))
                outcome = _Outcome(_newest(factory))
                await fault.do(injector)
                outcome.recovery_s = await _caught_up(factory, client, RECOVERY_S, time.time() * 1000)
                outcome.end_ms = _newest(factory)
                done.outcomes.setdefault(fault.name, []).append(outcome)
                count = f" ({round_ + 1} of {times})" if times > 1 else ""
                bench.progress(f"{fault.name}{count}: a new window of all is stored {outcome.recovery_s:.1f} s later")
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        drained = await factory.finish(drain_s=180)
        client.close()
        client = store_client.connect(factory.direct)
        produced = status.read(factory.run_dir / "producer.json")
        for outcome in (o for many in done.outcomes.values() for o in many):
            _count(client, outcome)
        first, last = produced["first_ts_ms"], produced["last_ts_ms"]
        rows, once = _rows(client, first, last + 1)
        bench.progress("recomputing everything from the log, undisturbed")
        compared = recompute.differences(
            client, await recompute.recompute(factory.bootstrap, round(factory.plan.tick_s * 1000))
        )
        compared["1 min roll-up"] = _tiers(client)
        restarts = {n: p.restarts for n, p in factory.processes.items() if p.restarts}
        client.close()
        factory.proxy.stop()
    sent = produced["rows"]["telemetry.gpu"]
    wrong = abs(sent - once) + (rows - once) + sum(c["wrong"] for c in compared.values()) + (not drained)
    return {
        "gpus": GPUS,
        "rows_produced": sent,
        "rows_stored": rows,
        "rows_missing": sent - once,
        "rows_duplicate": rows - once,
        "drained": drained,
        "down_s": down_s,
        "seed": seed,
        "restarts": restarts,
        "compared": compared,
        "spool_dropped": (produced.get("spool") or {}).get("dropped_rows", 0),
        "faults": {
            name: {
                "times": len(many),
                "rows": sum(o.rows for o in many),
                "lost": sum(o.lost for o in many),
                "twice": sum(o.twice for o in many),
                "longest_recovery_s": round(max(o.recovery_s for o in many), 1),
            }
            for name, many in done.outcomes.items()
        },
        "wrong": int(wrong),
    }


def rows(result: BenchResult) -> list[tuple[str, ...]]:
    """Rows of HEADERS."""
    return [
        (name, *(f"{f[k]:,}" for k in ("times", "rows", "lost", "twice", "longest_recovery_s")))
        for name, f in result["faults"].items()
    ]


def verdict(result: BenchResult) -> str:
    """Returns the comparison with the undisturbed run in a sentence."""
    compared = result["compared"]
    same = ", ".join(f"{c['rows']:,} {name}" for name, c in compared.items())
    wrong = {name: c["wrong"] for name, c in compared.items() if c["wrong"]}
    outcome = f"NOT the same: {wrong}" if wrong else "all the same to the last bit"
    return (
        f"{result['rows_produced']:,} GPU samples acknowledged by Kafka, {result['rows_missing']} lost, "
        f"{result['rows_duplicate']} twice. "
        f"Recomputed from the log by an undisturbed worker: {same} rows, {outcome}."
    )


def page(result: BenchResult) -> list[str]:
    """Returns the lines about a run in docs/reliability.md."""
    return [
        *markdown_table.table(HEADERS, rows(result)),
        "",
        f"Services stayed away for {result['down_s']:g} s. {verdict(result)}",
    ]


def _newest(factory: Supervisor) -> int:
    return int(status.read(factory.run_dir / "producer.json").get("last_ts_ms") or 0)


async def _caught_up(factory: Supervisor, client: Client, timeout_s: float, over_ms: float = 0.0) -> float:
    """Returns the seconds until storage and windows are as fresh as in a healthy factory, with a window of all racks
    that ends after `over_ms`, the end of the fault: at least thirteen. Raises ProcessError.
    """
    began = time.monotonic()
    while True:
        try:
            raw, pane = await asyncio.to_thread(_latest, client)
        except (ClickHouseError, OSError):
            raw = pane = 0
        produced, now = _newest(factory), time.time() * 1000
        fresh = (
            now - produced < 5000 and produced - raw < RAW_BEHIND_S * 1000 and produced - pane < PANE_BEHIND_S * 1000
        )
        if fresh and pane > over_ms and status.read(factory.run_dir / "sink.json").get("assigned"):
            return time.monotonic() - began
        if time.monotonic() - began > timeout_s:
            raise ProcessError(
                f"not caught up {timeout_s:g} s after the fault: produced up to {_clock(produced)}, stored up "
                f"to {_clock(raw)}, "
                f"windows up to {_clock(pane)}; see the logs in {factory.plan.data_dir / 'log'}"
            )
        await asyncio.sleep(0.2)


def _clock(ms: int) -> str:
    return f"{dt.datetime.fromtimestamp(ms / 1000, dt.UTC):%H:%M:%S}"


def _latest(client: Client) -> tuple[int, int]:
    # the slowest partition counts
    found = client.query(
        f"SELECT (SELECT min(t) FROM (SELECT toUnixTimestamp64Milli(max(ts)) AS t FROM {DATABASE}.gpu_frames "
        "GROUP BY rack)), "
        f"(SELECT min(t) FROM (SELECT toUnixTimestamp64Milli(max(ts)) AS t FROM {DATABASE}.gpu_10s_frames "
        "GROUP BY rack))"
    ).result_rows[0]
    return int(found[0] or 0), int(found[1] or 0)


def _rows(client: Client, first_ms: int, end_ms: int) -> tuple[int, int]:
    """Returns (rows stored, distinct samples) of GPUs in a range of event time."""
    found: Any = client.query(
        f"SELECT sum(rows), uniqExact(rack, ts) FROM {DATABASE}.gpu_frames WHERE ts >= "
        f"fromUnixTimestamp64Milli({{first:Int64}}) "
        "AND ts < fromUnixTimestamp64Milli({end:Int64})",
        parameters={"first": first_ms, "end": end_ms},
    ).result_rows[0]
    distinct = client.query(
        f"SELECT count() FROM (SELECT DISTINCT rack, device, ts FROM {DATABASE}.gpu WHERE ts >= "
        f"fromUnixTimestamp64Milli({{first:Int64}}) "
        "AND ts < fromUnixTimestamp64Milli({end:Int64}))",
        parameters={"first": first_ms, "end": end_ms},
    ).result_rows[0][0]
    return int(found[0]), int(distinct)


def _tiers(client: Client) -> recompute.Compared:
    """Compares one-minute roll-ups with the ten-second rows beneath them: samples and joules of each device agree."""
    tens, minutes = (
        f"(SELECT rack, device, sum(samples) AS n, sum(energy_j_inc) AS e FROM {DATABASE}.gpu_{tier} GROUP BY "
        "rack, device)"
        for tier in ("10s", "1m")
    )
    rows, wrong = client.query(
        f"SELECT count(), countIf(a.n != b.n OR abs(a.e - b.e) > 1e-6 * abs(a.e)) FROM {tens} AS a FULL JOIN "
        f"{minutes} AS b "
        "USING (rack, device)"
    ).result_rows[0]
    return {"rows": int(rows), "stored": int(rows), "wrong": int(wrong) + (not rows), "columns": []}


def _count(client: Client, outcome: _Outcome) -> None:
    """A rack reports every second: racks times seconds of frames there must be, with the GPUs that were alive."""
    frames, ticks = client.query(
        f"SELECT uniqExact(rack, ts), uniqExact(ts) FROM {DATABASE}.gpu_frames WHERE ts >= "
        f"fromUnixTimestamp64Milli({{first:Int64}}) "
        "AND ts < fromUnixTimestamp64Milli({end:Int64})",
        parameters={"first": outcome.begin_ms, "end": outcome.end_ms},
    ).result_rows[0]
    rows, once = _rows(client, outcome.begin_ms, outcome.end_ms)
    expected = (outcome.end_ms - outcome.begin_ms) // 1000
    outcome.rows, outcome.twice = once, rows - once
    outcome.lost = (expected * RACKS - int(frames)) * (GPUS // RACKS) if expected >= int(ticks) else 0
