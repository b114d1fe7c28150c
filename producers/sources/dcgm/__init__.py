"""dcgm-exporter: GPUs over Prometheus text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from producers.sources import options
from producers.sources.options import BuildContext, option
from producers.sources.registry import source

if TYPE_CHECKING:
    from producers.sources.source import Source


@source("dcgm", help="dcgm-exporters: give each with --endpoint [RACK/NODE=]URL")
@dataclass(frozen=True, slots=True)
class DcgmSettings:
    """Which exporters, how often, and as which site."""

    endpoints: tuple[str, ...] = option(
        "--endpoint", (), "dcgm: an exporter's /metrics. May be repeated.", metavar="[RACK/NODE=]URL"
    )
    tick_s: float = options.tick()
    site: str = options.site()
    ticks: int | None = options.ticks()

    def build(self, _: BuildContext) -> Source:
        from producers.sources.dcgm.endpoint import Endpoint
        from producers.sources.dcgm.source import Dcgm

        endpoints = [Endpoint.parse(spec) for spec in self.endpoints]
        return Dcgm(endpoints, self.tick_s, self.site or options.DEFAULT_SITE, ticks=self.ticks)
