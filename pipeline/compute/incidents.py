"""Incidents: a device that stays anomalous opens one, keeps it up to date, and closes it after a healthy minute."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from schemas.identity import IDENTITY
from schemas.thresholds import SCORE_BAD, SCORE_NOTICE

OPEN_AT = SCORE_BAD
OPEN_AFTER = 2  # panes in a row
CLEAR_BELOW = SCORE_NOTICE
CLEAR_AFTER = 6
REFRESH_MS = 60_000
Key = tuple[str, str, str]  # site, rack, device


@dataclass(frozen=True, slots=True)
class Judgement:
    """One device's score in one pane, and its cause. `identity` holds the columns of schemas.frame.IDENTITY."""

    identity: dict[str, str]
    score: float
    cause: str

    @property
    def key(self) -> Key:
        return self.identity["site"], self.identity["rack"], self.identity["device"]


@dataclass(slots=True)
class _Case:
    identity: dict[str, str]
    opened_ms: int
    peak: float
    score: float
    cause: str
    bad: int = 1
    good: int = 0
    published_ms: int = 0
    reported: bool = False


class Incidents:
    """Feed `update` once a pane, panes in order. It returns rows of the `incident` stream."""

    def __init__(self, kind: str, pane_ms: int) -> None:
        self._kind, self._pane_ms = kind, pane_ms
        self._cases: dict[Key, _Case] = {}
        self._dormant: dict[Key, _Case] = {}

    def __len__(self) -> int:
        return sum(c.reported for c in self._cases.values())

    def update(self, now_ms: int, judgements: Iterable[Judgement]) -> list[dict[str, Any]]:
        """Takes the judgement of every device worth publishing in the pane that ends at `now_ms`."""
        out: list[dict[str, Any]] = []
        seen = set()
        for judged in judgements:
            key = judged.key
            case = self._cases.get(key)
            if case is None and judged.score < OPEN_AT:
                continue
            seen.add(key)
            if case is None:
                self._cases[key] = _Case(judged.identity, now_ms, judged.score, judged.score, judged.cause)
                continue
            out += self._update_case(key, case, now_ms, judged.score, judged.cause)
        for key in [k for k in self._cases if k not in seen]:
            out += self._update_case(key, self._cases[key], now_ms, 0.0, "")
        return out

    def restore(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Restores open incidents from the latest row of each in the `incident` stream, so that a restart does not open
        them again.

        Each stays dormant until its device is seen here (see `adopt`), since it may belong to another partition.
        """
        self._dormant.clear()
        for row in rows:
            if row["kind"] != self._kind or not row["open"]:
                continue
            self._dormant[row["site"], row["rack"], row["device"]] = _Case(
                identity={n: row[n] for n in IDENTITY},
                opened_ms=int(row["opened"]),
                peak=float(row["peak"]),
                score=float(row["score"]),
                cause=row["cause"],
                bad=OPEN_AFTER,
                published_ms=int(row["updated"]),
                reported=True,
            )

    def adopt(self, mine: Callable[[Key], bool]) -> None:
        """Activates restored incidents of devices that are ours."""
        for key in [k for k in self._dormant if mine(k)]:
            self._cases.setdefault(key, self._dormant.pop(key))

    def _update_case(self, key: Key, case: _Case, now_ms: int, score: float, cause: str) -> list[dict[str, Any]]:
        if now_ms <= case.published_ms:  # a replay of what is published already
            return []
        case.score = score
        if score < CLEAR_BELOW:
            case.good += 1
            if not case.reported or case.good >= CLEAR_AFTER:
                del self._cases[key]
                return [self._row(case, now_ms, closed=True)] if case.reported else []
            return []
        case.good = 0
        if score >= OPEN_AT:
            case.bad += 1
        news = score > case.peak + 0.05 or now_ms - case.published_ms >= REFRESH_MS
        if score >= case.peak:
            case.peak, case.cause = score, cause or case.cause
        if case.bad >= OPEN_AFTER and (news or not case.reported):
            case.reported, case.published_ms = True, now_ms
            return [self._row(case, now_ms, closed=False)]
        return []

    def _row(self, case: _Case, now_ms: int, closed: bool) -> dict[str, Any]:
        name = f"{self._kind}/{case.identity['site']}/{case.identity['device']}/{case.opened_ms}"
        return {
            "incident": name,
            "updated": now_ms,
            "opened": case.opened_ms,
            "closed": now_ms if closed else 0,
            "open": 0 if closed else 1,
            "kind": self._kind,
            **case.identity,
            "peak": case.peak,
            "score": case.score,
            "cause": case.cause,
        }
