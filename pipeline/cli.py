"""The command line, and the composition root: the only module that brings producers and pipeline together."""

from __future__ import annotations

import asyncio
import importlib
import logging
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline import settings
from pipeline.commands import options
from pipeline.commands.options import CommandError

if TYPE_CHECKING:
    from producers.sources.source import Source

#: Command -> (module:attribute, one line of help). Loaded when called.
_COMMANDS = {
    "up": ("pipeline.commands.up:up", "A whole factory on this machine, live; Ctrl-C stops it cleanly."),
    "produce": ("pipeline.cli:produce", "Telemetry into Kafka: synthetic, replay, dcgm or nvml."),
    "stream": ("pipeline.commands.stream:stream", "The faust worker: windows, scores, incidents."),
    "sink": ("pipeline.commands.sink:sink", "Kafka to ClickHouse, exactly once."),
    "query": ("pipeline.commands.query:query", "SQL, or a named question such as heat-balance."),
    "history": ("pipeline.commands.history:history", "One metric over time: table, CSV, Parquet or plot."),
    "tail": ("pipeline.commands.tail:tail", "Live frames as they come."),
    "top": ("pipeline.commands.top:top", "Site, racks, worst devices and incidents, live in the terminal."),
    "watch": ("pipeline.commands.watch:watch", "The dashboards in a browser, without Grafana."),
    "dashboards": ("pipeline.commands.dashboards:dashboards", "Grafana dashboards: build, check, push."),
    "inject": ("pipeline.cli:inject", "A labelled fault into the running synthetic plant."),
    "dlq": ("pipeline.commands.dlq:dlq", "Messages that were set aside: list, show, replay, drop."),
    "record": ("pipeline.commands.record:record", "Telemetry from Kafka or ClickHouse into Parquet, for replay."),
    "bench": ("pipeline.commands.bench:bench", "The published figures on this machine, peers beside them."),
    "doctor": ("pipeline.commands.doctor:doctor", "What can be reached, what is missing."),
    "catalogue": ("pipeline.cli:catalogue", "The metric or hardware catalogue as a table."),
    "migrate": ("pipeline.commands.migrate:migrate", "ClickHouse tables: create what is missing, add columns."),
    "clickhouse": ("pipeline.commands.clickhouse:clickhouse", "The embedded ClickHouse alone, on loopback."),
}


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        module, _, attribute = _COMMANDS[name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="gigawatch")
@options.trust
def gigawatch() -> None:
    """Gigawatch watches an AI factory: every GPU, every watt and every litre of coolant.

    Begin with `gigawatch up`. In another terminal: `gigawatch top`, `gigawatch query heat-balance`.
    """
    for noisy in ("aiokafka", "clickhouse_connect"):  # what they say without a log is in our errors
        logging.getLogger(noisy).addHandler(logging.NullHandler())


