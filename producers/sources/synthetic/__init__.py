"""A synthetic AI factory: workloads drive GPUs, GPUs make power and heat, coolant carries the heat away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from producers.sources import options
from producers.sources.options import BuildContext, option
from producers.sources.registry import source

if TYPE_CHECKING:
    from producers.sources.source import Source


@source("synthetic", help="a coupled plant: see --racks, --gpu, --fault")
@dataclass(frozen=True, slots=True)
class SyntheticSettings:
    """How large a plant, of which hardware, with which faults, and at which pace."""

    racks: int = option("--racks", 4, "Synthetic: how many racks.", minimum=1)
    model: str = option("--gpu", "GB200", "Synthetic: GPU or rack model, see `gigawatch catalogue hardware`.")
    tick_s: float = options.tick()
    seed: int = options.seed()
    faults: tuple[str, ...] = option(
        "--fault",
        (),
        "Synthetic: a labelled fault, such as gpu-thermal@R0001-N03-GPU2:60+120. May be repeated.",
        metavar="NAME[@PLACE][:AT][+LASTS][*SEVERITY]",
    )
    job_changes: float = options.job_changes()
    site: str = options.site()
    speed: float = options.speed()
    back_s: float | None = options.back()
    ticks: int | None = options.ticks()

    def build(self, context: BuildContext) -> Source:
        from producers.sources.synthetic import faults
        from producers.sources.synthetic.source import Synthetic

        return Synthetic(
            self.racks,
            self.model,
            site=self.site or options.DEFAULT_SITE,
            tick_s=self.tick_s,
            seed=self.seed,
            speed=self.speed,
            start_ms=context.start_ms(self.back_s, self.tick_s),
            faults=[faults.parse(spec) for spec in self.faults],
            ticks=self.ticks,
            control=context.control,
            job_changes=self.job_changes,
        )
