"""Encoding of a site's tick into one message a place: what does not change from tick to tick is encoded once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from producers.emission import DeviceList, SiteTick
from schemas.arrays import Floats, Ints
from schemas.catalogue import KINDS
from schemas.codec import Decoder, encode
from schemas.frame import Frame, build
from schemas.identity import IDENTITY
from schemas.layout import Layout
from schemas.validation import Counts, mask_invalid_values


@dataclass(frozen=True, slots=True)
class _Form:
    """Messages of one layout: their numbers, uint8[messages, bytes] encoded with the last tick's values, their rows."""

    layout: Layout
    numbers: Ints
    body: np.ndarray
    rows: Ints | slice


class TickEncoder:
    """Encodes the ticks of one device list, to which it keeps no reference. By message: `keys` (of Kafka), `sizes`
    (rows), `lengths` (bytes), and `first_nodes`, the node of its first row where keys repeat.
    """

    def __init__(self, devices: DeviceList) -> None:
        self._kind, self._metrics = KINDS[devices.kind], devices.metrics
        self._cuts = devices.cuts
        self.sizes = np.diff(devices.cuts)
        self.keys: list[bytes] = []
        self.lengths: list[int] = []
        self.first_nodes: list[str] = []
        self._without_layout: dict[int, Frame] = {}
        nothing = {name: np.zeros(devices.rows, self._kind[name].dtype) for name in devices.metrics}
        decoder, found = Decoder(), dict[Layout, list[tuple[int, bytes]]]()
        for number, frame in enumerate(SiteTick(devices, 0, nothing).frames()):
            data = encode(frame)
            self.keys.append(frame.key())
            self.lengths.append(len(data))
            self.first_nodes.append(frame.identity("node")[0])
            layout = decoder.decode(data).layout
            if layout is None:
                self._without_layout[number] = frame
            else:
                found.setdefault(layout, []).append((number, data))
        if len(set(self.keys)) == len(self.keys):
            self.first_nodes = [""] * len(self.keys)
        self._forms = [self._form(layout, messages) for layout, messages in found.items()]
        self._messages = [memoryview(b"")] * len(self.sizes)
        for form in self._forms:
            for k, number in enumerate(form.numbers.tolist()):
                self._messages[number] = memoryview(form.body[k])

    def _form(self, layout: Layout, messages: Sequence[tuple[int, bytes]]) -> _Form:
        numbers = np.array([n for n, _ in messages])
        rows = (self._cuts[numbers][:, None] + np.arange(layout.rows)).ravel()
        whole = len(rows) == rows[-1] - rows[0] + 1
        body = np.frombuffer(b"".join([data for _, data in messages]), np.uint8)
        body = body.reshape(len(messages), layout.length).copy()
        return _Form(layout, numbers, body, slice(int(rows[0]), int(rows[-1]) + 1) if whole else rows)

    def encode(self, tick: SiteTick, counts: Counts) -> list[bytes]:
        """Returns one message a place, in the device list's order; invalid values become missing and are counted."""
        return [bytes(message) for message in self.encode_in_place(tick, counts)]

    def encode_in_place(self, tick: SiteTick, counts: Counts) -> list[memoryview]:
        """Returns the same messages without a copy: the next tick overwrites them."""
        values = {
            name: mask_invalid_values(self._kind[name], np.asarray(tick.values[name], self._kind[name].dtype), counts)
            for name in self._metrics
        }
        for form in self._forms:
            layout, shape = form.layout, (len(form.numbers), form.layout.rows)
            stamps = tick.ts_ms if isinstance(tick.ts_ms, int) else tick.ts_ms[form.rows].reshape(shape)
            form.body[:, layout.ts : layout.ts + 8 * layout.rows].view(np.int64)[:] = stamps
            for name, (at, dtype) in layout.metrics.items():
                width = np.dtype(dtype).itemsize * layout.rows
                form.body[:, at : at + width].view(dtype)[:] = values[name][form.rows].reshape(shape)
        for number, frame in self._without_layout.items():
            self._messages[number] = memoryview(self._encode_alone(number, frame, tick.ts_ms, values))
        return self._messages

    def _encode_alone(self, number: int, frame: Frame, ts_ms: int | Ints, values: dict[str, Floats]) -> bytes:
        """One message that has no plain layout, such as one without metrics: encoded as a whole at every tick."""
        rows = slice(int(self._cuts[number]), int(self._cuts[number + 1]))
        identity = {name: frame.batch.column(name) for name in IDENTITY}
        stamps = ts_ms if isinstance(ts_ms, int) else ts_ms[rows]
        return encode(build(frame.kind, stamps, identity, {name: values[name][rows] for name in self._metrics}))
