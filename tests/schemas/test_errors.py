"""The base of all errors, and the one line of a foreign one."""

from __future__ import annotations

import pytest

from schemas.errors import first_line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("refused\nat some depth", "refused"),
        ("HTTP driver: POST /?query=1 server response: Code: 60. Unknown table\nstack", "Code: 60. Unknown table"),
        ("\n  indented first\nrest", "indented first"),
        ("", "OSError"),
        ("x" * 900, "x" * 300),
    ],
)
def test_an_error_is_shown_as_its_first_line(text: str, line: str) -> None:
    assert first_line(OSError(text)) == line


def test_a_line_is_as_long_as_asked_for() -> None:
    assert first_line(ValueError("abcdef"), 3) == "abc"
