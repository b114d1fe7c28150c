"""Derived rows as messages of a few megabytes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

#: Rows of one derived message: a few megabytes.
MOST_ROWS = 16_384


def pieces(rows: pa.RecordBatch) -> Iterator[tuple[int, int]]:
    """Yields (first row, end) of messages of at most MOST_ROWS rows. A rack's rows stay together where they can, and a
    message holds windows of one width.
    """
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
