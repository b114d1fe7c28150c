"""`gigawatch top`: the factory in a terminal, live."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from pipeline import status, view
from pipeline.commands import options
from pipeline.commands.options import Trouble
from pipeline.embedded.factory import run_dir, running
from pipeline.store.access import opened
from pipeline.store.client import StoreError


@click.command()
@options.clickhouse
@options.data_dir
@click.option("--once", is_flag=True, help="Show it once and stop.")
@click.option("--every", type=click.FloatRange(min=0.2), default=2.0, show_default=True, help="Seconds between looks.")
def top(clickhouse: str | None, data_dir: Path, once: bool, every: float) -> None:
    """Site, racks, worst devices and open incidents, live; Ctrl-C ends it."""

    def statuses() -> dict[str, dict[str, Any]]:
        return {p.stem: status.read(p) for p in run_dir(data_dir).glob("*.json")}

    factory = running(data_dir)
    if once or (factory is None and not clickhouse):
        try:
            with opened(clickhouse, data_dir) as client:
                picture = view.take(client, 16)
        except StoreError as err:
            raise Trouble(str(err)) from err
        Console(width=None if sys.stdout.isatty() else 130).print(view.draw(picture, statuses() if factory else {}))
        return
    url = clickhouse or (factory.clickhouse if factory else "")

    async def work(stop: asyncio.Event, abort: asyncio.Event) -> int:
        showing, stopping = asyncio.create_task(view.live(url, statuses, every_s=every)), asyncio.create_task(stop.wait())
        await asyncio.wait([showing, stopping], return_when=asyncio.FIRST_COMPLETED)
        for task in (showing, stopping):
            task.cancel()
        await asyncio.gather(showing, stopping, return_exceptions=True)
        return 0

    sys.exit(options.until_signal(work))
