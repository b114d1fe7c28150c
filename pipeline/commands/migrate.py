"""`gigawatch migrate`: ClickHouse tables."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.commands import options
from pipeline.commands.options import Trouble
from pipeline.store.access import opened
from pipeline.store.client import StoreError
from pipeline.store.migrate import migrate as apply
from pipeline.store.tables import TABLES


@click.command()
@options.clickhouse
@options.data_dir
@click.option("--cluster", default="", help="Make Replicated and Distributed tables on this cluster.")
@click.option("--print", "show", is_flag=True, help="Only print the statements that create everything.")
def migrate(clickhouse: str | None, data_dir: Path, cluster: str, show: bool) -> None:
    """Creates missing tables and adds missing columns; never drops or changes any."""
    if show:
        for table in TABLES.values():
            for statement in table.ddl(cluster):
                click.echo(statement + ";\n")
        return
    try:
        with opened(clickhouse, data_dir, readonly=False) as client:
            done = apply(client, cluster)
    except StoreError as err:
        raise Trouble(str(err)) from err
    click.echo("\n".join(done) if done else "nothing to do: the tables are up to date")
