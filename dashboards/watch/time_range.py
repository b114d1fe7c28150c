"""The page's time range: `now-30m` or milliseconds since 1970, and the interval of a graph's points."""

from __future__ import annotations

import datetime as dt
import math
import re

from dashboards.macros import Range

_RELATIVE = re.compile(r"now(?:-(\d+)([smhdw]))?")
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
#: Intervals that a graph's points may have, s: ones that divide minutes, hours, days.
_INTERVALS = (1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)


def moment(text: str, now: dt.datetime) -> dt.datetime:
    """`now`, `now-30m`, or ms since 1970; ValueError for anything else."""
    match = _RELATIVE.fullmatch(text)
    if match:
        return now - dt.timedelta(seconds=int(match[1]) * _UNIT_S[match[2]]) if match[1] else now
    if not re.fullmatch(r"\d{10,14}", text):
        raise ValueError(f"time {text!r}: it is now, now-30m (s, m, h, d, w) or milliseconds since 1970")
    return dt.datetime.fromtimestamp(int(text) / 1000, dt.UTC)


def covering(first: str, last: str, points: int, now: dt.datetime) -> Range:
    """The range with an interval that gives about `points` points; ValueError when it ends before it begins."""
    begin, end = moment(first, now), moment(last, now)
    if end <= begin:
        raise ValueError(f"the time range ends ({last}) before it begins ({first})")
    wanted = (end - begin).total_seconds() / max(10, min(points, 2000))
    return Range(begin, end, next((i for i in _INTERVALS if i >= wanted), math.ceil(wanted)))
