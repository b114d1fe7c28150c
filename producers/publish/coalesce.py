"""Coalescing: small frames, as agents send them, into ticks with one message a rack, without a look at single rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from producers.emission import DeviceList, SiteTick
from schemas.frame import Frame, concat
from schemas.identity import IDENTITY
from schemas.layout import Layout
from schemas.stack import Stack

_UNUSED_FLUSHES = 3  # a device list that this many flushes of its kind did not use is dropped


@dataclass(slots=True)
class _Plan:
    """How frames of these `senders`, in their sorted order, become ticks: each device list with its frames."""

    kind: str
    senders: list[object]
    parts: list[tuple[DeviceList, list[int]]]
    unused: int = 0


class Coalescer:
    """Collects frames and remembers which devices came together: the next tick of the same devices costs a stack of
    bytes, whatever their number and the order in which they arrive.
    """

    def __init__(self) -> None:
        self._frames: list[Frame] = []
        self._plans: list[_Plan] = []

    def __len__(self) -> int:
        """Frames collected."""
        return len(self._frames)

    def add(self, frame: Frame) -> None:
        self._frames.append(frame)

    def flush(self, *, keep_newest: bool = False) -> list[SiteTick]:
        """Returns what was collected, one message a rack. With `keep_newest` the latest tick stays unless it is the
        only one, since some of its frames may still come.
        """
        frames, self._frames = self._frames, []
        if keep_newest and frames:
            newest = max(f.span()[1] for f in frames)
            if older := [f for f in frames if f.span()[1] < newest]:
                self._frames = [f for f in frames if f.span()[1] == newest]
                frames = older
        groups: dict[tuple[Layout | str, int], list[Frame]] = {}
        for frame in frames:
            groups.setdefault(_group(frame), []).append(frame)
        for plan in self._plans:
            plan.unused += any(f.kind == plan.kind for f in frames)
        ticks = [tick for group in groups.values() for tick in self._ticks(sorted(group, key=_order))]
        self._plans = [plan for plan in self._plans if plan.unused < _UNUSED_FLUSHES]
        return ticks

    def _ticks(self, frames: Sequence[Frame]) -> list[SiteTick]:
        senders = [_sender(f) for f in frames]
        plan = next((p for p in self._plans if p.senders == senders), None)
        if plan is None:
            plan = _Plan(frames[0].kind, senders, _parts(frames))
            self._plans.append(plan)
        plan.unused = 0
        return [_tick(devices, [frames[i] for i in order]) for devices, order in plan.parts]


def _group(frame: Frame) -> tuple[Layout | str, int]:
    """Frames of one layout and time stamp go together, since their bytes make one block; others by kind."""
    if frame.layout is not None:
        first, last = frame.span()
        if first == last:
            return frame.layout, first
    return frame.kind, 0


def _order(frame: Frame) -> tuple[bytes, bytes, str]:
    if frame.layout is not None:
        return frame.block, b"", ""
    return b"", frame.key(), frame.batch.column("device")[0].as_py()


def _sender(frame: Frame) -> object:
    """Returns what must be equal for a frame to take the same place in a plan: identity columns and metrics."""
    if frame.layout is not None:
        return frame.layout, frame.block
    return frame.batch.schema, [frame.batch.column(1 + k) for k in range(len(IDENTITY))]


def _parts(frames: Sequence[Frame]) -> list[tuple[DeviceList, list[int]]]:
    """Returns (devices, numbers of their frames by rack): racks that carry the same metrics share a device list."""
    racks: dict[bytes, list[int]] = {}
    for number, frame in enumerate(frames):
        racks.setdefault(frame.key(), []).append(number)
    by_metrics: dict[tuple[str, ...], list[list[int]]] = {}
    for _, numbers in sorted(racks.items()):
        carried = {name for i in numbers for name in frames[i].batch.schema.names}
        metrics = tuple(m.name for m in frames[0].catalogue.stored if m.name in carried)
        by_metrics.setdefault(metrics, []).append(numbers)
    out = []
    for metrics, cut in by_metrics.items():
        order = [i for numbers in cut for i in numbers]
        identity = {name: pa.concat_arrays([frames[i].batch.column(name) for i in order]) for name in IDENTITY}
        sizes = [sum(frames[i].rows for i in numbers) for numbers in cut]
        out.append((DeviceList(frames[0].kind, identity, np.concatenate([[0], np.cumsum(sizes)]), metrics), order))
    return out


def _tick(devices: DeviceList, frames: Sequence[Frame]) -> SiteTick:
    if frames[0].layout is not None and all(f.layout is frames[0].layout for f in frames):
        stack = Stack(frames)
        values, stamps = {name: stack.column(name) for name in devices.metrics}, stack.ts_ms()
    else:
        whole = concat(frames)
        values, stamps = {name: whole.values(name) for name in devices.metrics}, whole.ts_ms()
    first, last = int(stamps.min()), int(stamps.max())
    return SiteTick(devices, first if first == last else stamps, values)
