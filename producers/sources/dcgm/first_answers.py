"""The order of first answers: of two endpoints with one name the one that is configured first must be known first."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence


class FirstAnswers:
    """Endpoints by their place in the configuration. `waits[k]`: its names are known only once it has answered."""

    def __init__(self, waits: Sequence[bool]) -> None:
        self._settled = [not w for w in waits]
        self._before = [asyncio.Event() for _ in waits]  # all endpoints before it have settled
        self._next = 0
        self._advance()

    def settle(self, number: int) -> None:
        """Notes that the endpoint has answered and has its names, or has failed."""
        if not self._settled[number]:
            self._settled[number] = True
            self._advance()

    async def turn(self, number: int) -> None:
        """Returns once every endpoint before this one has settled; at once where it has done so itself."""
        if not self._settled[number]:
            await self._before[number].wait()

    def _advance(self) -> None:
        while self._next < len(self._settled):
            self._before[self._next].set()
            if not self._settled[self._next]:
                break
            self._next += 1
