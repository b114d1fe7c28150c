"""`gigawatch catalogue`: metrics, hardware and sources as tables."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import click

from pipeline.commands.runtime import CommandError
from schemas.catalogue import KINDS

#: Between these lines of docs/producers.md stands the table of sources.
BEGIN, END = "<!-- sources: made by `make docs` -->\n", "<!-- /sources -->\n"


@click.command()
@click.argument(
    "which",
    type=click.Choice(["metrics", *KINDS, "hardware", "sources"]),
    default="metrics",
)
@click.option("--markdown", is_flag=True, help="As Markdown: the page docs/catalogue.md, or the table of the sources.")
@click.option(
    "--page",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="sources: write the table into this page, docs/producers.md.",
)
@click.option("--check", is_flag=True, help="With --page: write nothing, fail when the page is not up to date.")
def catalogue(which: str, markdown: bool, page: Path | None, check: bool) -> None:
    """Prints the metric catalogue (or that of one kind), the hardware catalogue with grades and sources, or the
    sources of telemetry with their options.
    """
    from pipeline.terminal.tables import show
    from producers.sources import registry
    from schemas import catalogue as metrics
    from schemas import hardware

    if (page or check) and not (which == "sources" and page):
        raise CommandError("--page and --check are for `gigawatch catalogue sources --page docs/producers.md`")
    if page:
        _write(page, check)
    elif markdown:
        click.echo(registry.markdown() if which == "sources" else metrics.markdown(other_names()), nl=False)
    elif which == "sources":
        show(registry.HEADERS, registry.rows())
    elif which == "hardware":
        show(hardware.HEADERS, hardware.rows(hardware.load()))
    else:
        show(metrics.HEADERS, metrics.rows(None if which == "metrics" else which, other_names()))


def with_table(page: str) -> str:
    """Returns the text of a page with today's table of sources between its marks. Raises ValueError without marks."""
    from producers.sources import registry

    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"no place for the table of sources: it stands between {BEGIN.strip()} and {END.strip()}")
    return f"{head}{BEGIN}\n{registry.markdown()}\n{END}{tail}"


def _write(page: Path, check: bool) -> None:
    before = page.read_text(encoding="utf-8")
    try:
        after = with_table(before)
    except ValueError as err:
        raise CommandError(f"{page}: {err}") from err
    if check and after != before:
        raise CommandError(f"{page} has an old table of sources: run `make docs`")
    if not check:
        page.write_text(after, encoding="utf-8")


def other_names() -> dict[tuple[str, str], list[str]]:
    """Returns what other systems call each metric, by (kind, metric)."""
    from producers.sources import points

    names: dict[tuple[str, str], list[str]] = defaultdict(list)
    for point in points.every():
        names[point.kind, point.metric].append(str(point))
    return names
