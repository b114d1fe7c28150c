"""Slurm's short form of lists: names of nodes (`n1,gpu[001-018,20]`) and numbers (`0-1,3`). Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import product

from schemas.errors import GigawatchError

#: Names or numbers that one list may stand for: more is no cluster.
MOST = 100_000

_PART = re.compile(r"\[([^\[\]]*)\]|([^\[\]]+)")
_RANGE = re.compile(r"(\d{1,15})(?:-(\d{1,15})(?::(\d{1,6}))?)?")


class InvalidHostlist(GigawatchError, ValueError):
    """Text that is no list in Slurm's short form, or one of more than `MOST` entries."""


@lru_cache(4096)
def expand(text: str) -> tuple[str, ...]:
    """Returns the names in order: `n[1-2],m` gives n1, n2, m; zeros in front are kept. Raises InvalidHostlist."""
    names: list[str] = []
    for word in _words(text):
        parts = [_names(m[1]) if m[1] is not None else (m[2],) for m in _PART.finditer(word)]
        if _PART.sub("", word) or not parts:
            raise InvalidHostlist(f"{text[:80]!r} is no list of nodes: brackets do not match")
        size = 1
        for part in parts:
            size *= len(part)
        if len(names) + size > MOST:
            raise InvalidHostlist(f"{text[:80]!r} stands for more than {MOST} nodes")
        names += ("".join(each) for each in product(*parts))
    return tuple(names)


@lru_cache(4096)
def numbers(text: str) -> tuple[int, ...]:
    """Returns the numbers of `0-1,3` or, with a step, `0-8:4`; of no text none. Raises InvalidHostlist."""
    return tuple(number for first, last, step, _ in _ranges(text) for number in range(first, last + 1, step))


def _words(text: str) -> Iterator[str]:
    """The entries between commas that stand outside of brackets."""
    depth, begin = 0, 0
    for at, char in enumerate(text):
        depth += (char == "[") - (char == "]")
        if char == "," and depth == 0:
            if word := text[begin:at].strip():
                yield word
            begin = at + 1
    if word := text[begin:].strip():
        yield word


def _names(text: str) -> tuple[str, ...]:
    return tuple(f"{n:0{width}d}" for first, last, step, width in _ranges(text) for n in range(first, last + 1, step))


def _ranges(text: str) -> list[tuple[int, int, int, int]]:
    """(first, last, step, width) of each entry."""
    found, size = [], 0
    for entry in filter(None, (part.strip() for part in text.split(","))):
        match = _RANGE.fullmatch(entry)
        if not match:
            raise InvalidHostlist(f"{entry[:40]!r} in {text[:80]!r} is no number and no range")
        first, last, step = int(match[1]), int(match[2] or match[1]), int(match[3] or 1)
        if last < first or step < 1:
            raise InvalidHostlist(f"{entry[:40]!r} in {text[:80]!r} is no range: it does not go up")
        size += (last - first) // step + 1
        if size > MOST:
            raise InvalidHostlist(f"{text[:80]!r} stands for more than {MOST} numbers")
        found.append((first, last, step, len(match[1])))
    return found
