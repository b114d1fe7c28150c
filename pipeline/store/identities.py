"""Identity columns of frames that repeat: kept once per block of bytes, given out as slices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from schemas.frame import IDENTITY, Frame

_MOST_BYTES = 256 << 20


class Identities:
    """Append-only: a block that was met keeps its rows, so a job that changes never rewrites what came before it."""

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._starts: dict[tuple[int, bytes], int] = {}
        self._rows = self._bytes = 0
        self._whole: list[pa.Array] = [pa.array([], pa.string())] * len(IDENTITY)
        self._new: list[list[pa.Array]] = []

    def places(self, frames: Sequence[Frame]) -> list[int]:
        """A number for each frame's identity: frames in this order come out of `columns` as few slices."""
        if self._bytes > _MOST_BYTES:
            self._clear()
        out = []
        for frame in frames:
            key = frame.rows, frame.block
            start = self._starts.get(key)
            if start is None:
                start = self._starts[key] = self._rows
                self._rows += frame.rows
                self._bytes += 2 * len(frame.block)
                # copied, so that the message's bytes are not kept with it
                every = pa.array(np.arange(frame.rows))
                self._new.append([frame.batch.column(1 + i).take(every) for i in range(len(IDENTITY))])
            out.append(start)
        return out

    def columns(self, starts: Sequence[int], sizes: Sequence[int]) -> dict[str, pa.Array]:
        """The identity columns of frames at these places, in this order."""
        if self._new:
            self._whole = [pa.concat_arrays([whole, *(new[i] for new in self._new)]) for i, whole in enumerate(self._whole)]
            self._new = []
        first, count = np.asarray(starts), np.asarray(sizes)
        breaks = np.flatnonzero(first[1:] != first[:-1] + count[:-1]) + 1
        runs = zip(np.concatenate([[0], breaks]), np.concatenate([breaks, [len(first)]]), strict=True)
        spans = [(int(first[a]), int(count[a:b].sum())) for a, b in runs]
        return {name: pa.concat_arrays([whole.slice(a, n) for a, n in spans]) for name, whole in zip(IDENTITY, self._whole, strict=True)}
