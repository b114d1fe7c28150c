"""What a source is: an async iterator of frames and events, and how ticks are kept."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from producers.publish.encoder import SiteTick
from schemas.derived_stream import Derived
from schemas.errors import GigawatchError
from schemas.frame import Frame


class SourceError(GigawatchError, ValueError):
    """A source cannot be read: says what was wrong, where, and what to do."""


@dataclass(frozen=True, slots=True)
class Event:
    """Rows of a derived stream that a source itself knows, such as the labels of injected faults."""

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


Emission = Frame | SiteTick | Event | SourceFailure


class Source(Protocol):
    """`describe` is a line for people; `emissions` ends when the source does, or runs until it is closed."""

    @property
    def describe(self) -> str: ...

    def emissions(self) -> AsyncGenerator[Emission]: ...


class Ticker:
    """Ticks on multiples of `tick_s`, never skipping one: after a stall it catches up.

    `speed` 0 does not wait at all.
    """

    def __init__(self, tick_s: float, start_ms: int | None = None, speed: float = 1.0) -> None:
        if tick_s <= 0:
            raise SourceError(f"tick is {tick_s} s; it must be above 0")
        self.tick_ms = max(1, round(tick_s * 1000))
        now = int(time.time() * 1000)
        self.next_ms = start_ms if start_ms is not None else -(-now // self.tick_ms) * self.tick_ms
        self._origin_ms = self.next_ms
        self._origin = time.monotonic() + max(0, self.next_ms - now) / 1000 * (start_ms is None)
        self._speed = speed

    async def wait(self) -> int:
        """The next tick's time stamp, ms, once that moment has come."""
        stamp = self.next_ms
        self.next_ms += self.tick_ms
        if self._speed > 0:
            delay = self._origin + (stamp - self._origin_ms) / 1000 / self._speed - time.monotonic()
            await asyncio.sleep(max(0.0, delay))
        else:
            await asyncio.sleep(0)
        return stamp
