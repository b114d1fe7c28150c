"""Where everything lies in a frame's bytes, so that frames that repeat need no parsing: layouts are cached and
compared as bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from schemas.identity import IDENTITY


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Frames with the same `prefix` (schema message and batch metadata) have all their columns at the same bytes.

    Offsets count from the first byte of the message. `identity` spans the identity columns' offsets and characters;
    `hint` is where the first device's name begins. Metric columns follow up to `length`, in wire order.
    """

    kind: str
    prefix: bytes
    schema: pa.Schema
    body: int
    rows: int
    length: int
    ts: int
    identity: tuple[int, int]
    hint: int
    metrics: Mapping[str, tuple[int, str]]

    @staticmethod
    def of(kind: str, data: bytes, start: int, batch: pa.RecordBatch, schema: pa.Schema) -> Layout | None:
        """The layout of a validated message whose batch begins at byte `start`; None when it is not a plain one.

        Plain: columns in order one after the other, no validity bitmaps, no compression, everything 8-byte aligned.
        """
        prefix_end = start + 8 + int.from_bytes(data[start + 4 : start + 8], "little")
        base = pa.py_buffer(data).address
        spans: list[list[tuple[int, int]]] = []
        last = prefix_end
        for column in batch.columns:
            bitmap, *buffers = column.buffers()
            if bitmap is not None or column.offset:
                return None
            found = []
            for buffer in buffers:
                if buffer is None or not buffer.size:  # the characters of a column of empty strings
                    found.append((last, 0))
                    continue
                begin = buffer.address - base
                if begin < last or begin % 8 or begin + buffer.size > len(data):
                    return None
                last = begin + buffer.size
                found.append((begin, buffer.size))
            spans.append(found)
        count = 1 + len(IDENTITY)
        if len(data) % 8 or len(spans) <= count:
            return None
        _, device_names = spans[1 + IDENTITY.index("device")]
        if not device_names[1]:
            return None
        first_metric = spans[count][0][0]
        return Layout(
            kind,
            data[:prefix_end],
            schema,
            start,
            batch.num_rows,
            len(data),
            spans[0][0][0],
            (spans[1][0][0], first_metric),
            device_names[0],
            {
                field.name: (span[0][0], "float64" if field.type == pa.float64() else "float32")
                for field, span in zip(list(schema)[count:], spans[count:], strict=True)
            },
        )
