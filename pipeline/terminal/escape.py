"""Telemetry on its way to a terminal or a log: names are data, so no escape sequence, no markup, no reversed text gets
through.
"""

from __future__ import annotations

import re

from rich.text import Text

#: Control characters (C0 without tab and newline, DEL, C1), and those that reorder or hide text.
_HARMFUL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def plain(text: object) -> str:
    """The text with what a terminal would obey written out, such as `\\x1b`."""
    return _HARMFUL.sub(lambda found: found[0].encode("unicode_escape").decode(), str(text))


def without_fonts(svg: str) -> str:
    """A picture of a terminal, without the fonts that rich and textual have it fetch from elsewhere."""
    return re.sub(r"@font-face\s*\{[^}]*\}\s*", "", svg).replace("Fira Code", "ui-monospace, Menlo, Consolas")


def cell(text: object, style: str = "") -> Text:
    """For a rich table, which would take `[red]` in a plain string as markup."""
    return Text(plain(text).replace("\n", "\\n"), style)
