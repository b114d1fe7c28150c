"""`gigawatch query`: SQL, or a named question."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.commands import options
from pipeline.commands.runtime import CommandError
from pipeline.store.access import opened
from pipeline.store.client import ClickHouseError, reason
from pipeline.store.named_queries import QUESTIONS
from pipeline.terminal.tables import show
from schemas.tables import DATABASE

_HELP = "Questions:\n\n\b\n" + "\n".join(f"  {q.name:14s}{q.help}" for q in QUESTIONS.values())


@click.command(epilog=_HELP)
@click.argument("question", metavar="SQL|QUESTION")
@options.clickhouse
@options.data_dir
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Rows of a named question.")
@click.option(
    "--format", "fmt", help="Any ClickHouse output format, such as JSONEachRow or CSVWithNames, instead of a table."
)
@click.option("--show", "show_sql", is_flag=True, help="Print the SQL of a named question and stop.")
def query(question: str, clickhouse: str | None, data_dir: Path, limit: int, fmt: str | None, show_sql: bool) -> None:
    """Answers SQL or a named QUESTION, read-only, from --clickhouse, or from the factory on --data-dir, running or
    stopped.
    """
    named = QUESTIONS.get(question)
    if named is None and " " not in question.strip():
        raise CommandError(
            f"no question {question!r}; there are {', '.join(QUESTIONS)}. Or give SQL, such as 'SELECT count() "
            "FROM gpu'"
        )
    sql = named.sql.replace("{limit}", str(limit)) if named else question
    if show_sql:
        click.echo(sql)
        return
    try:
        with opened(clickhouse, data_dir) as client:
            client.database = DATABASE
            if fmt:
                click.echo(client.raw_query(sql, fmt=fmt), nl=False)
                return
            result = client.query(sql)
    except ClickHouseError as err:
        raise CommandError(reason(err)) from err
    show(result.column_names, result.result_rows, named.help if named else "")
    if named and not result.result_rows:
        click.echo(f"no rows: {named.nothing}", err=True)
