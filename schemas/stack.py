"""Frames of one layout as one block of bytes: a metric of all of them is a strided view, not a loop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from schemas.arrays import Floats, Ints
from schemas.frame import Frame


class Stack:
    """Frames one after the other, in the order given: either all of one layout, or a single one without."""

    def __init__(self, frames: Sequence[Frame]) -> None:
        self.frames = frames
        self.layout = frames[0].layout

    @cached_property
    def _block(self) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """uint8[frames, bytes]: what follows the identity columns."""
        assert self.layout is not None
        start = self.layout.identity[1]
        body = b"".join([memoryview(f.wire)[start:] for f in self.frames])
        return np.frombuffer(body, np.uint8).reshape(len(self.frames), self.layout.length - start)

    @property
    def rows(self) -> int:
        return sum(f.rows for f in self.frames) if self.layout is None else len(self.frames) * self.layout.rows

    @property
    def names(self) -> list[str]:
        """The metrics that the frames carry."""
        if self.layout is not None:
            return list(self.layout.metrics)
        frame = self.frames[0]
        return frame.batch.schema.names[-frame.metrics :] if frame.metrics else []

    def column(self, name: str) -> Floats:
        """One metric, float[rows] in the metric's own type, a copy or read-only."""
        if self.layout is None:
            return self.frames[0].values(name)
        offset, dtype = self.layout.metrics[name]
        at = offset - self.layout.identity[1]
        width = np.dtype(dtype).itemsize * self.layout.rows
        return self._block[:, at : at + width].view(dtype).reshape(-1)

    def ts_ms(self) -> Ints:
        """int64[rows], ms since 1970."""
        return np.concatenate([f.ts_ms() for f in self.frames]) if len(self.frames) > 1 else self.frames[0].ts_ms()


def stacks(frames: Sequence[Frame]) -> Iterator[tuple[list[int], Stack]]:
    """(which frames, their stack) by layout, in the order in which each layout was first met; frames without one by
    one.
    """
    groups: dict[object, list[int]] = {}
    for index, frame in enumerate(frames):
        groups.setdefault(frame.layout if frame.layout is not None else index, []).append(index)
    for which in groups.values():
        yield which, Stack([frames[i] for i in which])
