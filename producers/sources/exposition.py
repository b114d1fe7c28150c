"""Prometheus and OpenMetrics text, as dcgm-exporter writes it: `name{label="value",...} number [time stamp]`. Pure.

Not `prometheus_client.parser`, which raises at the first bad line and so loses the whole scrape, and parses the labels
of every line, where an exporter repeats one set of labels for each of its fields.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from schemas.errors import GigawatchError

MAX_LINE = 16 << 10

_NUMBER = r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?"
#: The inside of braces, which may hold braces in quotes.
_IN_BRACES = r'[^"{}]*(?:"(?:[^"\\]|\\.)*"[^"{}]*)*'
_LINE = re.compile(
    r"(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)"
    rf"(?:[ \t]*\{{(?P<labels>{_IN_BRACES})\}}|(?=\s))"
    rf"\s*(?P<value>[^\s#]+)(?:\s+{_NUMBER})?"
    rf"(?:\s+#\s*\{{{_IN_BRACES}\}}\s*[^\s#]+(?:\s+{_NUMBER})?)?\s*"  # an exemplar, which is passed over
)
_LABEL = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*=\s*"((?:[^"\\]|\\.)*)"\s*(?:,|$)')
_NAME = re.compile(r"[^{\s]*")
_ESCAPED = re.compile(r'\\[\\"n]')
_ESCAPES = {r"\\": "\\", r"\"": '"', r"\n": "\n"}


class InvalidLine(GigawatchError, ValueError):
    """A line that is no sample: its number, and what is wrong with it."""


@dataclass(slots=True)
class Sample:
    """One line. `series` is the text of its labels: lines of one page with one text share their `labels`."""

    name: str
    labels: dict[str, str]
    value: float
    series: str = ""


def samples(text: str, wanted: frozenset[str] | None = None) -> Iterator[Sample | InvalidLine]:
    """Yields every sample in order, and InvalidLine in place of a line that cannot be read.

    With `wanted`, lines of other metrics are skipped before they are parsed.
    """
    known: dict[str, dict[str, str]] = {"": {}}
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip()
        if not line or line[0] == "#":
            continue
        if wanted is not None and _NAME.match(line)[0] not in wanted:  # type: ignore[index]  # it matches any text
            continue
        if len(line) > MAX_LINE:
            yield InvalidLine(f"line {number}: {len(line)} characters, at most {MAX_LINE}")
            continue
        match = _LINE.fullmatch(line)
        if not match:
            yield InvalidLine(f"line {number}: {line[:80]!r} is not name{{labels}} value")
            continue
        name, series, value = match.groups("")
        labels = known.get(series)
        try:
            if labels is None:
                labels = known[series] = _labels(series, number)
            yield Sample(name, labels, float(value), series)
        except InvalidLine as wrong:
            yield wrong
        except ValueError:
            yield InvalidLine(f"line {number}: {value[:40]!r} is not a number")


def _labels(text: str, number: int) -> dict[str, str]:
    """Returns the labels by name. Raises InvalidLine."""
    labels: dict[str, str] = {}
    at = 0
    while at < len(text):
        label = _LABEL.match(text, at)
        if not label:
            raise InvalidLine(f"line {number}: labels end unexpectedly at {text[at : at + 40]!r}")
        labels[label[1]] = _ESCAPED.sub(lambda m: _ESCAPES[m[0]], label[2])
        at = label.end()
    return labels
