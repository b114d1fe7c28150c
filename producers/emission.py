"""What a source may emit: the contract between sources and the publisher."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa

from schemas.arrays import Floats, Ints
from schemas.derived_stream import Derived
from schemas.frame import Frame, build


@dataclass(frozen=True, slots=True)
class Event:
    """Rows of a derived stream that the source itself knows, such as the labels of injected faults."""

    derived: Derived
    batch: pa.RecordBatch


@dataclass(frozen=True, slots=True)
class SourceFailure:
    """A read of `endpoint` that gave nothing at this tick. `site` and `rack` are empty where the source does not know
    which rack the endpoint serves.
    """

    endpoint: str
    reason: str
    ts_ms: int
    site: str = ""
    rack: str = ""


@dataclass(frozen=True, eq=False)
class DeviceList:
    """Devices that a source samples together: identity columns of all rows, and how rows are cut into messages.

    `cuts` int[messages + 1]: row numbers at which messages begin, and the end. `metrics`: the names of the columns.
    A source keeps one object for as long as its devices stay the same: what is encoded once lives as long as it does.
    """

    kind: str
    identity: Mapping[str, pa.Array]
    cuts: Ints
    metrics: tuple[str, ...]

    @property
    def rows(self) -> int:
        return int(self.cuts[-1])


@dataclass(frozen=True, slots=True)
class SiteTick:
    """One sample of every device of a list: float[rows] by metric, NaN for missing; `ts_ms` of all rows or of each."""

    devices: DeviceList
    ts_ms: int | Ints
    values: Mapping[str, Floats]

    @property
    def last_ms(self) -> int:
        """The latest time stamp, ms."""
        return int(np.max(self.ts_ms))

    def frames(self) -> Iterator[Frame]:
        """The same samples as frames, one a message."""
        whole = build(self.devices.kind, self.ts_ms, self.devices.identity, self.values).batch
        for begin, end in pairwise(self.devices.cuts.tolist()):
            yield Frame(self.devices.kind, whole.slice(begin, end - begin))


Emission = Frame | SiteTick | Event | SourceFailure
