"""This machine's GPUs through NVML."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING

from producers.sources import options
from producers.sources.options import BuildContext
from producers.sources.registry import source

if TYPE_CHECKING:
    from producers.sources.source import Source


@source("nvml", help="this machine's GPUs")
@dataclass(frozen=True, slots=True)
class NvmlSettings:
    """How often, and as which site."""

    tick_s: float = options.tick()
    site: str = options.site()
    ticks: int | None = options.ticks()

    def build(self, _: BuildContext) -> Source:
        from producers.sources.nvml.source import Nvml

        return Nvml(self.tick_s, self.site or options.DEFAULT_SITE, ticks=self.ticks)

    @staticmethod
    def readiness() -> tuple[bool, str]:
        if importlib.util.find_spec("pynvml") is None:
            return False, "no nvidia-ml-py: pip install 'gigawatch[nvml]' to read this machine's GPUs"
        import pynvml

        try:
            pynvml.nvmlInit()
            count = pynvml.nvmlDeviceGetCount()
        except pynvml.NVMLError as err:
            return False, f"no NVIDIA driver here ({err}): --source nvml will not start"
        return True, f"{count} GPU(s)"
