"""The table of peers in the README, written by the command that measured it."""

from __future__ import annotations

from pathlib import Path

from pipeline.bench import peers
from pipeline.bench.parts import Result

BEGIN, END = "<!-- bench peers: begin -->", "<!-- bench peers: end -->"


def check(page: Path) -> str:
    """The page's text; ValueError when it has no place for the table. Asked before minutes are spent on measuring."""
    text = page.read_text()
    if BEGIN not in text or END not in text:
        raise ValueError(f"{page} has no place for the table: it wants the lines {BEGIN} and {END}")
    return text


def write(page: Path, result: Result) -> None:
    """Replaces what stands between the marks; ValueError when the page has none."""
    text = check(page)
    lines = ["| " + " | ".join((peers.HEADERS[0], peers.HEADERS[2], peers.HEADERS[4])) + " |", "|---|---|---|"]
    lines += [f"| {what} | {peer} | {ratio} |" for what, _, peer, _, ratio in peers.rows(result)]
    lines += [f"| not measured here | {name} | |" for name in result["absent"]]
    before, rest = text.split(BEGIN)
    page.write_text(before + BEGIN + "\n" + "\n".join(lines) + "\n" + END + rest.split(END)[1])
