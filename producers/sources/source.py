"""What a source is: an async iterator of emissions, and the clock of its ticks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import Protocol

from producers.emission import Emission
from schemas.errors import GigawatchError


class SourceError(GigawatchError, ValueError):
    """A source cannot be read; its text is what was wrong, where, and what to do."""


class Source(Protocol):
    """`describe` is one line for a person; `emissions` ends with the source or runs until it is closed."""

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
        """Returns the next tick's time stamp, ms, once that moment has come."""
        stamp = self.next_ms
        self.next_ms += self.tick_ms
        if self._speed > 0:
            delay = self._origin + (stamp - self._origin_ms) / 1000 / self._speed - time.monotonic()
            await asyncio.sleep(max(0.0, delay))
        else:
            await asyncio.sleep(0)
        return stamp
