"""Slurm's JSON documents, record by record: a dump of a big cluster is too large to be held as one tree. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from schemas.errors import GigawatchError

_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()


class InvalidDump(GigawatchError, ValueError):
    """An answer of Slurm's that holds no list of jobs or nodes. `reason` is a word for counters."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


def records(text: str, *names: str) -> Iterator[tuple[str, Any]]:
    """Yields (name, record) of the lists at the top of the document that bear one of the names.

    Raises InvalidDump for what is no JSON object, has none of these lists, or has errors and no record.
    """
    found, count, complaint = False, 0, ""
    at = text.find("{") + 1
    if not at:
        raise InvalidDump("no-json", f"the answer is no JSON: {text[:120].strip()!r}")
    while True:
        at = _after(text, at)
        if text[at : at + 1] in ("}", ","):
            if text[at] == "}":
                break
            at = _after(text, at + 1)
        key, at = _value(text, at)
        at = _after(text, at)
        if text[at : at + 1] != ":":
            raise InvalidDump("no-json", f"a colon is missing at character {at}")
        at = _after(text, at + 1)
        if key in names and text[at : at + 1] == "[":
            found = True
            for record, after in _elements(text, at + 1):
                at = after
                if record is not _END:
                    count += 1
                    yield key, record
        else:
            value, at = _value(text, at)
            if key == "errors" and value:
                complaint = _sentence(value)
    if not found:
        raise InvalidDump("no-list", complaint or f"the answer has no list {' or '.join(names)}")
    if complaint and not count:
        raise InvalidDump("slurm-error", complaint)


_END = object()


def _elements(text: str, at: int) -> Iterator[tuple[Any, int]]:
    """Each element and where it ends; at last `_END` and where the list ends."""
    at = _after(text, at)
    while text[at : at + 1] != "]":
        value, at = _value(text, at)
        yield value, at
        at = _after(text, at)
        if text[at : at + 1] == ",":
            at = _after(text, at + 1)
        elif text[at : at + 1] != "]":
            raise InvalidDump("no-json", f"a list is not closed at character {at}")
    yield _END, at + 1


def _value(text: str, at: int) -> tuple[Any, int]:
    try:
        return _DECODER.raw_decode(text, at)
    except (ValueError, RecursionError) as err:
        raise InvalidDump("no-json", f"no JSON at character {at}: {str(err)[:80]}") from err


def _after(text: str, at: int) -> int:
    """Where the next character that is no space stands."""
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _sentence(errors: Any) -> str:
    first = errors[0] if isinstance(errors, list) else errors
    if isinstance(first, dict):
        first = first.get("description") or first.get("error") or first
    return " ".join(str(first).split())[:200]
