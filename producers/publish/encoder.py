"""Packing: one tick of a whole site, as columns, into one message a place.

What does not change from tick to tick is encoded once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from schemas.arrays import Floats, Ints
from schemas.catalogue import KINDS
from schemas.codec import Decoder, encode
from schemas.frame import Frame, build
from schemas.layout import Layout
from schemas.validation import Counts, mask_invalid_values


@dataclass(frozen=True, eq=False)
class DeviceList:
    """Who a source speaks of, tick after tick: identity columns of all rows, and how rows are cut into messages.

    `cuts` int[messages + 1]: row numbers at which messages begin, and the end. `names`: the metrics that it gives.
    """

    kind: str
    identity: Mapping[str, pa.Array]
    cuts: Ints
    names: tuple[str, ...]

    @property
    def rows(self) -> int:
        return int(self.cuts[-1])

    @cached_property
    def packer(self) -> TickEncoder:
        return TickEncoder(self)


@dataclass(frozen=True, slots=True)
class SiteTick:
    """One tick of everyone on a roster: float[rows] by metric, NaN for missing."""

    roster: DeviceList
    ts_ms: int
    values: Mapping[str, Floats]


@dataclass(frozen=True, slots=True)
class _Form:
    """Messages of one layout: their numbers, uint8[messages, bytes] encoded with the last tick's values, their rows."""

    layout: Layout
    numbers: Ints
    body: np.ndarray
    rows: Ints | slice


class TickEncoder:
    """Encodes sheets of one roster; `keys` are the messages' Kafka keys, `sizes` their rows, `firsts` their first
    rows' nodes where keys repeat.
    """

    def __init__(self, roster: DeviceList) -> None:
        self._roster = roster
        self.sizes = np.diff(roster.cuts)
        self.keys: list[bytes] = []
        self.firsts: list[str] = []
        nothing = {n: np.zeros(roster.rows, KINDS[roster.kind][n].dtype) for n in roster.names}
        whole = build(roster.kind, 0, roster.identity, nothing).batch
        decoder, found = Decoder(), dict[Layout, list[tuple[int, bytes]]]()
        for number, (begin, end) in enumerate(zip(roster.cuts, roster.cuts[1:], strict=False)):
            data = encode(Frame(roster.kind, whole.slice(begin, end - begin)))
            frame = decoder.decode(data)
            assert frame.layout is not None
            self.keys.append(frame.key())
            self.firsts.append(whole.column(3)[int(begin)].as_py())
            found.setdefault(frame.layout, []).append((number, data))
        if len(set(self.keys)) == len(self.keys):
            self.firsts = [""] * len(self.keys)  # the key alone says who
        self._forms = [self._form(layout, messages) for layout, messages in found.items()]
        self._messages = [memoryview(b"")] * len(self.sizes)
        for form in self._forms:
            for k, number in enumerate(form.numbers.tolist()):
                self._messages[number] = memoryview(form.body[k])

    def _form(self, layout: Layout, messages: Sequence[tuple[int, bytes]]) -> _Form:
        numbers = np.array([n for n, _ in messages])
        rows = (self._roster.cuts[numbers][:, None] + np.arange(layout.rows)).ravel()
        whole = len(rows) == rows[-1] - rows[0] + 1
        body = (
            np.frombuffer(b"".join([data for _, data in messages]), np.uint8)
            .reshape(len(messages), layout.length)
            .copy()
        )
        return _Form(layout, numbers, body, slice(int(rows[0]), int(rows[-1]) + 1) if whole else rows)

    def pack(self, sheet: SiteTick, counts: Counts) -> list[bytes]:
        """One message a place, in the roster's order; impossible values are made missing and counted."""
        return [bytes(message) for message in self.stamp(sheet, counts)]

    def stamp(self, sheet: SiteTick, counts: Counts) -> list[memoryview]:
        """The same without a copy: the messages hold until the next sheet."""
        kind = KINDS[self._roster.kind]
        values = {
            n: mask_invalid_values(kind[n], np.asarray(sheet.values[n], kind[n].dtype), counts)
            for n in self._roster.names
        }
        for form in self._forms:
            layout, shape = form.layout, (len(form.numbers), form.layout.rows)
            form.body[:, layout.ts : layout.ts + 8 * layout.rows].view(np.int64)[:] = sheet.ts_ms
            for name, (at, dtype) in layout.metrics.items():
                width = np.dtype(dtype).itemsize * layout.rows
                form.body[:, at : at + width].view(dtype)[:] = values[name][form.rows].reshape(shape)
        return self._messages
