"""The site engine with its place in the part topic: skips what it has seen, knows what it needs. No faust here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from pipeline.compute.site import KEEP_MS, SiteEngine
from pipeline.stream.offsets import Offsets
from schemas import derived
from schemas.codec import InvalidFrame
from schemas.log_record import LogRecord

#: Parts of one window arrive within this much event time of each other.
SPREAD_MS = 30_000


class Joiner:
    """Feeds the site engine.

    When it starts in the middle of the log, it leaves out windows whose parts it may have missed.
    """

    def __init__(self) -> None:
        self.engine = SiteEngine()
        self.offsets = Offsets()
        self._from_ms = 0
        self.counts: Counter[str] = Counter()

    def add(self, messages: Iterable[LogRecord]) -> dict[str, pa.RecordBatch]:
        """Processes messages in offset order; returns batches by derived stream."""
        found: list[pa.RecordBatch] = []
        for message in messages:
            self.counts["received"] += 1
            position = self.offsets.position
            if position is not None and message.offset < position:
                self.counts["seen-before"] += 1
                continue
            if position is not None and message.offset > position:  # windows of missing messages are left out
                self.counts["gaps"] += 1
                self.offsets.gap()
            self.offsets.advance(message.offset)
            try:
                stream, batch = derived.decode(message.value)
                if stream is not derived.PART:
                    raise InvalidFrame("kind", f"a {stream.name} message on the part topic")
            except InvalidFrame as err:
                self.counts[f"discarded:{err.reason}"] += 1
                continue
            stamps = np.asarray(batch.column(0).cast(pa.int64()))
            newest = int(stamps.max())
            if self.offsets.starts_cold():
                self._from_ms = newest + SPREAD_MS
            self.offsets.mark(newest, message.offset)
            self.counts["processed"] += 1
            if newest >= self._from_ms:
                sure = stamps >= self._from_ms
                found.append(batch if sure.all() else batch.filter(pa.array(sure)))
        return self.engine.add(pa.concat_batches(_aligned(found))) if found else {}

    def needed_from(self) -> int | None:
        """Returns the offset from which a new joiner must read; None before the first message."""
        return self.offsets.needed_from(self.offsets.newest_ms - KEEP_MS - 2 * SPREAD_MS)


def _aligned(batches: list[pa.RecordBatch]) -> list[pa.RecordBatch]:
    """Returns the batches with the same columns: parts may leave out figures that their kind does not have."""
    if len({b.schema for b in batches}) == 1:
        return batches
    whole = pa.concat_tables([pa.table(b) for b in batches], promote_options="default")
    return whole.combine_chunks().to_batches()  # type: ignore[no-any-return]