_SOURCE_HELP = """SOURCE is one of

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
    """Makes the source once, so that a mistake in its options is told before anything is started; raises Trouble."""
    from producers.sources.source import SourceError
    from schemas.hardware import HardwareError

    try:
        make_source(source, opts)
    except (SourceError, HardwareError) as err:
        raise CommandError(str(err)) from err


@click.command(epilog=_SOURCE_HELP)
@click.argument("source", default="synthetic")
@source_options
@options.broker
@options.data_dir
@options.status_file
@options.metrics
@click.option("--hold", type=click.Path(path_type=Path), hidden=True, help="While this file exists, nothing is sent.")
@click.option(
    "--spool",
    type=click.Path(path_type=Path, file_okay=False),
    help="While Kafka takes nothing, keep messages in this folder.",
)
@click.option(
    "--spool-mb",
    type=click.IntRange(min=1),
    default=2048,
    show_default=True,
    help="Its bound; past it the oldest are dropped, and counted.",
)
@click.option(
    "--merge",
    "merge_s",
    type=click.FloatRange(min=0),
    default=0.0,
    help="Collect small frames of a rack for so many seconds and send them as one.",
)
def produce(
    source: str,
    broker: str | None,
    data_dir: Path,
    status_file: Path | None,
    metrics: str,
    hold: Path | None,
    spool: Path | None,
    spool_mb: int,
    merge_s: float,
    **opts: Any,
) -> None:
    """Reads SOURCE and publishes its frames to Kafka until it ends or is stopped; then drains."""
    from pipeline import kafka
    from pipeline.monitoring.status import Status
    from producers.publish.disk_buffer import DiskBuffer
    from producers.publish.publisher import Publisher, connect
    from producers.sources.source import SourceError
    from schemas.hardware import HardwareError

    options.setup_logging()
    options.tame_gc()
    bootstrap = options.need_broker(broker, data_dir)
    control = status_file.parent / "inject" if status_file else None
    try:
        made = make_source(source, opts, control)
    except (SourceError, HardwareError) as err:
        raise CommandError(str(err)) from err

    async def work(stop: asyncio.Event, abort: asyncio.Event) -> int:
        await kafka.ensure_topics(bootstrap)
        said = await Status(
            "producer", status_file, lambda: {"source": made.describe, **publisher.status()}, metrics
        ).begin()
        producer = await connect(kafka.client_options(bootstrap))
        publisher = Publisher(
            producer,
            merge_s=merge_s,
            paused=hold.exists if hold else (lambda: False),
            spool=DiskBuffer(spool, spool_mb << 20) if spool else None,
        )
        keeper = asyncio.create_task(said.keep(0.5))
        running = asyncio.create_task(publisher.run(made.emissions()))
        waits = [asyncio.create_task(stop.wait()), asyncio.create_task(abort.wait())]
        if not status_file:
            click.echo(f"{made.describe} -> {bootstrap}; Ctrl-C stops it", err=True)
        try:
            await asyncio.wait([running, waits[0]], return_when=asyncio.FIRST_COMPLETED)
            if not running.done():
                publisher.finish()
                await asyncio.wait([running, waits[1]], return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                running.result()
        finally:
            for task in (running, *waits, keeper):
                task.cancel()
            await asyncio.gather(running, keeper, *waits, return_exceptions=True)
            await producer.stop()
        rows = sum(publisher.published.rows.values())
        click.echo(f"{sum(publisher.published.frames.values())} messages, {rows} rows published", err=True)
        return 0

    try:
        code = options.until_signal(work)
    except (SourceError, kafka.BrokerError, settings.SecurityError) as err:
        raise CommandError(str(err)) from err
    sys.exit(code)


@click.command()
@click.argument("fault", metavar="NAME[@PLACE][+LASTS][*SEVERITY]")
@options.data_dir
def inject(fault: str, data_dir: Path) -> None:
    """Injects a labelled FAULT now into the synthetic plant of the factory on --data-dir.

    Names: gpu-thermal, gpu-throttle, gpu-straggler, gpu-dead, gpu-frozen (place: a GPU such as R0001-N01-GPU0);
    coolant-flow, leak, lying-sensor, psu-loss (a rack such as R0001); cdu-pump (a CDU such as CDU-001).
    """
    from pipeline.instance import run_dir
    from producers.sources.source import SourceError
    from producers.sources.synthetic import faults

    options.need_factory(data_dir, "its --data-dir")
    try:
        faults.parse(fault)
    except SourceError as err:
        raise CommandError(str(err)) from err
    with (run_dir(data_dir) / "inject").open("a") as file:
        file.write(fault + "\n")
    click.echo(f"injected {fault}; see `gigawatch top`")


@click.command()
@click.argument(
    "which", type=click.Choice(["metrics", "gpu", "node", "power", "cooling", "hardware"]), default="metrics"
)
@click.option("--markdown", is_flag=True, help="The page docs/catalogue.md.")
def catalogue(which: str, markdown: bool) -> None:
    """Prints the metric catalogue (or that of one kind), or the hardware catalogue with grades and sources."""
    from schemas import catalogue as metrics
    from schemas import hardware

    if markdown:
        click.echo(metrics.markdown(), nl=False)
        return
    from pipeline.terminal.tables import show

    if which == "hardware":
        try:
            show(hardware.HEADERS, hardware.rows(hardware.load()))
        except hardware.HardwareError as err:
            raise CommandError(str(err)) from err
    else:
        show(metrics.HEADERS, metrics.rows(None if which == "metrics" else which))


def main() -> None:
    gigawatch()
