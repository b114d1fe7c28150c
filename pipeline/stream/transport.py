"""faust's Kafka transport with two changes: it commits what the windows no longer need, and records travel in bundles.

faust commits what was acknowledged. Windows need the last minutes of the log to be rebuilt after a crash or a
rebalance, so messages are acknowledged (and their memory freed) as soon as they are processed, while the committed
offset comes from the worker. That also avoids faust-streaming issue 606 (a commit past an unprocessed offset).

faust spends about 0.2 ms on every message before an agent sees it. All records of one partition in a fetch therefore
travel as one message whose value is a `Bundle`; its offset is that of the last record.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from aiokafka.errors import IllegalStateError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from schemas.log_record import LogRecord

#: Returns the offset that may be committed for a (topic, partition); set by the app before it starts.
NeededFrom = Callable[[str, int], int | None]
#: Records of one bundle at most: an agent's turn stays short.
MOST_RECORDS = 1024


@dataclass(frozen=True, slots=True)
class Bundle:
    """Records of one partition in log order."""

    records: list[LogRecord]


class BundleConsumer(driver.Consumer):
    """A consumer whose commits come from `app.needed_from`, and whose messages are bundles."""

    async def _wait_next_records(self, timeout: float) -> tuple[Any, Any]:  # noqa: ASYNC109 - faust's own signature
        records, active = await super()._wait_next_records(timeout)
        return ({tp: _bundled(found) for tp, found in records.items() if found} if records else records), active

    async def begin(self, topic: str, number: int) -> int:
        """Returns the committed offset; the first in the log where none is committed, or it is no longer there."""
        tp = TP(topic, number)
        thread = self._thread
        # faust has no other way to ask
        committed = await thread.call_thread(thread._ensure_consumer().committed, tp)  # noqa: SLF001
        earliest = (await self.earliest_offsets(tp))[tp]
        return max(committed or 0, earliest)

    async def rewind(self, topic: str, number: int, offset: int) -> None:
        """Reads again from `offset`; does nothing when the partition was revoked meanwhile."""
        with contextlib.suppress(IllegalStateError):
            await self.seek(TP(topic, number), offset)

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Does nothing: there is no gap between the ends of two bundles."""

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        return (tp for tp in self.assignment() if topics is None or tp in topics or tp.topic in topics)

    def _new_offset(self, tp: TP) -> int | None:
        super()._new_offset(tp)  # frees faust's own list of acknowledged offsets
        offset: int | None = self.app.needed_from(tp.topic, tp.partition)  # type: ignore[attr-defined]
        return offset


class BundleTransport(driver.Transport):
    Consumer = BundleConsumer


def _bundled(records: list[Any]) -> list[Any]:
    out = []
    for at in range(0, len(records), MOST_RECORDS):
        part = records[at : at + MOST_RECORDS]
        out.append(
            replace(
                part[-1],
                value=Bundle([LogRecord.of(r) for r in part]),
            )
        )
    return out
