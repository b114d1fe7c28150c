"""Incidents: a device that stays anomalous opens one, keeps it up to date, and closes it after a healthy minute."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from schemas.identity import IDENTITY, DeviceKey, device_key
from schemas.thresholds import SCORE_BAD, SCORE_NOTICE

OPEN_AT = SCORE_BAD
OPEN_AFTER = 2  # panes in a row
CLEAR_BELOW = SCORE_NOTICE
CLEAR_AFTER = 6
REFRESH_MS = 60_000


@dataclass(frozen=True, slots=True)
class Judgement:
    """One device's score in one pane, its cause, and the job that holds it. `identity` has the columns of IDENTITY."""

    identity: dict[str, str]
    score: float
    cause: str
    job: str = ""

    @property
    def key(self) -> DeviceKey:
        return _key(self.identity)


def _key(row: Mapping[str, Any]) -> DeviceKey:
    return device_key(row["site"], row["rack"], row["device"], row["board"])


@dataclass(slots=True)
class _Case:
    name: str
    identity: dict[str, str]
    job: str
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
        self._cases: dict[DeviceKey, _Case] = {}
        self._dormant: dict[DeviceKey, _Case] = {}

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
                identity = judged.identity
                name = f"{self._kind}/{identity['site']}/{identity['board'] or identity['device']}/{now_ms}"
                self._cases[key] = _Case(name, identity, judged.job, now_ms, judged.score, judged.score, judged.cause)
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
            self._dormant[_key(row)] = _Case(
                name=row["incident"],
                job=row["job"],
                identity={n: row[n] for n in IDENTITY},
                opened_ms=int(row["opened"]),
                peak=float(row["peak"]),
                score=float(row["score"]),
                cause=row["cause"],
                bad=OPEN_AFTER,
                published_ms=int(row["updated"]),
                reported=True,
            )

    def adopt(self, key_of: Callable[[DeviceKey], DeviceKey | None]) -> None:
        """Activates restored incidents of devices that are ours, under the key by which they are known now."""
        for key in [*self._dormant]:
            now = key_of(key)
            if now is not None:
                self._cases.setdefault(now, self._dormant.pop(key))

    def _update_case(self, key: DeviceKey, case: _Case, now_ms: int, score: float, cause: str) -> list[dict[str, Any]]:
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
        return {
            "incident": case.name,
            "updated": now_ms,
            "opened": case.opened_ms,
            "closed": now_ms if closed else 0,
            "open": 0 if closed else 1,
            "kind": self._kind,
            **case.identity,
            "job": case.job,
            "peak": case.peak,
            "score": case.score,
            "cause": case.cause,
        }
