"""One message on its way into a table, and the columns that say where rows came from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from schemas.frame import Frame


class StoredMessage(NamedTuple):
    """One message's rows for one table, and where it came from."""

    content: Frame | pa.RecordBatch
    partition: int
    offset: int
    kafka_ms: int

    @property
    def rows(self) -> int:
        return self.content.rows if isinstance(self.content, Frame) else int(self.content.num_rows)


def origin(pieces: Sequence[StoredMessage], rows: Sequence[int], log_id: str) -> dict[str, pa.Array]:
    """The columns that say where each row came from; `rows` is how many rows each piece gives."""

    def each(values: list[int], dtype: type) -> Any:
        return np.repeat(np.array(values, dtype), rows)

    return {
        "kafka_log": pa.DictionaryArray.from_arrays(np.zeros(sum(rows), np.int8), [log_id]),
        "kafka_partition": pa.array(each([p.partition for p in pieces], np.uint16)),
        "kafka_offset": pa.array(each([p.offset for p in pieces], np.uint64)),
        "kafka_ts": pa.array(each([p.kafka_ms for p in pieces], np.int64), pa.timestamp("ms", "UTC")),
    }
