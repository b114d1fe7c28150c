"""Roll-ups from 10 s to 1 min to 1 h: each bucket is computed whole and replaced, so doing it twice changes nothing.

A tier follows the tier below by the time at which rows were stored: a bucket with rows since the last round is computed
again, late rows included. An hour is computed once it is over, and again when late rows come.
"""

from __future__ import annotations

import datetime as dt
import logging

import pyarrow as pa
from clickhouse_connect.driver.client import Client

from pipeline.store.tables import TABLES
from schemas.catalogue import KINDS
from schemas.derived import ROLLUPS
from schemas.identity import IDENTITY
from schemas.tables import DATABASE

log = logging.getLogger("gigawatch.rollup")

_STEPS = (("10s", "1m", 60), ("1m", "1h", 3600))


def select(kind: str, below: str, seconds: int) -> str:
    """Returns the SELECT that makes frames of one tier from those of the tier below: array by array, weighted by
    samples, NaN where nothing was measured.
    """
    stats = []
    for name, dtype in ROLLUPS[kind].columns[len(IDENTITY) + 2 :]:
        # an array that a frame lacks counts as missing throughout; NaN is left out of sums, weights and maxima
        values = f"arrayResize(b.{name}, b.rows, nan)"
        if name.endswith("_mean"):
            total = f"sumForEach(arrayMap((v, n) -> if(isNaN(v), 0, v * n), {values}, b.samples))"
            made = (
                f"arrayMap((s, n) -> s / n, {total}, sumForEach(arrayMap((v, n) -> if(isNaN(v), 0, n), {values}, "
                "b.samples)))"
            )
        elif name.endswith("_inc"):
            known = f"maxForEach(arrayMap(v -> not isNaN(v), {values}))"
            made = (
                f"arrayMap((s, k) -> if(k, s, nan), sumForEach(arrayMap(v -> if(isNaN(v), 0, v), {values})), {known})"
            )
        else:
            made = f"arrayMap(v -> if(v = -inf, nan, v), maxForEach(arrayMap(v -> if(isNaN(v), -inf, v), {values})))"
        base = "Array(Float64)" if pa.types.is_float64(dtype) else "Array(Float32)"
        stats.append(f"if(max(length(b.{name})) = 0, [], CAST({made} AS {base})) AS {name}")
    # a bucket is named by its end, and a row below by its end too: a row that ends on the bucket's end belongs to it
    rack = "b.rack, " if TABLES[kind].by_rack else ""
    bucket = f"toStartOfInterval(b.ts - INTERVAL 1 MILLISECOND, INTERVAL {seconds} SECOND) + INTERVAL {seconds} SECOND"
    return (
        f"SELECT {bucket} AS bucket, b.site, {rack}b.who, any(b.rows), CAST(sumForEach(b.samples) AS "
        f"Array(UInt32)) AS total, {', '.join(stats)} "
        f"FROM {DATABASE}.{kind}_{below}_frames AS b FINAL WHERE b.ts > {{first:DateTime64(3)}} AND b.ts <= "
        f"{{last:DateTime64(3)}} "
        f"GROUP BY bucket, b.site, {rack}b.who"
    )


class Roller:
    """Computes the tiers; call `roll` at intervals. It blocks."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.buckets = 0

    def roll(self, everything: bool = False) -> int:
        """Returns how many buckets were computed; `everything` includes those that are not over yet (end of a run)."""
        made = 0
        for kind in KINDS:
            for below, tier, seconds in _STEPS:
                made += self._step(kind, below, tier, seconds, everything)
        self.buckets += made
        return made

    def _step(self, kind: str, below: str, tier: str, seconds: int, everything: bool) -> int:
        target = f"{kind}_{tier}"
        since = self._client.query(
            f"SELECT max(done) FROM {DATABASE}.rollup_progress WHERE table = {{t:String}}", parameters={"t": target}
        ).result_rows[0][0]
        cut, newest = self._client.query(
            f"SELECT max(stored_at), max(ts) FROM {DATABASE}.{kind}_{below}_frames"
        ).result_rows[0]
        if cut is None or (since is not None and cut <= since):
            return 0
        bucket = (
            f"toStartOfInterval(ts - INTERVAL 1 MILLISECOND, INTERVAL {seconds} SECOND) + INTERVAL {seconds} SECOND"
        )
        rows = self._client.query(
            f"SELECT DISTINCT {bucket} AS bucket FROM {DATABASE}.{kind}_{below}_frames "
            "WHERE stored_at > {since:DateTime64(3)} AND stored_at <= {cut:DateTime64(3)} ORDER BY bucket",
            parameters={"since": since or dt.datetime(1970, 1, 1), "cut": cut},
        ).result_rows
        ends = [_naive(row[0]) for row in rows]
        if not everything:
            ends = [end for end in ends if end <= _naive(newest)]
        for first, last in _spans(ends, seconds):
            self._fill(kind, below, target, seconds, first, last)
        # an open bucket stays due: progress stops before its rows
        if not everything and len(ends) < len(rows):
            oldest_open = _naive(rows[len(ends)][0]) - dt.timedelta(seconds=seconds)
            held = self._client.query(
                f"SELECT min(stored_at) FROM {DATABASE}.{kind}_{below}_frames WHERE ts > {{t:DateTime64(3)}} "
                "AND stored_at > {since:DateTime64(3)}",
                parameters={"t": oldest_open, "since": since or dt.datetime(1970, 1, 1)},
            ).result_rows[0][0]
            cut = min(cut, held - dt.timedelta(milliseconds=1)) if held else cut
        self._client.command(
            f"INSERT INTO {DATABASE}.rollup_progress (ts, table, done) VALUES "
            f"(now64(3), '{target}', toDateTime64('{_naive(cut).isoformat(sep=' ', timespec='milliseconds')}', "
            "3, 'UTC'))"
        )
        return len(ends)

    def _fill(self, kind: str, below: str, target: str, seconds: int, first: dt.datetime, last: dt.datetime) -> None:
        names = [name for name, _ in ROLLUPS[kind].columns[len(IDENTITY) + 2 :]]
        rack = ["rack"] if TABLES[kind].by_rack else []
        columns = ", ".join(["ts", "site", *rack, "who", "rows", "samples", *names])
        self._client.command(
            f"INSERT INTO {DATABASE}.{target}_frames ({columns}) {select(kind, below, seconds)}",
            settings={"max_threads": 1},
            parameters={"first": first, "last": last},
        )


def _spans(ends: list[dt.datetime], seconds: int) -> list[tuple[dt.datetime, dt.datetime]]:
    """Returns runs of adjacent buckets as (start of the first, end of the last), at most a day long."""
    out: list[tuple[dt.datetime, dt.datetime]] = []
    width = dt.timedelta(seconds=seconds)
    for end in ends:
        if out and out[-1][1] == end - width and end - out[-1][0] <= dt.timedelta(days=1):
            out[-1] = (out[-1][0], end)
        else:
            out.append((end - width, end))
    return out


def _naive(moment: dt.datetime) -> dt.datetime:
    return moment.astimezone(dt.UTC).replace(tzinfo=None) if moment.tzinfo else moment
