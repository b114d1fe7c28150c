"""Tables in pages, written by the command that measured them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def marks(name: str) -> tuple[str, str]:
    """What stands before and after the table of one part."""
    return f"<!-- bench {name}: begin -->", f"<!-- bench {name}: end -->"


def check(page: Path, name: str) -> str:
    """The page's text; ValueError when it has no place for the table. Asked before minutes are spent on measuring."""
    text, (begin, end) = page.read_text(), marks(name)
    if begin not in text or end not in text:
        raise ValueError(f"{page} has no place for the table: it wants the lines {begin} and {end}")
    return text


def write(page: Path, name: str, lines: Sequence[str]) -> None:
    """Replaces what stands between the marks; ValueError when the page has none."""
    text, (begin, end) = check(page, name), marks(name)
    before, rest = text.split(begin)
    page.write_text(before + begin + "\n" + "\n".join(lines) + "\n" + end + rest.split(end)[1])


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table in Markdown, a line each."""
    return [
        "| " + " | ".join(headers) + " |",
        "|" + "---|" * len(headers),
        *("| " + " | ".join(row) + " |" for row in rows),
    ]
