"""Breaks a running factory in every way that it must survive, one after the other, and asks afterwards whether every
row is there once.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from pipeline.bench import markdown_table, recompute
from pipeline.bench.proxy import Mood, Proxy
from pipeline.bench.stages import Bench, Result
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
REFUSALS = (
    Mood(252, "Too many parts (3000). (TOO_MANY_PARTS)"),
    Mood(241, "Memory limit (total) exceeded. (MEMORY_LIMIT_EXCEEDED)"),
    Mood(242, "Table is in readonly mode. (TABLE_IS_READ_ONLY)"),
    Mood(243, "Cannot reserve 1.00 MiB, not enough space. (NOT_ENOUGH_SPACE)"),
)


class _Breakable(Supervisor):
    """A factory whose consumers reach ClickHouse through a proxy."""

    proxy: Proxy

    def start_clickhouse(self) -> None:
        super().start_clickhouse()
        self.direct = self.clickhouse
        self.proxy = Proxy(self.clickhouse)
        self.clickhouse = self.proxy.url


@dataclass(slots=True)
class Stage:
    """What a fault may do. `down_s`: how long things stay away."""

    factory: _Breakable
    down_s: float
    dice: random.Random

    async def kill(self, *names: str) -> None:
        """SIGKILL; the supervisor starts them again."""
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
        """Killed, and started again only after `down_s`."""
        old = self._pids([name])
        self.factory.stopped.add(name)
        await asyncio.to_thread(self.factory.processes[name].kill)
        await asyncio.sleep(self.down_s)
        self.factory.stopped.discard(name)
        await self._until_new(old)

    async def freeze(self, name: str, seconds: float) -> None:
        """SIGSTOP and, later, SIGCONT: for everyone else it is there and says nothing."""
        pid = self.factory.processes[name].pid
        os.kill(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            with contextlib.suppress(ProcessLookupError):  # frozen for long, the supervisor has ended it
                os.kill(pid, signal.SIGCONT)

    async def mood(self, mood: Mood, seconds: float) -> None:
        proxy = self.factory.proxy
        before, proxy.mood = proxy.misbehaved, mood
        await asyncio.sleep(seconds)
        while proxy.misbehaved == before:  # the next insert is at most a second away  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        proxy.mood = Mood()

    async def refuse(self) -> None:
        for mood in REFUSALS:
            await self.mood(mood, self.down_s / len(REFUSALS))

    async def kill_in_turn(self) -> None:
        """Each worker twice, a second or two apart: rebalances fall into one another."""
        for name in ("stream-0", "stream-1") * 2:
            await self.kill(name)
            await asyncio.sleep(self.dice.uniform(0.5, 2.5))

    async def add_and_kill_worker(self) -> None:
        """Another worker joins, takes over half of the partitions, and is killed in the midst of them."""
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
class Fault:
    name: str
    do: Callable[[Stage], Awaitable[None]]


FAULTS = (
    Fault("sink killed", lambda s: s.kill("sink")),
    Fault("worker killed", lambda s: s.kill("stream-0")),
    Fault("worker and sink killed together", lambda s: s.kill("stream-0", "sink")),
    Fault("workers killed again and again", lambda s: s.kill_in_turn()),
    Fault("worker added, then killed", lambda s: s.add_and_kill_worker()),
    Fault("sink frozen past its session", lambda s: s.freeze("sink", 9.0)),
    Fault("worker frozen past its session", lambda s: s.freeze("stream-1", 9.0)),
    Fault("broker killed", lambda s: s.kill("broker")),
    Fault("broker away", lambda s: s.away("broker")),
    Fault("broker frozen", lambda s: s.freeze("broker", s.down_s)),
    Fault("ClickHouse killed", lambda s: s.kill("clickhouse")),
    Fault("ClickHouse away", lambda s: s.away("clickhouse")),
    Fault("ClickHouse frozen", lambda s: s.freeze("clickhouse", s.down_s)),
    Fault("ClickHouse slow, 2 s an answer", lambda s: s.mood(Mood(late_s=2.0), s.down_s)),
    Fault("inserts refused: too many parts, memory, read-only, disk full", lambda s: s.refuse()),
    Fault("inserts stored and not acknowledged", lambda s: s.mood(Mood(hang_up=True), min(s.down_s, 6.0))),
)


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


async def run(bench: Bench, times: int, down_s: float, seed: int = 1, names: Sequence[str] = ()) -> Result:
    """Every fault `times` times on a factory with Apache Kafka and two workers; then rows are counted, and all results
    recomputed undisturbed.
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
    async with bench.factory(producer, made=_Breakable, workers=2, partitions=PARTITIONS, spool=True) as factory:
        assert isinstance(factory, _Breakable)
        tending = asyncio.create_task(factory.watchdog.run())
        client = store_client.connect(factory.direct)
        stage = Stage(factory, down_s, dice)
        await _caught_up(factory, client, 60)
        for round_ in range(times):
            for fault in chosen:
                await asyncio.sleep(dice.uniform(0.0, 2.0))
                outcome = _Outcome(_newest(factory))
                await fault.do(stage)
                outcome.recovery_s = await _caught_up(factory, client, RECOVERY_S, time.time() * 1000)
                outcome.end_ms = _newest(factory)
                done.outcomes.setdefault(fault.name, []).append(outcome)
                count = f" ({round_ + 1} of {times})" if times > 1 else ""
                bench.say(f"{fault.name}{count}: a new window of all is stored {outcome.recovery_s:.1f} s later")
        tending.cancel()
        await asyncio.gather(tending, return_exceptions=True)
        drained = await factory.finish(drain_s=180)
        client.close()
        client = store_client.connect(factory.direct)
        produced = status.read(factory.run_dir / "producer.json")
        for outcome in (o for many in done.outcomes.values() for o in many):
            _count(client, outcome)
        first, last = produced["first_ts_ms"], produced["last_ts_ms"]
        rows, once = _rows(client, first, last + 1)
        bench.say("recomputing everything from the log, undisturbed")
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


