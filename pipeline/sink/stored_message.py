"""One message on its way into a table, and the columns that hold where rows came from."""

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


def provenance(messages: Sequence[StoredMessage], rows: Sequence[int], log_id: str) -> dict[str, pa.Array]:
    """Returns the columns that hold where each row came from; `rows` counts the rows of each message."""

    def each(values: list[int], dtype: type) -> Any:
        return np.repeat(np.array(values, dtype), rows)

    return {
        "kafka_log": pa.DictionaryArray.from_arrays(np.zeros(sum(rows), np.int8), [log_id]),
        "kafka_partition": pa.array(each([p.partition for p in messages], np.uint16)),
        "kafka_offset": pa.array(each([p.offset for p in messages], np.uint64)),
        "kafka_ts": pa.array(each([p.kafka_ms for p in messages], np.int64), pa.timestamp("ms", "UTC")),
    }
