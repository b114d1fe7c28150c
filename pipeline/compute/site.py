"""The site: joins the kinds' parts into rack rows (with heat balance) and site rows (fleet utilization, PUE).

Parts arrive from many partitions in any order. Each window that a new part belongs to is computed again from all its
parts, in sorted order, so the last row of a key does not depend on the order of arrival; the store keeps the last.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.compute import scores
from pipeline.compute.incidents import Incidents, Judgement
from pipeline.compute.site_join import JoinedWindow, Key, values_of
from schemas.derived import INCIDENT, PANE_S, RACK, SCORE, SITE
from schemas.identity import IDENTITY
from schemas.thresholds import HEAT_BALANCE, HEAT_BALANCE_SIGMA, WINDOW_COVERAGE

KEEP_MS = 600_000
BALANCE_WINDOW_S = 60


@dataclass(slots=True)
class _Window:
    """The parts of one window so far; `members` are the (rack, kind, model) among them."""

    batches: list[pa.RecordBatch] = field(default_factory=list)
    members: set[tuple[str, str, str]] = field(default_factory=set)
    judged: list[Judgement] = field(default_factory=list)


class SiteEngine:
    """Feed `add` batches of the `part` stream; it returns batches of `rack`, `site`, `score` and `incident` by name."""

    def __init__(self) -> None:
        self._windows: dict[Key, _Window] = {}
        self._seen_ms = 0
        self._waiting: set[Key] = set()
        self._newest: dict[tuple[str, int], int] = {}
        self.incidents = Incidents("heat_balance", PANE_S * 1000)
        self._judged_ms = 0

    def add(self, batch: pa.RecordBatch) -> dict[str, pa.RecordBatch]:
        touched = set(self._waiting)
        for key, part in _split(batch):
            window = self._windows.setdefault(key, _Window())
            window.batches.append(part)
            window.members.update(zip(*(part.column(n).to_pylist() for n in ("rack", "kind", "model")), strict=True))
            touched.add(key)
            self._seen_ms = max(self._seen_ms, key[2])
            self._newest[key[:2]] = max(self._newest.get(key[:2], 0), key[2])
        ready = {key for key in touched if self._complete(key)}
        self._waiting = touched - ready
        found: dict[str, list[pa.RecordBatch]] = {}
        for key in sorted(ready, key=lambda k: (k[2], k[0], k[1])):
            window = self._windows[key]
            joined = JoinedWindow(key, window.batches)
            racks = joined.racks()
            if len(racks["rack"]):
                found.setdefault("rack", []).append(RACK.build(racks))
            found.setdefault("site", []).append(SITE.build_rows([joined.site(racks)]))
            if key[1] == BALANCE_WINDOW_S:
                judged = _balance_scores(racks)
                if len(judged["rack"]):
                    found.setdefault("score", []).append(SCORE.build(judged))
                window.judged = [
                    Judgement({n: str(judged[n][i]) for n in IDENTITY}, float(score), "heat_balance")
                    for i, score in enumerate(judged["score"])
                ]
        for key in [k for k in self._windows if k[2] < self._seen_ms - KEEP_MS]:
            del self._windows[key]
        out = {name: pa.concat_batches(batches) for name, batches in found.items()}
        opened = self._incidents()
        if opened:
            out["incident"] = INCIDENT.build_rows(opened)
        return out

    def _complete(self, key: Key) -> bool:
        """Whether to publish a window now. The newest waits until it has the parts that the one before had, so that
        nobody sees half a site; an older one does not wait.
        """
        site, window_s, ts = key
        if ts < self._newest[site, window_s]:
            return True
        before = max((t for s, w, t in self._windows if (s, w) == (site, window_s) and t < ts), default=None)
        return before is None or self._windows[key].members >= self._windows[site, window_s, before].members

    def _incidents(self) -> list[dict[str, Any]]:
        """Judges a window once the next one begins to arrive: by then all kinds have sent theirs."""
        due = sorted(
            {ts for _, w, ts in self._windows if w == BALANCE_WINDOW_S and self._judged_ms < ts < self._seen_ms}
        )
        out = []
        self.incidents.adopt(lambda key: key)  # there is one site engine
        for ts in due:
            out += self.incidents.update(
                ts,
                [
                    j
                    for (_, w, at), window in self._windows.items()
                    if w == BALANCE_WINDOW_S and at == ts
                    for j in window.judged
                ],
            )
            self._judged_ms = ts
        return out


def _split(batch: pa.RecordBatch) -> list[tuple[Key, pa.RecordBatch]]:
    """Returns the batch by window, in order of first appearance."""
    sites = batch.column(batch.schema.get_field_index("site")).dictionary_encode()
    code, widths, ends = (
        np.asarray(sites.indices),
        values_of(batch, "window_s"),
        np.asarray(batch.column(0).cast(pa.int64())),
    )
    keys = np.stack([code, widths, ends])
    if (keys == keys[:, :1]).all():
        groups = [(0, np.arange(batch.num_rows))]
    else:
        _, first, inverse = np.unique(keys, axis=1, return_index=True, return_inverse=True)
        groups = [(int(first[g]), np.flatnonzero(inverse.ravel() == g)) for g in np.argsort(first)]
    return [
        (
            (str(sites.dictionary[int(code[at])].as_py()), int(widths[at]), int(ends[at])),
            batch if len(rows) == batch.num_rows else batch.take(pa.array(rows)),
        )
        for at, rows in groups
    ]


def _balance_scores(racks: dict[str, Any]) -> dict[str, Any]:
    """Returns columns of SCORE for racks whose coolant heat does not match their metered power; racks that match, or
    cannot be judged, are left out.
    """
    ratio = racks["heat_balance"]
    z = np.abs(ratio - HEAT_BALANCE) / HEAT_BALANCE_SIGMA
    score = np.where(np.isnan(ratio) | (racks["coverage"] < WINDOW_COVERAGE), 0.0, scores.evidence(z))
    bad = score >= scores.PUBLISH_FROM
    count, rack = int(bad.sum()), racks["rack"][bad]
    return {
        "ts": racks["ts"][bad],
        "kind": ["cooling"] * count,
        "site": racks["site"][bad],
        "rack": rack,
        "node": [""] * count,
        "device": rack,
        "model": ["rack-loop"] * count,
        "board": [""] * count,
        "job": [""] * count,
        "score": score[bad],
        "cause": ["heat_balance"] * count,
        "value": ratio[bad],
        "expected": np.full(count, HEAT_BALANCE),
        "z_self": np.full(count, np.nan),
        "z_peer": z[bad],
    }
