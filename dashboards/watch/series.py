"""Rows of a time series query as lines: columns `time`, labels (text), values (numbers)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any


@dataclass(slots=True)
class Series:
    """One line: `x` in ms since 1970, `y` with None where there is none."""

    name: str
    labels: dict[str, str]
    column: str
    x: list[int] = field(default_factory=list)
    y: list[Any] = field(default_factory=list)


def millis(moment: Any) -> int:
    """A store's time as ms since 1970, UTC where it has no zone."""
    if isinstance(moment, dt.datetime):
        return round((moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp() * 1000)
    return round(float(moment) * 1000)


def split(names: Sequence[str], rows: Sequence[Sequence[Any]], words: bool = False) -> list[Series]:
    """Returns the lines, in order of appearance. With `words` the last column is a word (a state), not a label."""
    if not rows:
        return []
    text = [i for i, _ in enumerate(names) if i and any(isinstance(row[i], str) for row in rows[:50])]
    values = [len(names) - 1] if words else [i for i in range(1, len(names)) if i not in text]
    labels = [i for i in text if i not in values]
    found: dict[tuple[Any, ...], Series] = {}
    stamps: dict[Any, int] = {}
    for row in rows:
        at = stamps.get(row[0])
        if at is None:
            at = stamps[row[0]] = millis(row[0])
        named_by = tuple(row[i] for i in labels)
        for i in values:
            series = found.get((*named_by, i))
            if series is None:
                named = {names[k]: str(v) for k, v in zip(labels, named_by, strict=True)}
                series = found[(*named_by, i)] = Series(names[i], named, names[i])
            series.x.append(at)
            series.y.append(
                row[i]
                if words or (isinstance(row[i], int | float) and row[i] == row[i] and abs(row[i]) != float("inf"))
                else None
            )
    _name(list(found.values()))
    return list(found.values())


def _name(series: list[Series]) -> None:
    """By the label where there is one value, by the value where there is one label, by both where there are several of
    each. Plotly would read
    markup in a name, so it is written out."""
    columns = {s.column for s in series}
    several = len({tuple(s.labels.values()) for s in series}) > 1
    for one in series:
        label = escape(" ".join(one.labels.values()), quote=False)
        if label and (several or len(columns) == 1):
            one.name = label if len(columns) == 1 else f"{label} {one.column}"
