"""The worker: engines by partition, the site joiner, what it publishes, snapshots.

faust calls it; it does not call faust.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from pipeline.compute.context import Context
from pipeline.compute.derived_rows import ClosedPane
from pipeline.stream import snapshot
from pipeline.stream.busy import BusySpan
from pipeline.stream.joiner import Joiner
from pipeline.stream.partition import Partition
from pipeline.stream.pieces import pieces
from schemas import topics
from schemas.catalogue import KINDS
from schemas.codec import encode_batch
from schemas.log_record import LogRecord
from schemas.topics import PART_TOPIC

log = logging.getLogger("gigawatch.stream")

#: Publishes (topic, key, value) and returns when Kafka has it.
Publish = Callable[[str, bytes, bytes], Awaitable[None]]
MOST_REWINDS, REWIND_PAUSE_S = 3, 1.0


class LogAccess(Protocol):
    """The log that messages come from: after a rebalance a client may skip some, or deliver what it fetched before."""

    async def begin(self, topic: str, number: int) -> int:
        """Returns the offset at which a worker that takes the partition over must begin."""

    async def rewind(self, topic: str, number: int, offset: int) -> None:
        """Reads again from `offset`."""

    def is_at_end(self, topic: str, number: int, position: int | None) -> bool:
        """Whether a partition that is processed up to `position` holds nothing more; None for nothing processed yet."""

    async def open_incidents(self) -> list[dict[str, Any]]:
        """Returns the latest row of every open incident."""


@dataclass(frozen=True, slots=True)
class _Rewind:
    """The last request to read a partition again: from which offset, how often, and when (monotonic, s)."""

    offset: int
    times: int
    at_s: float


class Worker:
    """`publish` and `log` are given; everything else here is a function of the messages.

    Without a `log`, missing messages stay missing.
    """

    def __init__(
        self, publish: Publish, tick_ms: int = 1000, lateness_ms: int = 3000, log: LogAccess | None = None
    ) -> None:
        self._publish, self._tick_ms, self._lateness_ms, self._log = publish, tick_ms, lateness_ms, log
        self._rewinds: dict[tuple[str, int], _Rewind] = {}
        self._mine: set[tuple[str, int]] | None = None  # None before the first assignment
        self.rewinds = 0
        self.context = Context()
        self.context_counts: Counter[str] = Counter()
        #: partition of a rack's key; set once the number of partitions is known
        self.partition_of: Callable[[bytes], int] | None = None
        self._partitions: dict[tuple[str, int], Partition] = {}
        self._joiners: dict[int, Joiner] = {}
        self._open_incidents: list[dict[str, Any]] = []
        self.published: Counter[str] = Counter()
        self.last_progress = time.time()
        self._busy = BusySpan()
        self.stopped = False
        self.assigned = 0
        self.idle = asyncio.Lock()

    async def process(self, topic: str, bundles: Sequence[tuple[int, Sequence[LogRecord]]]) -> None:
        """Processes (partition, messages) of one topic, in log order per partition; returns when all results are with
        Kafka.
        """
        grouped: dict[int, list[LogRecord]] = {}
        for partition, messages in bundles:
            grouped.setdefault(partition, []).extend(messages)
        self._busy.begin()
        async with self.idle:
            if not self.stopped:
                for partition, batch in grouped.items():
                    if self._mine is not None and (topic, partition) not in self._mine:
                        continue  # fetched before a rebalance: its new owner reads it
                    if topic == PART_TOPIC:
                        await self._process_parts(partition, batch)
                    else:
                        await self._process_telemetry(topic, partition, batch)
                self.last_progress = time.time()
                self._busy.extend()
                return
        await asyncio.Event().wait()  # unprocessed and unacknowledged: the partition's next owner reads it again

    async def _process_telemetry(self, topic: str, number: int, batch: list[LogRecord]) -> None:
        partition = self._partition(topic, number)
        await self._send_panes(number, partition.add(await self._contiguous(topic, number, partition, batch)))
        held = partition.jobs.rows()
        if held is not None:
            await self.send("allocation", held, b"")
        for other, dark in self._others(partition, number):
            if self._log is None or self._log.is_at_end(other, number, dark.offsets.position):
                await self._send_panes(number, dark.pass_time(partition.engine.watermark_ms, partition.arrived_ms))

    async def _send_panes(self, number: int, panes: Sequence[ClosedPane]) -> None:
        for closed in panes:
            await asyncio.gather(
                *(self.send(name, rows, str(number).encode()) for name, rows in closed.batches.items())
            )

    def _others(self, partition: Partition, number: int) -> list[tuple[str, Partition]]:
        """Returns the partitions of other kinds with the same racks, by topic; those of declared devices that never
        spoke too.
        """
        for kind in self.context.inventory.kinds() & KINDS.keys():
            topic = topics.telemetry(kind)
            if self._mine is None or (topic, number) in self._mine:
                self._partition(topic, number)
        return [(t, p) for (t, n), p in self._partitions.items() if n == number and p is not partition]

    def leads(self) -> bool:
        """Whether this worker has the partition of racks' shares, which one worker has at a time: it publishes what is
        wanted once.
        """
        return self._mine is None or (PART_TOPIC, 0) in self._mine

    async def _process_parts(self, number: int, batch: list[LogRecord]) -> None:
        joiner = self._joiners.get(number)
        if joiner is None:
            joiner = self._joiners[number] = Joiner()
            joiner.engine.incidents.restore(self._open_incidents)
        for name, rows in joiner.add(await self._contiguous(PART_TOPIC, number, joiner, batch)).items():
            await self.send(name, rows, b"site")

    async def _contiguous(
        self, topic: str, number: int, reader: Partition | Joiner, batch: list[LogRecord]
    ) -> list[LogRecord]:
        """Returns the messages up to the first that is missing, which is then read again; all of them once reading
        again has failed.
        """
        if self._log is None or not batch:
            return batch
        if reader.offsets.position is None:
            reader.offsets.start_at(await self._log.begin(topic, number))
            if not len(reader.engine.incidents):  # its last owner may have opened some since this worker started
                reader.engine.incidents.restore(await self._log.open_incidents())
        expected, last = reader.offsets.position or 0, batch[-1].offset
        if batch[0].offset <= expected and last - batch[0].offset == len(batch) - 1:
            return batch
        for at, message in enumerate(batch):
            if message.offset > expected:
                return batch[:at] if await self._read_again(topic, number, expected) else batch
            expected = max(expected, message.offset + 1)
        return batch

    async def _read_again(self, topic: str, number: int, offset: int) -> bool:
        """Reads again from `offset`, at most once a second; False after MOST_REWINDS attempts in vain: the messages are
        gone.
        """
        assert self._log is not None
        before = self._rewinds.get((topic, number))
        if before is None or before.offset != offset:
            before = _Rewind(offset, 0, 0.0)
        if time.monotonic() < before.at_s + REWIND_PAUSE_S:
            return True  # fetched before the last rewind
        if before.times >= MOST_REWINDS:
            return False
        log.info("%s/%d: offset %d was skipped: reading again from there", topic, number, offset)
        self.rewinds += 1
        self._rewinds[topic, number] = _Rewind(offset, before.times + 1, time.monotonic())
        await self._log.rewind(topic, number, offset)
        return True

    async def send(self, name: str, rows: pa.RecordBatch, key: bytes) -> None:
        """Publishes rows of a derived stream; returns when Kafka has them."""
        for begin, end in pieces(rows):
            await self._publish(topics.derived(name), key, encode_batch(rows.slice(begin, end - begin)))
        self.published[name] += rows.num_rows

    def _partition(self, topic: str, number: int) -> Partition:
        found = self._partitions.get((topic, number))
        if found is None:
            found = self._partitions[topic, number] = Partition(
                topic.removeprefix("telemetry."), self._tick_ms, self._lateness_ms, self.context
            )
            found.engine.incidents.restore(self._open_incidents)
            self._attach(found, number)
        return found

    def _attach(self, partition: Partition, number: int) -> None:
        """Gives a partition what it shares with the others."""
        partition.engine.context = self.context
        partition.engine.expectation.is_mine = lambda key: self.partition_of is None or self.partition_of(key) == number

    def needed_from(self, topic: str, number: int) -> int | None:
        """Returns the offset that may be committed."""
        if topic == PART_TOPIC:
            return self._joiners[number].needed_from() if number in self._joiners else None
        partition = self._partitions.get((topic, number))
        return partition.needed_from() if partition else None

    def assign(self, mine: Iterable[tuple[str, int]]) -> None:
        """Forgets partitions that belong to another worker after a rebalance, and continues with those it keeps.

        A rebalance revokes all partitions and assigns them again; no other worker had those that come straight back, so
        their state is valid, and what is read again of them is skipped by offset.
        """
        if self.stopped:
            return
        kept = self._mine = set(mine)
        log.info("assigned: %s", ", ".join(f"{t}/{n}" for t, n in sorted(kept)) or "nothing")
        self.assigned = len(kept)
        self._partitions = {tp: p for tp, p in self._partitions.items() if tp in kept}
        self._joiners = {number: j for number, j in self._joiners.items() if (PART_TOPIC, number) in kept}

    def stop(self) -> None:
        """Processes and forgets nothing from now on, so that the snapshot is of one moment."""
        self.stopped = True

    def restore_incidents(self, rows: list[dict[str, Any]]) -> None:
        """Takes the open incidents of the incident topic, for engines that are made from now on."""
        self._open_incidents = rows

    def save(self, path: Path, log_id: str) -> None:
        """Writes all state, so that the next worker on this machine continues bit for bit, even on a fresh log."""
        body = {
            "log": log_id,
            "context": self.context,
            "partitions": self._partitions,
            "joiners": self._joiners,
        }
        snapshot.save(path, body)

    def load(self, path: Path, log_id: str) -> bool:
        """Restores a snapshot (a file that this program wrote on this machine); False when there is none that fits."""
        body = snapshot.load(path)
        if body is None:
            return False
        self._partitions, self._joiners, self.context = body["partitions"], body["joiners"], body["context"]
        for (_, number), partition in self._partitions.items():
            self._attach(partition, number)
        if body["log"] != log_id:
            places = [p.offsets for p in self._partitions.values()] + [j.offsets for j in self._joiners.values()]
            for offsets in places:
                offsets.reset()
        return True

    def status(self) -> dict[str, Any]:
        """Returns counters for the status file."""
        counts: Counter[str] = Counter(self.context_counts)
        devices: Counter[str] = Counter()
        for (topic, _), partition in self._partitions.items():
            counts += partition.counts
            counts += Counter({f"rows:{k}": v for k, v in partition.engine.counts.items()})
            devices[topic.removeprefix("telemetry.")] += len(partition.engine.devices)
        return {
            "assigned": self.assigned,
            "rewinds": self.rewinds,
            "counts": dict(counts),
            "devices": dict(devices),
            "published": dict(self.published),
            "positions": {f"{t}/{n}": p.offsets.position for (t, n), p in self._partitions.items()}
            | {f"{PART_TOPIC}/{n}": j.offsets.position for n, j in self._joiners.items()},
            "open_incidents": sum(len(p.engine.incidents) for p in self._partitions.values())
            + sum(len(j.engine.incidents) for j in self._joiners.values()),
            "last_progress": self.last_progress,
            "busy": self._busy.status(),
        }
