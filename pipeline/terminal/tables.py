"""Tables on standard output: aligned in a terminal, tab-separated in a pipe or a file."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.terminal.escape import plain


def show(headers: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> None:
    """Prints the rows: numbers to the right, missing values empty, thousands apart only in a terminal."""
    terminal = sys.stdout.isatty()
    shown = [[_text(cell, terminal) for cell in row] for row in rows]
    if not terminal:
        print("\t".join(headers))
        for row in shown:
            print("\t".join(row))
        return
    table = Table(*headers, title=title or None, box=None, header_style="bold", pad_edge=False)
    for index, column in enumerate(table.columns):
        cells = [row[index] for row in shown if index < len(row) and row[index]]
        if cells and all(_number(c) for c in cells):
            column.justify = "right"
    for row in shown:
        table.add_row(*(Text(text) for text in row))
    Console().print(table)


def _text(cell: object, grouped: bool) -> str:
    if cell is None or (isinstance(cell, float) and cell != cell):
        return ""
    if isinstance(cell, float):
        return f"{cell:.4g}" if abs(cell) < 1 else f"{cell:{',' if grouped else ''}.2f}"
    return plain(cell).replace("\t", "\\t").replace("\n", "\\n")


def _number(text: str) -> bool:
    try:
        float(text.replace(",", "").rstrip("%"))
    except ValueError:
        return False
    return True
