"""Merging: small frames of one tick (a node's, as agents send them) into one message a rack, without looking at single
rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa

from producers.publish.encoder import DeviceList, SiteTick
from schemas.frame import Frame, concat
from schemas.identity import IDENTITY
from schemas.layout import Layout
from schemas.stack import Stack

_MOST_ROSTERS = 256


class Coalescer:
    """Remembers who sent together: the next tick of the same devices costs a stack and a pack, whatever their
    number.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[Layout, int], tuple[list[bytes], DeviceList, list[int]]] = {}

    def merge(self, frames: Iterable[Frame]) -> tuple[list[SiteTick], list[Frame]]:
        """(sheets of frames that came in a plain layout, a tick each; the rest merged by kind and place)."""
        plain: dict[tuple[Layout, int], list[Frame]] = {}
        rest: dict[tuple[str, bytes], list[Frame]] = {}
        for frame in frames:
            if frame.layout is not None:
                first, last = frame.span()
                if first == last:
                    plain.setdefault((frame.layout, first), []).append(frame)
                    continue
            rest.setdefault((frame.kind, frame.key()), []).append(frame)
        return [self._sheet(layout, ts, found) for (layout, ts), found in plain.items()], [
            concat(f) for f in rest.values()
        ]

    def _sheet(self, layout: Layout, ts_ms: int, frames: Sequence[Frame]) -> SiteTick:
        blocks = [f.block for f in frames]
        known = self._known.get((layout, len(frames)))
        if known is None or known[0] != blocks:
            if len(self._known) >= _MOST_ROSTERS:
                self._known.clear()
            known = self._known[layout, len(frames)] = blocks, *_roster(layout, frames)
        _, roster, order = known
        stack = Stack([frames[i] for i in order])
        return SiteTick(roster, ts_ms, {name: stack.column(name) for name in roster.names})


def _roster(layout: Layout, frames: Sequence[Frame]) -> tuple[DeviceList, list[int]]:
    """(who speaks, one message a rack; the frames' order by rack)."""
    keys = [f.key() for f in frames]
    order = sorted(range(len(frames)), key=lambda i: keys[i])
    sorted_keys = np.array([keys[i] for i in order])
    starts = np.concatenate([[0], np.flatnonzero(sorted_keys[1:] != sorted_keys[:-1]) + 1, [len(order)]])
    identity = {
        name: pa.concat_arrays([frames[i].batch.column(1 + k) for i in order]) for k, name in enumerate(IDENTITY)
    }
    return DeviceList(layout.kind, identity, starts * layout.rows, tuple(layout.metrics)), order
