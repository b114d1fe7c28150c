"""Errors of the store as one line of text."""

from __future__ import annotations


def first_line(err: Exception) -> str:
    """Returns the first line of ClickHouse's message, without the driver's wrapping, 300 characters at most."""
    return (str(err).split("server response: ")[-1].split("\n")[0] or type(err).__name__)[:300]
