"""`gigawatch query`: SQL, or a named question."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from pipeline.commands import options
from pipeline.commands.runtime import CommandError
from pipeline.store import places
from pipeline.store.access import opened
from pipeline.store.client import ClickHouseError, Client, reason
from pipeline.store.named_queries import QUESTIONS
from pipeline.store.question import NamedQuery
from pipeline.terminal.tables import show
from schemas.tables import DATABASE

_HELP = "Questions:\n\n\b\n" + "\n".join(f"  {q.usage:22s}{q.help}" for q in QUESTIONS.values())


@click.command(epilog=_HELP)
@click.argument("question", metavar="SQL|QUESTION")
@click.argument("about", required=False, default="")
@options.clickhouse
@options.data_dir
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Rows of a named question.")
@click.option(
    "--format", "fmt", help="Any ClickHouse output format, such as JSONEachRow or CSVWithNames, instead of a table."
)
@click.option("--show", "show_sql", is_flag=True, help="Print the SQL of a named question and stop.")
def query(
    question: str, about: str, clickhouse: str | None, data_dir: Path, limit: int, fmt: str | None, show_sql: bool
) -> None:
    """Answers SQL or a named QUESTION, some ABOUT a job or a place, read-only, from --clickhouse, or from the factory
    on --data-dir, running or stopped.

    \b
    gigawatch query silent
    gigawatch query job 4711
    gigawatch query blast-radius PDU-07
    """
    named = _named(question, about)
    tables = (named, *named.more) if named else (NamedQuery("", "", question),)
    statements = [table.sql.replace("{limit}", str(limit)) if named else table.sql for table in tables]
    given: dict[str, Any] = {}
    if show_sql:
        given = _about(places.Names(about, (about,), (about,))) if named and named.argument else {}
        click.echo(";\n".join(_written_out(sql, given) for sql in statements))
        return
    try:
        with opened(clickhouse, data_dir) as client:
            client.database = DATABASE
            if named and named.argument:
                given = _about(places.names_of(client, about))
            for number, (table, sql) in enumerate(zip(tables, statements, strict=True)):
                if _answer(client, table, sql, given, fmt, bool(number)) and not number and named:
                    click.echo(f"no rows: {named.nothing}", err=True)
                    break
    except ClickHouseError as err:
        raise CommandError(reason(err)) from err


def _named(question: str, about: str) -> NamedQuery | None:
    """The named question, None for SQL; refuses what is neither, and an argument too many or too few."""
    named = QUESTIONS.get(question)
    if named is None and " " not in question.strip():
        raise CommandError(
            f"no question {question!r}; there are {', '.join(QUESTIONS)}. Or give SQL, such as 'SELECT count() "
            "FROM gpu'"
        )
    if about and not (named and named.argument):
        takes = ", ".join(q.usage for q in QUESTIONS.values() if q.argument)
        raise CommandError(f"{question!r} is about nothing in particular, not {about!r}; these are: {takes}")
    if named and named.argument and not about and not named.argument.startswith("["):
        raise CommandError(f"which {named.argument}? Such as: gigawatch query {named.usage}")
    return named


def _about(names: places.Names) -> dict[str, Any]:
    return {"about": names.place, **names.parameters}


def _answer(
    client: Client, table: NamedQuery, sql: str, given: Mapping[str, Any], fmt: str | None, further: bool
) -> bool:
    """Prints one table of the answer; returns whether it is empty. In a format nothing but the format is printed."""
    if fmt:
        answer = client.raw_query(sql, parameters=dict(given), fmt=fmt)
        click.echo(answer, nl=False)
        return not answer
    result = client.query(sql, parameters=dict(given))
    if further:
        click.echo()
    show(result.column_names, result.result_rows, table.help)
    return not result.result_rows


def _written_out(sql: str, given: Mapping[str, Any]) -> str:
    """The SQL with its parameters in it, to be run elsewhere."""
    for name, value in given.items():
        if isinstance(value, list):
            sql = sql.replace(f"{{{name}:Array(String)}}", f"[{', '.join(map(_quoted, value))}]")
        else:
            sql = sql.replace(f"{{{name}:String}}", _quoted(str(value)))
    return sql


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
