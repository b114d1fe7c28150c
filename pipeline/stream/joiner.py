"""The part topic's place in the log around the site engine: what to skip, what is still needed. No faust here."""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from pipeline.compute.site import KEEP_MS, SiteEngine
from schemas import derived
from schemas.codec import InvalidFrame
from schemas.log_record import LogRecord

#: Parts of one window arrive within this much event time of each other.
SPREAD_MS = 30_000


class Joiner:
    """Feeds the site engine.

    Taken over in the middle of the log, it leaves windows alone whose parts it may have missed.
    """

    def __init__(self) -> None:
        self.engine = SiteEngine()
        self.position: int | None = None
        self._from_ms = 0
        self._begun = False
        self._marks: list[tuple[int, int]] = []
        self.counts: Counter[str] = Counter()

    def start_at(self, offset: int) -> None:
        """Nothing before this offset is wanted, and nothing after it may be missing."""
        self.position = offset

    def add(self, messages: Iterable[LogRecord]) -> dict[str, pa.RecordBatch]:
        found: list[pa.RecordBatch] = []
        for message in messages:
            self.counts["received"] += 1
            if self.position is not None and message.offset < self.position:
                self.counts["seen-before"] += 1
                continue
            if (
                self.position is not None and message.offset > self.position
            ):  # messages are missing: leave their windows alone
                self.counts["gaps"] += 1
                self._begun = False
            first, self.position, self._begun = not self._begun, message.offset + 1, True
            try:
                stream, batch = derived.decode(message.value)
                if stream is not derived.PART:
                    raise InvalidFrame("kind", f"a {stream.name} message on the part topic")
            except InvalidFrame as err:
                self.counts[f"discarded:{err.reason}"] += 1
                continue
            stamps = np.asarray(batch.column(0).cast(pa.int64()))
            newest = int(stamps.max())
            if first and message.offset > 0:
                self._from_ms = newest + SPREAD_MS
            if not self._marks or newest >= self._marks[-1][0] + 1000:
                self._marks.append((newest, message.offset))
            self.counts["processed"] += 1
            if newest >= self._from_ms:
                sure = stamps >= self._from_ms
                found.append(batch if sure.all() else batch.filter(pa.array(sure)))
        return self.engine.add(pa.concat_batches(_alike(found))) if found else {}

    def needed_from(self) -> int | None:
        if not self._marks:
            return self.position
        index = max(0, bisect.bisect_right(self._marks, (self._marks[-1][0] - KEEP_MS - 2 * SPREAD_MS, 1 << 62)) - 1)
        del self._marks[:index]
        return self._marks[0][1]

    def rebase(self) -> None:
        """Goes on with its state at the beginning of another log."""
        self.position = 0
        self._marks.clear()


def _alike(batches: list[pa.RecordBatch]) -> list[pa.RecordBatch]:
    """The batches with the same columns: parts may leave out figures that their kind does not have."""
    if len({b.schema for b in batches}) == 1:
        return batches
    whole = pa.concat_tables([pa.table(b) for b in batches], promote_options="default")
    return whole.combine_chunks().to_batches()  # type: ignore[no-any-return]
