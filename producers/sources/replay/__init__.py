"""Recordings: DSX MQTT traces, and Parquet of our own frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from producers.sources import options
from producers.sources.options import BuildContext, argument, option
from producers.sources.registry import source

if TYPE_CHECKING:
    from producers.sources.source import Source


@source("replay", help="a DSX MQTT trace (.csv), a .parquet file or a folder of them")
@dataclass(frozen=True, slots=True)
class ReplaySettings:
    """Which recording, how fast, and at which time."""

    path: str = argument("PATH")
    tick_s: float = options.tick()
    site: str = options.site()
    speed: float = options.speed()
    keep_time: bool = option("--keep-time", False, "Replay: leave time stamps as recorded.")

    def build(self, _: BuildContext) -> Source:
        from producers.sources.replay.source import open_recording

        return open_recording(self.path, self.tick_s, self.speed, self.keep_time, self.site)
