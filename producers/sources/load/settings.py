"""The settings of `premade:GPUS`, the load of benchmarks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from producers.sources import options
from producers.sources.options import BuildContext, argument
from producers.sources.registry import source

if TYPE_CHECKING:
    from producers.sources.source import Source


@source("premade", help="pre-made plant ticks, sent over and over, for benchmarks", hidden=True)
@dataclass(frozen=True, slots=True)
class LoadSettings:
    """How many GPUs, a message per what, and at which pace."""

    size: str = argument("GPUS[/PER]")
    tick_s: float = options.tick()
    seed: int = options.seed()
    job_changes: float = options.job_changes()
    speed: float = options.speed()
    back_s: float | None = options.back()
    ticks: int | None = options.ticks()

    def build(self, context: BuildContext) -> Source:
        from producers.sources.load import LoadSource
        from producers.sources.source import SourceError

        gpus, _, per = self.size.partition("/")
        if not gpus.isdecimal():
            raise SourceError(
                f"source premade:{self.size}: it is premade:GPUS or premade:GPUS/PER, such as premade:10000/rack"
            )
        return LoadSource(
            int(gpus),
            per=per or "rack",
            tick_s=self.tick_s,
            ticks=self.ticks,
            seed=self.seed,
            job_changes=self.job_changes,
            speed=self.speed,
            start_ms=context.start_ms(self.back_s, self.tick_s),
        )
