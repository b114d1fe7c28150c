"""`gigawatch migrate`: ClickHouse tables."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline import settings
from pipeline.commands import options
from pipeline.commands.runtime import CommandError
from pipeline.store import users
from pipeline.store.access import opened
from pipeline.store.migrate import migrate as apply
from pipeline.store.model_views import MODEL_VIEWS
from pipeline.store.tables import TABLES
from pipeline.store.views import raw_view, statements
from schemas.catalogue import KINDS


@click.command()
@options.clickhouse
@options.data_dir
@click.option("--cluster", default="", help="Create Replicated and Distributed tables on this cluster.")
@click.option(
    "--users",
    "with_users",
    is_flag=True,
    help="Also create the users gigawatch_writer, gigawatch_reader and gigawatch_grafana, with the "
    "passwords in GIGAWATCH_USERS_WRITER_PASSWORD, ..._READER_..., ..._GRAFANA_... (or files: ..._FILE).",
)
@click.option("--print", "show", is_flag=True, help="Print the statements that create everything, and run none.")
def migrate(clickhouse: str | None, data_dir: Path, cluster: str, with_users: bool, show: bool) -> None:
    """Creates missing tables and adds missing columns; never drops or changes any. An older store is brought along."""
    if show:
        made = [statement for table in TABLES.values() for statement in statements(table, cluster)]
        made += [raw_view(kind, cluster) for kind in KINDS] + [view(cluster) for _, view in MODEL_VIEWS.values()]
        for statement in made:
            click.echo(statement + ";\n")
        return
    with opened(clickhouse, data_dir, readonly=False) as client:
        done = apply(client, cluster)
        if with_users:
            done += users.make(client, _passwords(), cluster)
    click.echo("\n".join(done) if done else "nothing to do: the tables are up to date")


def _passwords() -> dict[str, str]:
    """By user; at least one must be set."""
    found = {
        user.name: settings.value("users", f"{user.name.removeprefix('gigawatch_')}_password") for user in users.USERS
    }
    if not any(found.values()):
        raise CommandError(
            "--users creates the users whose password is set: GIGAWATCH_USERS_WRITER_PASSWORD, "
            "GIGAWATCH_USERS_READER_PASSWORD, "
            "GIGAWATCH_USERS_GRAFANA_PASSWORD, or the name of a file in each with _FILE"
        )
    return found
