"""The tiers of the store: samples and their roll-ups, which range each answers, and how wide a row of an answer is."""

from __future__ import annotations

import math
from dataclasses import dataclass

from schemas.tables import DATABASE, TTL_DAYS

#: Widths of a row when none is given, and how many rows a line then has at most.
_WIDTHS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 21_600, 43_200, 86_400)
_MOST_ROWS_A_LINE = 240


@dataclass(frozen=True, slots=True)
class Tier:
    """`width_s` is the length of a stored row (0 for samples), `most_s` the longest range that the tier answers."""

    name: str
    width_s: int
    most_s: float

    @property
    def ttl_days(self) -> int:
        return TTL_DAYS[self.name]

    def view(self, kind: str) -> str:
        return f"{DATABASE}.{kind}" if self.name == "raw" else f"{DATABASE}.{kind}_{self.name}"


TIERS = (
    Tier("raw", 0, 3600),
    Tier("10s", 10, 86_400),
    Tier("1m", 60, 60 * 86_400),
    Tier("1h", 3600, math.inf),
)


def choose_tier(seconds: float, age_s: float) -> Tier:
    """Returns the finest tier that answers a range of `seconds` which begins `age_s` before the newest sample."""
    return next(t for t in TIERS if t is TIERS[-1] or (seconds <= t.most_s + 1 and age_s <= t.ttl_days * 86_400))


def width_s(every_s: float, seconds: float, tier: Tier) -> float:
    """Returns the width of a row: as given or what suits the range, in whole rows of the tier."""
    wanted = every_s or next((w for w in _WIDTHS_S if w * _MOST_ROWS_A_LINE >= seconds), _WIDTHS_S[-1])
    return max(1, math.ceil(wanted / tier.width_s)) * tier.width_s if tier.width_s else max(0.001, wanted)
