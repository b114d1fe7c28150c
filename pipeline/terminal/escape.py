"""Text from telemetry for a terminal or a log: names are data, so escapes, markup and reversed text are written out."""

from __future__ import annotations

import re

from rich.text import Text

#: Control characters (C0 without tab and newline, DEL, C1), and those that reorder or hide text.
_HARMFUL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def plain(text: object) -> str:
    """Returns the text with control characters written out, such as `\\x1b`."""
    return _HARMFUL.sub(lambda found: found[0].encode("unicode_escape").decode(), str(text))


def without_fonts(svg: str) -> str:
    """Returns a picture of a terminal without the web fonts that rich and textual name in it."""
    return re.sub(r"@font-face\s*\{[^}]*\}\s*", "", svg).replace("Fira Code", "ui-monospace, Menlo, Consolas")


def cell(text: object, style: str = "") -> Text:
    """The text as a cell of a table: without control characters, on one line, and never read as markup (`[red]`)."""
    return Text(plain(text).replace("\n", "\\n"), style)
