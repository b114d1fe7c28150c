"""What a worker holds and publishes: engines by partition, the site joiner, snapshots.

faust calls it; it does not call faust.
"""

from __future__ import annotations

import asyncio
import logging
import pickle
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from pipeline.stream.joiner import Joiner
from pipeline.stream.names import PART_TOPIC
from pipeline.stream.partition import Partition
from schemas import topics
from schemas.codec import encode_batch
from schemas.log_record import LogRecord

log = logging.getLogger("gigawatch.stream")

#: Publishes (topic, key, value) and returns when Kafka has it.
Publish = Callable[[str, bytes, bytes], Awaitable[None]]
SNAPSHOT_VERSION = 5
MOST_REWINDS, REWIND_PAUSE_S = 3, 1.0
#: Rows of one derived message: a few megabytes.
MOST_ROWS = 16_384


class Log(Protocol):
    """Where messages come from: after a rebalance a client may pass over some, or hand out what it held from before."""

    async def begin(self, topic: str, number: int) -> int:
        """The offset at which a worker that takes the partition over must begin."""

    async def rewind(self, topic: str, number: int, offset: int) -> None:
        """Reads again from `offset`."""

    async def open_incidents(self) -> list[dict[str, Any]]:
        """The latest row of every incident that is open now."""


class Worker:
    """`publish` and `log` are given; everything else here is a function of the messages.

    Without a `log`, what is missing stays missing.
    """

    def __init__(self, publish: Publish, tick_ms: int = 1000, lateness_ms: int = 3000, log: Log | None = None) -> None:
        self._publish, self._tick_ms, self._lateness_ms, self._log = publish, tick_ms, lateness_ms, log
        self._asked: dict[
            tuple[str, int], tuple[int, int, float]
        ] = {}  # partition -> (offset asked for again, times, when last)
        self._mine: set[tuple[str, int]] | None = None  # None before the first assignment
        self.rewinds = 0
        self._partitions: dict[tuple[str, int], Partition] = {}
        self._joiners: dict[int, Joiner] = {}
        self._open_incidents: list[dict[str, Any]] = []
        self.published: Counter[str] = Counter()
        self.last_progress = time.time()
        self._began: tuple[float, float] | None = None
        self._ended_cpu = 0.0
        self.stopped = False
        self.assigned = 0
        self.idle = asyncio.Lock()

    async def take(self, topic: str, bundles: Sequence[tuple[int, Sequence[LogRecord]]]) -> None:
        """(partition, messages) of one topic, in log order per partition; returns when all results are with Kafka."""
        grouped: dict[int, list[LogRecord]] = {}
        for partition, messages in bundles:
            grouped.setdefault(partition, []).extend(messages)
        if self._began is None:
            self._began = time.time(), time.process_time()
        async with self.idle:
            if not self.stopped:
                for partition, batch in grouped.items():
                    if self._mine is not None and (topic, partition) not in self._mine:
                        continue  # held from before a rebalance: its new owner reads it
                    if topic == PART_TOPIC:
                        await self._join(partition, batch)
                    else:
                        await self._roll(topic, partition, batch)
                self.last_progress, self._ended_cpu = time.time(), time.process_time()
                return
        await asyncio.Event().wait()  # unprocessed and unacknowledged: read again by whoever comes next

    async def _roll(self, topic: str, number: int, batch: list[LogRecord]) -> None:
        held = self._partition(topic, number)
        for closed in held.add(await self._whole(topic, number, held, batch)):
            await asyncio.gather(
                *(self._send(name, rows, str(number).encode()) for name, rows in closed.batches.items())
            )

    async def _join(self, number: int, batch: list[LogRecord]) -> None:
        joiner = self._joiners.get(number)
        if joiner is None:
            joiner = self._joiners[number] = Joiner()
            joiner.engine.incidents.restore(self._open_incidents)
        for name, rows in joiner.add(await self._whole(PART_TOPIC, number, joiner, batch)).items():
            await self._send(name, rows, b"site")

    async def _whole(
        self, topic: str, number: int, held: Partition | Joiner, batch: list[LogRecord]
    ) -> list[LogRecord]:
        """The messages up to the first that is missing, which is then read again; all of them once that has been tried
        in vain.
        """
        if self._log is None or not batch:
            return batch
        if held.position is None:
            held.start_at(await self._log.begin(topic, number))
            if not len(held.engine.incidents):  # its last owner may have opened some since this worker started
                held.engine.incidents.restore(await self._log.open_incidents())
        expected, last = held.position or 0, batch[-1].offset
        if batch[0].offset <= expected and last - batch[0].offset == len(batch) - 1:
            return batch
        for at, message in enumerate(batch):
            if message.offset > expected:
                return batch[:at] if await self._ask_again(topic, number, expected) else batch
            expected = max(expected, message.offset + 1)
        return batch

    async def _ask_again(self, topic: str, number: int, offset: int) -> bool:
        """Reads again from `offset`, at most once a second; False when that did not bring it in MOST_REWINDS attempts:
        it is not there.
        """
        assert self._log is not None
        before, times, when = self._asked.get((topic, number), (-1, 0, 0.0))
        if before != offset:
            times, when = 0, 0.0
        if time.monotonic() < when + REWIND_PAUSE_S:
            return True  # what was on its way before the last rewind
        if times >= MOST_REWINDS:
            return False
        log.info("%s/%d: offset %d was passed over: reading again from there", topic, number, offset)
        self.rewinds += 1
        self._asked[topic, number] = offset, times + 1, time.monotonic()
        await self._log.rewind(topic, number, offset)
        return True

    async def _send(self, name: str, rows: pa.RecordBatch, key: bytes) -> None:
        for begin, end in _pieces(rows):
            await self._publish(topics.derived(name), key, encode_batch(rows.slice(begin, end - begin)))
        self.published[name] += rows.num_rows

    def _partition(self, topic: str, number: int) -> Partition:
        found = self._partitions.get((topic, number))
        if found is None:
            found = self._partitions[topic, number] = Partition(
                topic.removeprefix("telemetry."), self._tick_ms, self._lateness_ms
            )
            found.engine.incidents.restore(self._open_incidents)
        return found

    def needed_from(self, topic: str, number: int) -> int | None:
        """The offset that may be committed."""
        if topic == PART_TOPIC:
            return self._joiners[number].needed_from() if number in self._joiners else None
        held = self._partitions.get((topic, number))
        return held.needed_from() if held else None

    def assign(self, mine: Iterable[tuple[str, int]]) -> None:
        """After a rebalance: forgets partitions that now belong to another worker, and goes on with those it keeps.

        A rebalance takes all partitions away and deals them out anew; nobody else had those that come straight back, so
        their state stands, and what is read again of them is skipped by offset.
        """
        if self.stopped:
            return
        kept = self._mine = set(mine)
        log.info("assigned: %s", ", ".join(f"{t}/{n}" for t, n in sorted(kept)) or "nothing")
        self.assigned = len(kept)
        self._partitions = {tp: held for tp, held in self._partitions.items() if tp in kept}
        self._joiners = {number: held for number, held in self._joiners.items() if (PART_TOPIC, number) in kept}

    def stop(self) -> None:
        """From now on nothing is taken or forgotten: what comes is left unprocessed, for the snapshot to be of one
        moment.
        """
        self.stopped = True

    def restore_incidents(self, rows: list[dict[str, Any]]) -> None:
        """Open incidents, from the incident topic; taken up by engines that are made from now on."""
        self._open_incidents = rows

    def save(self, path: Path, log_id: str) -> None:
        """Writes all state, so that the next worker on this machine goes on bit for bit, even on a fresh log."""
        body = {"version": SNAPSHOT_VERSION, "log": log_id, "partitions": self._partitions, "joiners": self._joiners}
        part = path.with_suffix(".part")
        with part.open("wb") as file:
            pickle.dump(body, file, protocol=5)
        part.replace(path)

    def load(self, path: Path, log_id: str) -> bool:
        """Takes up a snapshot (a file that this program wrote on this machine); False when there is none that fits."""
        try:
            body = pickle.loads(path.read_bytes())  # noqa: S301 - a file that this program wrote here
            if body["version"] != SNAPSHOT_VERSION:
                return False
        except FileNotFoundError:
            return False
        except Exception as err:  # noqa: BLE001 - a damaged snapshot costs a replay, nothing more
            log.warning("snapshot %s cannot be read (%s): rebuilding from the log", path, err)
            return False
        self._partitions, self._joiners = body["partitions"], body["joiners"]
        if body["log"] != log_id:
            for partition in self._partitions.values():
                partition.rebase()
            for joiner in self._joiners.values():
                joiner.rebase()
        return True

    def status(self) -> dict[str, Any]:
        """Counters for the status file."""
        counts: Counter[str] = Counter()
        devices: Counter[str] = Counter()
        for (topic, _), held in self._partitions.items():
            counts += held.counts
            counts += Counter({f"rows:{k}": v for k, v in held.engine.counts.items()})
            devices[topic.removeprefix("telemetry.")] += len(held.engine.devices)
        return {
            "assigned": self.assigned,
            "rewinds": self.rewinds,
            "counts": dict(counts),
            "devices": dict(devices),
            "published": dict(self.published),
            "positions": {f"{t}/{n}": p.position for (t, n), p in self._partitions.items()}
            | {f"{PART_TOPIC}/{n}": j.position for n, j in self._joiners.items()},
            "open_incidents": sum(len(p.engine.incidents) for p in self._partitions.values())
            + sum(len(j.engine.incidents) for j in self._joiners.values()),
            "last_progress": self.last_progress,
            "busy": self._busy(),
        }

    def _busy(self) -> dict[str, float] | None:
        """From the first message to the last result: when (s since 1970), and the process's CPU seconds in between."""
        if self._began is None:
            return None
        return {"began": self._began[0], "ended": self.last_progress, "cpu_s": self._ended_cpu - self._began[1]}


def _pieces(rows: pa.RecordBatch) -> Iterator[tuple[int, int]]:
    """(first row, end) of messages of at most MOST_ROWS rows; a rack's rows stay together where they can, whoever
    publishes them, and
    windows of one width."""
    rack = rows.column(at) if (at := rows.schema.get_field_index("rack")) >= 0 else None
    width = (
        np.asarray(rows.column(at)) if (at := rows.schema.get_field_index("window_s")) >= 0 else np.zeros(rows.num_rows)
    )
    stops = [*(np.flatnonzero(np.diff(width)) + 1).tolist(), rows.num_rows]
    begin = 0
    while begin < rows.num_rows:
        end = min(begin + MOST_ROWS, next(stop for stop in stops if stop > begin))
        if rack is not None and end not in stops:
            name, whole = rack[end], end
            while whole > begin and rack[whole - 1] == name:
                whole -= 1
            end = whole if whole > begin else end
        yield begin, end
        begin = end