def rows(result: Result) -> list[tuple[str, ...]]:
    """Rows of HEADERS."""
    return [
        (name, *(f"{f[k]:,}" for k in ("times", "rows", "lost", "twice", "longest_recovery_s")))
        for name, f in result["faults"].items()
    ]


def verdict(result: Result) -> str:
    """In a sentence: what was compared with the undisturbed run."""
    compared = result["compared"]
    same = ", ".join(f"{c['rows']:,} {name}" for name, c in compared.items())
    wrong = {name: c["wrong"] for name, c in compared.items() if c["wrong"]}
    outcome = f"NOT the same: {wrong}" if wrong else "all the same to the last bit"
    return (
        f"{result['rows_produced']:,} GPU samples acknowledged by Kafka, {result['rows_missing']} lost, "
        f"{result['rows_duplicate']} twice. "
        f"Recomputed from the log by a worker that nobody disturbed: {same} rows, {outcome}."
    )


def page(result: Result) -> list[str]:
    """What docs/reliability.md says of a run."""
    return [
        *markdown_table.table(HEADERS, rows(result)),
        "",
        f"Services stayed away for {result['down_s']:g} s. {verdict(result)}",
    ]


def _newest(factory: Supervisor) -> int:
    return int(status.read(factory.run_dir / "producer.json").get("last_ts_ms") or 0)


async def _caught_up(factory: Supervisor, client: Client, timeout_s: float, over_ms: float = 0.0) -> float:
    """Seconds until storage and windows are where they are when nothing is wrong, with a window of all racks that ends
    after `over_ms`, when the
    fault was over: thirteen seconds are so at least. Raises ProcessError."""
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
    """(rows stored, distinct samples) of GPUs in a range of event time."""
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
    """The one-minute roll-ups against the ten-second rows that they are made of, by device: samples and joules must
    agree.
    """
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
