"""`gigawatch stream`: one faust worker."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import click

from pipeline import kafka
from pipeline.commands import options, runtime
from pipeline.monitoring.status import Status


@click.command()
@options.broker
@options.data_dir
@options.status_file
@options.metrics
@options.tick
@click.option(
    "--lateness",
    type=click.FloatRange(min=0),
    default=3.0,
    show_default=True,
    help="Seconds of event time to wait for late samples.",
)
@click.option(
    "--snapshot",
    type=click.Path(path_type=Path),
    help="Keep state here across a clean stop. Without it a worker rebuilds from the log.",
)
def stream(
    broker: str | None,
    data_dir: Path,
    status_file: Path | None,
    metrics: str,
    tick_s: float,
    lateness: float,
    snapshot: Path | None,
) -> None:
    """Windows, scores and incidents of the telemetry on Kafka, back to Kafka.

    Start several: partitions are shared among them.
    """
    from pipeline.stream.app import make_app, run

    runtime.setup_logging()
    runtime.tame_gc()
    bootstrap = options.need_broker(broker, data_dir)

    async def work(stop: asyncio.Event, abort: asyncio.Event) -> int:
        await kafka.ensure_topics(bootstrap)
        app = make_app(bootstrap, tick_ms=round(tick_s * 1000), lateness_ms=round(lateness * 1000))
        status = await Status("stream", status_file, app.worker.status, metrics).begin()
        task = asyncio.create_task(run(app, bootstrap, stop, snapshot=snapshot, status=status))
        quit_now = asyncio.create_task(abort.wait())
        await asyncio.wait([task, quit_now], return_when=asyncio.FIRST_COMPLETED)
        quit_now.cancel()
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            return 1
        task.result()
        return 0

    code = runtime.until_signal(work)
    sys.exit(code)
