"""`gigawatch sink`: Kafka to ClickHouse."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

import click

from pipeline import kafka
from pipeline.commands import options, runtime
from pipeline.monitoring.status import Status
from pipeline.sink.batcher import Batcher
from pipeline.sink.circuit_breaker import CircuitBreaker
from pipeline.sink.clients import GROUP, Clients
from pipeline.sink.sink import Sink
from pipeline.sink.writer import Aborted
from pipeline.store.client import connect
from pipeline.store.migrate import migrate
from pipeline.store.rollup import Roller

log = logging.getLogger("gigawatch.sink")


@click.command()
@options.broker
@options.clickhouse
@options.data_dir
@options.status_file
@options.metrics
@click.option(
    "--max-rows",
    type=click.IntRange(min=1),
    default=1_000_000,
    show_default=True,
    help="Close a batch at so many rows,",
)
@click.option(
    "--max-wait",
    type=click.FloatRange(min=0.05),
    default=1.0,
    show_default=True,
    help="or when its first record is so many seconds old,",
)
@click.option("--max-mb", type=click.IntRange(min=1), default=256, show_default=True, help="or at so many megabytes.")
@click.option(
    "--max-age",
    "max_age_days",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    help="Send samples older than so many days to the dead letters.",
)
@click.option(
    "--roll-every",
    type=click.FloatRange(min=1),
    default=60.0,
    show_default=True,
    help="Seconds between rounds of roll-ups (10 s to 1 min to 1 h).",
)
@click.option(
    "--dead-most",
    type=click.IntRange(min=0),
    default=1000,
    show_default=True,
    help="Pause reading when so many messages a minute (and a tenth of all) are refused; 0: never.",
)
@click.option("--cluster", default="", help="ClickHouse cluster: Replicated and Distributed tables.")
def sink(
    broker: str | None,
    clickhouse: str | None,
    data_dir: Path,
    status_file: Path | None,
    metrics: str,
    max_rows: int,
    max_wait: float,
    max_mb: int,
    max_age_days: float,
    roll_every: float,
    dead_most: int,
    cluster: str,
) -> None:
    """Stores everything on Kafka in ClickHouse: inserts, then dead letters, then offsets.

    Stop it with SIGTERM: it drains and commits.
    """
    runtime.setup_logging()
    runtime.tame_gc()
    bootstrap = options.need_broker(broker, data_dir)
    url = clickhouse or options.need_factory(data_dir, "--clickhouse URL").clickhouse

    async def work(stop: asyncio.Event, abort: asyncio.Event) -> int:
        clients = [await asyncio.to_thread(connect, url) for _ in range(3)]
        for line in await asyncio.to_thread(migrate, clients[0], cluster):
            log.info("%s", line)
        await kafka.ensure_topics(bootstrap)
        batcher = Batcher(
            max_rows=max_rows, max_bytes=max_mb << 20, max_wait_s=max_wait, max_age_ms=int(max_age_days * 86_400_000)
        )
        made = Sink(
            Clients(bootstrap, GROUP),
            clients[0],
            clients[1],
            await kafka.log_id(bootstrap),
            batcher=batcher,
            breaker=CircuitBreaker(dead_most),
        )
        roller = Roller(clients[2])

        async def roll() -> None:
            while True:
                await asyncio.sleep(roll_every)
                try:
                    await asyncio.to_thread(roller.roll)
                # the next round makes up for it: buckets stay due until they are made
                except Exception as err:  # noqa: BLE001
                    log.warning("roll-up failed, again in %.0f s: %s", roll_every, str(err).split("\n")[0][:300])

        async def watch() -> None:
            await stop.wait()
            made.stop()
            await abort.wait()
            made.stop(abort=True)

        keeper = await Status(
            "sink", status_file, lambda: {**made.status(), "buckets": roller.buckets}, metrics
        ).begin()
        tasks = [asyncio.create_task(t) for t in (roll(), watch(), keeper.keep(0.5))]
        try:
            await made.run()
            if not abort.is_set():
                await asyncio.to_thread(roller.roll, True)
        except Aborted as err:
            log.warning("stopped without committing: %s", err)
            return 1
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for client in clients:
                client.close()
        return 0

    code = runtime.until_signal(work)
    sys.exit(code)
