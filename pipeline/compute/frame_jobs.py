"""Jobs in frames of wire version 2, which named each device's job: as holds, for what is joined by time now."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from schemas.frame import Frame
from schemas.jobs import ALLOCATION, LABELS, REPEAT_S

_Node = tuple[str, str, str]  # site, rack, node
_Hold = tuple[int, tuple[str, ...]]  # since ms, devices


class FrameJobs:
    """Collects, node by node, which devices each job holds; `rows` gives what changed, and all of it each minute."""

    def __init__(self) -> None:
        self._devices: dict[_Node, dict[str, str]] = {}  # device -> job
        self._holds: dict[_Node, dict[str, _Hold]] = {}  # job -> its hold
        self._changed: list[dict[str, Any]] = []
        self._repeated_ms = self._newest_ms = 0

    def note(self, frame: Frame) -> None:
        """Takes the jobs of a frame's devices at its newest time stamp."""
        assert frame.jobs is not None
        at = self._newest_ms = max(self._newest_ms, frame.span()[1])
        touched = set()
        names = (frame.identity(n) for n in ("site", "rack", "node", "device"))
        for site, rack, node, device, job in zip(*names, frame.jobs.to_pylist(), strict=True):
            place = site, rack, node or rack
            held = self._devices.setdefault(place, {})
            if held.get(device, "") != job:
                held[device] = job
                touched.add(place)
        for place in sorted(touched):
            self._regroup(place, at)

    def rows(self) -> pa.RecordBatch | None:
        """Returns rows of ALLOCATION; None when nothing changed and nothing is due."""
        out, self._changed = self._changed, []
        if self._newest_ms >= self._repeated_ms + REPEAT_S * 1000:
            self._repeated_ms = self._newest_ms
            for place, holds in self._holds.items():
                out += [_row(place, job, hold, 0, self._newest_ms) for job, hold in holds.items()]
        return ALLOCATION.build_rows(out) if out else None

    def _regroup(self, place: _Node, at: int) -> None:
        before, found = self._holds.get(place, {}), dict[str, list[str]]()
        for device, job in sorted(self._devices[place].items()):
            if job:
                found.setdefault(job, []).append(device)
        now: dict[str, _Hold] = {}
        for job, devices in found.items():
            since, held = before.get(job, (at, ()))
            now[job] = (since if held == tuple(devices) else at), tuple(devices)
        for job, hold in before.items():
            if now.get(job) != hold and hold[0] < at:
                self._changed.append(_row(place, job, hold, at, at))
        self._changed += [_row(place, job, hold, 0, at) for job, hold in now.items() if before.get(job) != hold]
        self._holds[place] = now


def _row(place: _Node, job: str, hold: _Hold, ended: int, seen: int) -> dict[str, Any]:
    site, rack, node = place
    return {
        "seen": seen,
        "site": site,
        "scheduler": LABELS,
        "job": job,
        "rack": rack,
        "node": node,
        "devices": [*hold[1]],
        "share": 1.0,
        "first_rank": 0,
        "started": hold[0],
        "ended": ended,
    }
