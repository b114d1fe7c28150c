"""Groups of devices (a rack's GPUs, a job's) as index matrices, so that statistics by group are sorts along an axis."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from schemas.arrays import Floats, Ints

CHUNK = 4096


@dataclass(frozen=True, slots=True)
class Block:
    """Groups of one size: `groups` int64[g], `rows` int64[g, size]; `where`: the rows flat, a slice if consecutive."""

    groups: Ints
    rows: Ints
    where: Ints | slice


class Groups:
    """`group` int64[devices]: each device's group, numbered from 0; `count` of them.

    Groups keep their devices' order.
    """

    def __init__(self, group: Ints, count: int) -> None:
        self.group, self.count = group, count
        self.sizes = np.bincount(group, minlength=count)
        order = np.argsort(group, kind="stable")
        start = np.concatenate([[0], np.cumsum(self.sizes)[:-1]]).astype(np.int64)
        self._by_size = []
        for size in np.unique(self.sizes[self.sizes > 0]):
            members = np.flatnonzero(self.sizes == size)
            self._by_size.append((members, order[start[members][:, None] + np.arange(size)]))

    def blocks(self, chunk: int = CHUNK) -> Iterator[Block]:
        """Yields all groups, those of one size together, about `chunk` devices at a time."""
        for members, rows in self._by_size:
            step = max(1, chunk // rows.shape[1])
            for at in range(0, len(members), step):
                part = rows[at : at + step]
                yield Block(members[at : at + step], part, as_slice(part.ravel()))

    def median(self, values: Floats) -> tuple[Floats, Ints]:
        """Returns (median per group of float[devices], count of its finite values); NaN for a group without any."""
        centre, count = np.full(self.count, np.nan), np.zeros(self.count, np.int64)
        for members, rows in self._by_size:
            ordered = np.sort(values[rows], axis=1)  # NaN sorts last
            have = np.count_nonzero(~np.isnan(ordered), axis=1)
            low, high = np.maximum(have - 1, 0) // 2, np.minimum(have // 2, ordered.shape[1] - 1)
            at = np.arange(len(members))
            centre[members] = np.where(have > 0, (ordered[at, low].astype(np.float64) + ordered[at, high]) / 2, np.nan)
            count[members] = have
        return centre, count


def as_slice(rows: Ints) -> Ints | slice:
    """Returns consecutive rows as a slice, which numpy reads and writes without gathering; others as they are."""
    first, last = int(rows[0]), int(rows[-1])
    if last - first + 1 == len(rows) and (len(rows) == 1 or bool((np.diff(rows) == 1).all())):
        return slice(first, last + 1)
    return rows
