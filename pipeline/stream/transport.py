"""faust's Kafka transport with one thing changed: what is committed is what the windows no longer need.

faust commits what was acknowledged. Windows need the last minutes of the log to be rebuilt after a crash or a rebalance, so
messages are acknowledged (and their memory freed) as soon as they are processed, while the committed offset follows the
engine's word. That also steps around faust-streaming issue 606 (a commit past an unprocessed offset).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from faust.transport.drivers import aiokafka as driver
from faust.types import TP

#: Asked for the offset that may be committed for a partition; set by the app before it starts.
NeededFrom = Callable[[str, int], int | None]


class HeldConsumer(driver.Consumer):
    """A consumer whose commits come from `app.needed_from`."""

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        return (tp for tp in self.assignment() if topics is None or tp in topics or tp.topic in topics)

    def _new_offset(self, tp: TP) -> int | None:
        super()._new_offset(tp)  # frees faust's own list of acknowledged offsets
        offset: int | None = self.app.needed_from(tp.topic, tp.partition)  # type: ignore[attr-defined]
        return offset


class HeldTransport(driver.Transport):
    Consumer = HeldConsumer
