"""`gigawatch produce`: a source into Kafka."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import click

from pipeline.commands import options, runtime
from pipeline.commands.sources import SOURCE_HELP, make_source, source_options
from producers.sources import registry


@click.command(epilog=SOURCE_HELP)
@click.argument("source", default=registry.DEFAULT)
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
    from producers.sources.supervised import SupervisedSource

    runtime.setup_logging()
    runtime.tame_gc()
    bootstrap = options.need_broker(broker, data_dir)
    control = status_file.parent / "inject" if status_file else None
    made = SupervisedSource(source.partition(":")[0], make_source(source, opts, control))

    async def work(stop: asyncio.Event, abort: asyncio.Event) -> int:
        await kafka.ensure_topics(bootstrap)
        status = await Status(
            "producer",
            status_file,
            lambda: {"source": made.describe, **publisher.status(), **made.status()},
            metrics,
        ).begin()
        producer = await connect(kafka.client_options(bootstrap))
        publisher = Publisher(
            producer,
            merge_s=merge_s,
            held=hold.exists if hold else (lambda: False),
            spool=DiskBuffer(spool, spool_mb << 20) if spool else None,
        )
        keeper = asyncio.create_task(status.keep(0.5))
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

    code = runtime.until_signal(work)
    sys.exit(code)
