"""`gigawatch top`: the factory in a terminal, live."""

from __future__ import annotations

import asyncio
import io
import re
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console, Group

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
@click.option("--svg", type=click.Path(path_type=Path, dir_okay=False), help="With --once: draw it here instead, as a picture.")
@click.option("--every", type=click.FloatRange(min=0.2), default=2.0, show_default=True, help="Seconds between looks.")
def top(clickhouse: str | None, data_dir: Path, once: bool, svg: Path | None, every: float) -> None:
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
        drawn = view.draw(picture, statuses() if factory else {})
        if svg:
            _picture(drawn, svg)
        else:
            Console(width=None if sys.stdout.isatty() else 130).print(drawn)
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


def _picture(drawn: Group, path: Path) -> None:
    console = Console(record=True, width=140, file=io.StringIO())
    console.print(drawn)
    text = console.export_svg(title="gigawatch top")
    path.write_text(re.sub(r"@font-face\s*\{[^}]*\}\s*", "", text).replace("Fira Code", "ui-monospace, Menlo, Consolas"))
    click.echo(f"-> {path}")
