"""Times that a person gives: ISO, or a span from now such as `2h`, `+1h30m` or `-15m`. Pure."""

from __future__ import annotations

import datetime as dt
import re

_SPAN = re.compile(r"(?P<sign>[+-]?)(?P<parts>(?:\d+(?:\.\d+)?[smhdw])+)")
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def moment_ms(text: str, now_ms: int) -> int:
    """Returns the moment in ms since 1970; an ISO time is UTC where it names no zone. ValueError states the forms."""
    span = _SPAN.fullmatch(text.strip().lower())
    if span:
        seconds = sum(float(n) * _UNIT_S[unit] for n, unit in re.findall(r"([\d.]+)([smhdw])", span["parts"]))
        return now_ms + round((-seconds if span["sign"] == "-" else seconds) * 1000)
    try:
        moment = dt.datetime.fromisoformat(text.strip())
        found = round((moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise ValueError(
            f"{text!r} is no time: give 2026-11-25T08:00Z, or a span from now such as 2h or -15m"
        ) from None
    if found <= 0:
        raise ValueError(f"{text!r} is before 1970")
    return found
