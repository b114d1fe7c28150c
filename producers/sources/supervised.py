"""A source that is started again when it dies: its emissions, its state and its errors. Sleep and clock are given."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Literal, Protocol, runtime_checkable

from producers.sources.source import Emission, Source, SourceError

log = logging.getLogger("gigawatch.source")

FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 60.0
#: A source that has run for so long is well: its next death is its first again.
WELL_AFTER_S = 60.0


@runtime_checkable
class HasErrors(Protocol):
    """A source of several endpoints. `errors` has a sentence for each that gave nothing when it was last read."""

    @property
    def errors(self) -> Mapping[str, str]: ...


class SupervisedSource:
    """Runs `source` under `name`, and runs it again after it has died of anything but SourceError: 1 s later at first,
    then after twice the time, 60 s at most. A source that ends is not started again.
    """

    def __init__(
        self,
        name: str,
        source: Source,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name, self._source, self._sleep, self._clock = name, source, sleep, clock
        self._state: Literal["running", "restarting", "ended"] = "running"
        self._error = ""
        self.restarts = 0

    @property
    def describe(self) -> str:
        return self._source.describe

    async def emissions(self) -> AsyncGenerator[Emission]:
        """Everything that the source emits, over all its runs. Raises SourceError when its options cannot be met."""
        wait_s = FIRST_WAIT_S
        try:
            while True:
                began = self._clock()
                run = self._source.emissions()
                try:
                    async for emission in run:
                        self._state, self._error = "running", ""
                        yield emission
                    return
                except SourceError as err:
                    self._error = str(err)
                    raise
                except Exception as err:  # noqa: BLE001 - what a source dies of is not known, and must not end the rest
                    if self._clock() - began >= WELL_AFTER_S:
                        wait_s = FIRST_WAIT_S
                    self._died(err, wait_s)
                finally:
                    await run.aclose()
                await self._sleep(wait_s)
                wait_s = min(2 * wait_s, LONGEST_WAIT_S)
                self.restarts += 1
        finally:
            self._state = "ended"

    def status(self) -> dict[str, object]:
        """For the producer's status: `source_state`, `source_restarts`, and `source_errors` by endpoint or source."""
        errors = dict(self._source.errors) if isinstance(self._source, HasErrors) else {}
        if self._error:
            errors[self._name] = self._error
        return {"source_state": self._state, "source_restarts": self.restarts, "source_errors": errors}

    def _died(self, err: Exception, wait_s: float) -> None:
        cause: BaseException = err
        while isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[0]
        why = " ".join(f"{type(cause).__name__}: {cause}".split())[:300]
        self._state, self._error = "restarting", f"died of {why}"
        log.error("source %s died of %s; it starts again in %g s", self._name, why, wait_s, exc_info=err)
