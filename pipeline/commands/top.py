"""`gigawatch top`: the factory in a terminal, live."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import click
from rich.console import Console

from pipeline.commands import options
from pipeline.commands.output import OutputFile, written
from pipeline.instance import run_dir, running
from pipeline.monitoring import status
from pipeline.store.access import opened
from pipeline.terminal import overview
from pipeline.terminal.escape import without_fonts


@click.command()
@options.clickhouse
@options.data_dir
@click.option("--once", is_flag=True, help="Print it once and stop.")
@click.option(
    "--svg",
    metavar="FILE.svg",
    type=OutputFile(".svg"),
    help="With --once: draw it here as a picture, in place of printing it.",
)
@click.option(
    "--every", type=click.FloatRange(min=0.2), default=2.0, show_default=True, help="Seconds between refreshes."
)
def top(clickhouse: str | None, data_dir: Path, once: bool, svg: Path | None, every: float) -> None:
    """Shows the factory in this terminal: racks as a heat map, their GPUs, incidents; press ? for the keys.

    Without a terminal, or with --once, it is printed once.
    """

    factory = running(data_dir)
    with opened(clickhouse, data_dir) as client:
        if once or not sys.stdout.isatty():
            console = Console(width=None if sys.stdout.isatty() else 130)
            if svg:
                console = Console(record=True, width=140, file=io.StringIO())
            snapshot = overview.overview_of(client)
            statuses = status.read_all(run_dir(data_dir)) if factory else {}
            console.print(overview.draw(snapshot, statuses, console.width))
            if svg:
                with written(svg):
                    svg.write_text(without_fonts(console.export_svg(title="gigawatch top")))
                click.echo(f"-> {svg}")
            return
        from pipeline.terminal.top.app import Top
        from pipeline.terminal.top.queries import Store

        Top(Store(client), every).run()
