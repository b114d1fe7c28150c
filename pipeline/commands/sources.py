"""The options of the sources, and the source that they describe."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.commands import options

if TYPE_CHECKING:
    from producers.sources.source import Source

SOURCE_HELP = """SOURCE is one of

\b
  synthetic            a coupled plant: see --racks, --gpu, --fault
  replay:PATH          a DSX MQTT trace (.csv), a .parquet file or a folder of them
  dcgm                 dcgm-exporters: give each with --endpoint [RACK/NODE=]URL
  nvml                 this machine's GPUs
"""


def source_options(command: Any) -> Any:
    """The options that describe a source; `up` has them too."""
    for option in reversed(
        [
            click.option(
                "--racks", type=click.IntRange(min=1), default=4, show_default=True, help="Synthetic: how many racks."
            ),
            click.option(
                "--gpu",
                "model",
                default="GB200",
                show_default=True,
                help="Synthetic: GPU or rack model, see `gigawatch catalogue hardware`.",
            ),
            options.tick,
            click.option("--seed", type=int, default=0, show_default=True, help="Synthetic: same seed, same factory."),
            click.option(
                "--fault",
                "faults",
                multiple=True,
                metavar="NAME[@PLACE][:AT][+LASTS][*SEVERITY]",
                help="Synthetic: a labelled fault, such as gpu-thermal@R0001-N03-GPU2:60+120. May be repeated.",
            ),
            click.option("--site", default="", help="The site's name. Default: site-1, or what a recording says."),
            click.option(
                "--endpoint",
                "endpoints",
                multiple=True,
                metavar="[RACK/NODE=]URL",
                help="dcgm: an exporter's /metrics. May be repeated.",
            ),
            click.option(
                "--speed",
                type=click.FloatRange(min=0),
                default=1.0,
                show_default=True,
                help="Replay, synthetic: 2 is twice as fast, 0 as fast as it goes.",
            ),
            click.option("--keep-time", is_flag=True, help="Replay: leave time stamps as recorded."),
            click.option(
                "--back",
                "back_s",
                type=click.FloatRange(min=0),
                hidden=True,
                help="Synthetic, premade: begin so many seconds ago.",
            ),
            click.option("--ticks", type=click.IntRange(min=1), help="End after so many ticks."),
        ]
    ):
        command = option(command)
    return command


def make_source(source: str, opts: dict[str, Any], control: Path | None = None) -> Source:
    """The source that the options describe; SourceError or HardwareError says what is wrong with them."""
    from producers.sources.source import SourceError

    name, _, rest = source.partition(":")
    site, back_s = opts["site"], opts.get("back_s")
    start = round((time.time() - back_s) // opts["tick_s"] * opts["tick_s"] * 1000) if back_s else None
    if name == "synthetic":
        from producers.sources.synthetic import faults
        from producers.sources.synthetic.source import Synthetic

        return Synthetic(
            opts["racks"],
            opts["model"],
            site=site or "site-1",
            tick_s=opts["tick_s"],
            seed=opts["seed"],
            speed=opts["speed"],
            start_ms=start,
            faults=[faults.parse(f) for f in opts["faults"]],
            ticks=opts["ticks"],
            control=control,
        )
    if name == "premade":
        from producers.sources.load import LoadSource

        gpus, _, per = rest.partition("/")
        if not gpus.isdigit():
            raise SourceError(f"source {source!r}: it is premade:GPUS or premade:GPUS/PER, such as premade:10000/rack")
        return LoadSource(
            int(gpus),
            per=per or "rack",
            tick_s=opts["tick_s"],
            ticks=opts["ticks"],
            seed=opts["seed"],
            speed=opts["speed"],
            start_ms=start,
        )
    if name == "replay":
        from producers.sources.replay import open_recording

        return open_recording(rest, opts["tick_s"], opts["speed"], opts["keep_time"], site)
    if name == "dcgm":
        from producers.sources.dcgm import Dcgm, Endpoint

        return Dcgm(
            [Endpoint.parse(e) for e in opts["endpoints"]], opts["tick_s"], site or "site-1", ticks=opts["ticks"]
        )
    if name == "nvml":
        from producers.sources.nvml import Nvml

        return Nvml(opts["tick_s"], site or "site-1", ticks=opts["ticks"])
    raise SourceError(f"no source {source!r}: it is synthetic, replay:PATH, premade:GPUS, dcgm or nvml")


def check_source(source: str, opts: dict[str, Any]) -> None:
    """Makes the source once, so that a mistake in its options is found before anything starts. Raises CommandError."""

    make_source(source, opts)
