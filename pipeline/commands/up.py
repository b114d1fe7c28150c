"""`gigawatch up`: a whole factory on this machine."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import click

from pipeline.commands import options, runtime
from pipeline.commands.sources import producer_argv, source_options
from pipeline.commands.watch import PORT as WATCH_PORT
from pipeline.embedded.run_summary import summary
from pipeline.embedded.services import Plan
from pipeline.embedded.supervisor import Supervisor
from pipeline.monitoring import http
from pipeline.monitoring.health import STALL_S
from pipeline.store import client as store_client
from pipeline.terminal.overview import live
from producers.sources import registry
from schemas.topics import PARTITIONS


@click.command()
@click.option("--source", default=registry.DEFAULT, show_default=True, help=f"{registry.forms()}, or none.")
@source_options
@click.option(
    "--broker",
    default="embedded",
    show_default=True,
    help="embedded (Tansu, in memory), apache (Apache Kafka, on disk), or HOST:PORT.",
)
@click.option(
    "--broker-memory",
    type=click.IntRange(min=64),
    default=2048,
    show_default=True,
    metavar="MB",
    help="Bound of the embedded broker's memory: when reached, producers pause, all is drained, and a fresh broker "
    "takes over.",
)
@click.option(
    "--clickhouse",
    default="embedded",
    show_default=True,
    callback=options.no_secret,
    help="embedded (chDB), or http://[USER@]HOST:PORT.",
)
@options.data_dir
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="faust workers.")
@click.option("--seconds", type=click.FloatRange(min=1), help="Run so long, drain, stop.")
@click.option(
    "--watch-port",
    type=click.IntRange(1, 65535),
    default=WATCH_PORT,
    show_default=True,
    help="Of the watch page, on loopback.",
)
@click.option("--no-watch", is_flag=True, help="No watch page.")
@options.metrics
@click.option("--stall-after", "stall_s", type=click.FloatRange(min=3), default=STALL_S, hidden=True)
@click.option(
    "--summary",
    "summary_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a JSON summary here at the end.",
)
@click.option("--quiet", is_flag=True, help="No live view.")
def up(
    source: str,
    broker: str,
    broker_memory: int,
    clickhouse: str,
    data_dir: Path,
    workers: int,
    seconds: float | None,
    watch_port: int,
    no_watch: bool,
    metrics: str,
    stall_s: float,
    summary_file: Path | None,
    quiet: bool,
    **opts: Any,
) -> None:
    """Brings up broker, ClickHouse, a source, stream worker and sink on this machine, shows them, and stops them
    cleanly on Ctrl-C.

    \b
    gigawatch up                                   four NVL72 racks, live
    gigawatch up --racks 64 --fault gpu-thermal    more, and something to find
    gigawatch up --source replay:trace.csv         a recording instead of a simulation
    """
    plan = Plan(
        data_dir,
        _producer(source, opts, data_dir),
        broker,
        clickhouse,
        workers,
        opts["tick_s"],
        partitions=workers * -(-PARTITIONS // workers),
        broker_memory_mb=broker_memory,
        stall_s=stall_s,
        watch_port=None if no_watch else watch_port,
    )  # each worker gets as many as any other
    began = time.monotonic()

    def say(text: str) -> None:
        click.echo(f"[{time.monotonic() - began:6.1f} s] {text}", err=True)

    async def work(stop: asyncio.Event, abort: asyncio.Event) -> int:
        async with Supervisor(plan, say) as factory:
            say(
                f"up: Kafka {factory.bootstrap}, ClickHouse {factory.clickhouse}, data in {data_dir}. "
                + (f"Runs {seconds:g} s" if seconds else "Ctrl-C stops it")
            )
            if factory.watch:
                say(f"dashboards: {factory.watch} in your browser")
            runner = await http.serve(metrics, factory.statuses) if metrics else None
            await _watch(factory, stop, seconds, quiet, data_dir)
            if runner is not None:
                await runner.cleanup()
            finishing = asyncio.create_task(factory.finish())
            waiting = asyncio.create_task(abort.wait())
            await asyncio.wait([finishing, waiting], return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            if not finishing.done():
                finishing.cancel()
                say("stopped at once: what was not stored yet is lost with the embedded broker")
                return 130
            drained = finishing.result()
            client = store_client.connect(factory.clickhouse)
            result = summary(
                client,
                factory.statuses(),
                factory.cpu_s(),
                tick_s=plan.tick_s,
                wall_s=time.monotonic() - began,
                drained=drained,
                recycles=factory.watchdog.recycles,
                source=source,
            )
            client.close()
            result["restarts"] = {n: p.restarts for n, p in factory.processes.items() if p.restarts}
        _report(result, summary_file)
        say("stopped")
        return 0 if drained else 1

    code = runtime.until_signal(work)
    sys.exit(code)


def _producer(source: str, opts: dict[str, Any], data_dir: Path) -> tuple[str, ...]:
    """Returns the arguments of `gigawatch produce` for the same source; none for the source `none`."""
    return () if source == "none" else (*producer_argv(source, opts), "--spool", str(data_dir / "spool"))


async def _watch(factory: Supervisor, stop: asyncio.Event, seconds: float | None, quiet: bool, data_dir: Path) -> None:
    """Keeps the factory alive, shows it, and returns on `stop`, when the time is up, or when the source has ended."""
    watching = asyncio.create_task(factory.watchdog.run())
    showing = asyncio.create_task(
        live(factory.clickhouse, factory.statuses, plain=quiet or not sys.stdout.isatty(), silent=quiet)
    )
    stopped = asyncio.create_task(stop.wait())

    async def source_ended() -> None:
        # the loop gets no event when a process ends
        while "producer" not in factory.processes or factory.processes["producer"].code != 0:  # noqa: ASYNC110
            await asyncio.sleep(0.2)

    ended = asyncio.create_task(source_ended())
    try:
        done, _ = await asyncio.wait([watching, stopped, ended], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if watching in done:
            watching.result()
    finally:
        for task in (watching, showing, stopped, ended):
            task.cancel()
        await asyncio.gather(watching, showing, stopped, ended, return_exceptions=True)


def _report(result: dict[str, Any], path: Path | None) -> None:
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result, indent=2) + "\n")
    if result["refused_rows"]:
        click.echo(f"{result['refused_rows']} rows were dropped in messages larger than Kafka takes", err=True)
    click.echo(
        f"{result['rows_produced']} rows produced, {result['rows_stored']} stored, {result['rows_missing']} missing, "
        f"{result['rows_duplicate']} twice, {result['dead_letters']} dead letters; fresh within "
        f"{result['freshness_p99_s']} s (p99); "
        f"real-time factor {result['real_time_factor']}",
        err=True,
    )
