"""Tables in Markdown pages, written by the command that measured them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.bench.targets import BenchError


def marks(name: str) -> tuple[str, str]:
    """Returns the lines before and after the table of one part."""
    return f"<!-- bench {name}: begin -->", f"<!-- bench {name}: end -->"


def check(page: Path, name: str) -> str:
    """Returns the page's text; BenchError when it has no place for the table. Called before the measurement."""
    text, (begin, end) = page.read_text(), marks(name)
    if begin not in text or end not in text:
        raise BenchError(f"{page} has no place for the table: it needs the lines {begin} and {end}")
    return text


def write(page: Path, name: str, lines: Sequence[str]) -> None:
    """Replaces the lines between the marks; BenchError when the page has none."""
    text, (begin, end) = check(page, name), marks(name)
    before, rest = text.split(begin)
    page.write_text(before + begin + "\n" + "\n".join(lines) + "\n" + end + rest.split(end)[1])


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Returns the lines of a table in Markdown."""
    return [
        "| " + " | ".join(headers) + " |",
        "|" + "---|" * len(headers),
        *("| " + " | ".join(row) + " |" for row in rows),
    ]
