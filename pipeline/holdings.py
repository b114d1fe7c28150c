"""What a job holds now, from the allocations as they come, and the rows of a frame that are of it."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from schemas.derived_stream import columns_of
from schemas.frame import Frame
from schemas.jobs import GIVEN

#: A hold: site, rack (empty: any), from and until when, ms; 0 while it lasts.
_Span = tuple[str, str, int, int]


class JobHoldings:
    """One job's holds. A later allocation of the same node and start replaces the one before."""

    def __init__(self, job: str) -> None:
        self._job = job
        self._holds: dict[tuple[str, str, str, int], tuple[_Span, tuple[str, ...]]] = {}
        self._devices: dict[str, list[_Span]] = {}
        self._nodes: dict[str, list[_Span]] = {}
        self._whole: dict[str, list[_Span]] = {}

    def learn(self, allocations: pa.RecordBatch) -> None:
        """Takes rows of the stream `allocation`; those of other jobs do not count."""
        mine = allocations.filter(pc.equal(allocations.column("job"), self._job))
        if not mine.num_rows:
            return
        names = ("site", "scheduler", "rack", "node", "devices", "started", "ended")
        for site, scheduler, rack, node, devices, started, ended in zip(*columns_of(mine, *names), strict=True):
            self._holds[site, scheduler, node, started] = (site, rack, started, ended), tuple(devices)
        self._index()

    def _index(self) -> None:
        self._devices, self._nodes, self._whole = {}, {}, {}
        for (_, _, node, _), (span, devices) in self._holds.items():
            self._nodes.setdefault(node, []).append(span)
            if not devices:
                self._whole.setdefault(node, []).append(span)
            for device in devices:
                self._devices.setdefault(device, []).append(span)

    def rows_of(self, frame: Frame) -> Frame | None:
        """The frame with only the rows that the job holds at their time; None when there is none."""
        if not self._holds:
            return None
        columns = [frame.identity(name) for name in ("site", "rack", "node", "device", "board")]
        held = self._held if frame.kind in GIVEN else self._beside
        mask = [held(*row) for row in zip(*columns, frame.ts_ms().tolist(), strict=True)]
        if not any(mask):
            return None
        return frame if all(mask) else Frame(frame.kind, frame.batch.filter(pa.array(mask)))

    def _held(self, site: str, rack: str, node: str, device: str, board: str, ts_ms: int) -> bool:
        """By its name in its rack, by its board wherever it is, with its node."""
        by_place = (*self._devices.get(device, ()), *self._whole.get(node, ()))
        by_board = (*self._devices.get(board, ()), *self._devices.get(board.partition("/")[0], ())) if board else ()
        return any(_in(span, site, rack, ts_ms) for span in by_place) or any(
            _in(span, site, "", ts_ms) for span in by_board
        )

    def _beside(self, site: str, rack: str, node: str, device: str, board: str, ts_ms: int) -> bool:
        return any(_in(span, site, rack, ts_ms) for span in self._nodes.get(node, ()))


def _in(span: _Span, site: str, rack: str, ts_ms: int) -> bool:
    of_site, of_rack, started, ended = span
    return of_site == site and (not rack or of_rack in ("", rack)) and started <= ts_ms and (not ended or ts_ms < ended)
