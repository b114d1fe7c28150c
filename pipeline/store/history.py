"""History: one metric, one place, one time range, from the tier that fits; as an Arrow table."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass

import pyarrow as pa
from clickhouse_connect.driver.client import Client

from pipeline.store.tables import DATABASE
from schemas.catalogue import KINDS
from schemas.errors import GigawatchError
from schemas.metric import Metric

_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d)")
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class AskError(GigawatchError, ValueError):
    """A question that cannot be asked; says what was wrong and what there is."""


@dataclass(frozen=True, slots=True)
class HistoryQuery:
    """`place` is a site, rack, node, device or job, `*` at its end for all that begin so; empty for everything.

    `first` and `last` bound the time range (UTC); `every_s` is the width of a row, 0 for what suits the range; `by` is
    `device`, `rack`, `job` or `site`.
    """

    metric: str
    place: str = ""
    first: dt.datetime | None = None
    last: dt.datetime | None = None
    every_s: float = 0.0
    by: str = "device"
    limit: int = 100_000


def span_s(text: str) -> float:
    """`90s`, `15m`, `6h`, `2d` in seconds; AskError otherwise."""
    match = _SPAN.fullmatch(text.strip())
    if not match:
        raise AskError(f"{text!r} is not a time span such as 90s, 15m, 6h or 2d")
    return float(match[1]) * _UNIT_S[match[2]]


def find_metric(name: str) -> tuple[str, Metric]:
    """`temp_c`, or `gpu.temp_c` where several kinds have one; AskError says what there is."""
    kind, _, bare = name.rpartition(".")
    if kind and kind not in KINDS:
        raise AskError(f"no kind {kind!r}; there are {', '.join(KINDS)}")
    found = [(k, m) for k, c in KINDS.items() for m in c.metrics if m.name == bare and (not kind or k == kind)]
    if not found:
        close = sorted({f"{k}.{m.name}" for k, c in KINDS.items() for m in c.metrics if bare.split("_")[0] in m.name})
        raise AskError(
            f"no metric {name!r}"
            + (f"; did you mean {', '.join(close[:6])}?" if close else "; see `gigawatch catalogue`")
        )
    return found[0]


def history(client: Client, ask: HistoryQuery) -> pa.Table:
    """Columns: `ts` (start of the row, UTC), `ask.by`, `mean`, `max`, `samples`; for a counter `increase` instead.

    Tiers: raw up to an hour, 10 s up to a day, 1 min up to 60 days, 1 h beyond.
    """
    kind, metric = find_metric(ask.metric)
    if ask.by not in ("device", "rack", "job", "site"):
        raise AskError(f"--by {ask.by!r}: it is device, rack, job or site")
    newest = client.query(f"SELECT max(ts) FROM {DATABASE}.{kind}").result_rows[0][0]
    last = ask.last or newest or dt.datetime.now(dt.UTC)
    last = last if last.tzinfo else last.replace(tzinfo=dt.UTC)
    first = ask.first or last - dt.timedelta(minutes=15)
    first = first if first.tzinfo else first.replace(tzinfo=dt.UTC)
    if first >= last:
        raise AskError(f"the range is empty: from {first:%Y-%m-%d %H:%M:%S} to {last:%Y-%m-%d %H:%M:%S} UTC")
    seconds = (last - first).total_seconds()
    tier, width = next(
        (t, w)
        for t, w, most in (("", 0, 3600), ("10s", 10, 86_400), ("1m", 60, 60 * 86_400), ("1h", 3600, 1e18))
        if seconds <= most
    )
    every = max(ask.every_s or max(1.0, seconds / 240), width or 0.001)
    sql = _sql(kind, metric, tier, width, ask)
    parameters = {
        "first": first,
        "last": last,
        "every": round(every * 1000),
        "place": ask.place.rstrip("*"),
        "limit": ask.limit,
    }
    return client.query_arrow(sql, parameters=parameters)


def _sql(kind: str, metric: Metric, tier: str, width: int, ask: HistoryQuery) -> str:
    name = metric.name
    if tier:
        # a roll-up row is named by its end: put it back to its start
        at, source = f"ts - INTERVAL {width} SECOND", f"{DATABASE}.{kind}_{tier}"
        if metric.kind == "counter":
            stats = f"sum({name}_inc) AS increase, sum(samples) AS n"
        elif "mean" in metric.rolled:
            stats = f"sum({name}_mean * samples) / sum(samples) AS mean, max({name}_max) AS max, sum(samples) AS n"
        else:
            stats = f"CAST(NULL AS Nullable(Float64)) AS mean, max({name}_max) AS max, sum(samples) AS n"
    else:
        at, source = "ts", f"{DATABASE}.{kind}"
        stats = (
            f"max({name}) - min({name}) AS increase, count({name}) AS n"
            if metric.kind == "counter"
            else f"avg({name}) AS mean, max({name}) AS max, count({name}) AS n"
        )
    match = "startsWith(v, {place:String})" if ask.place.endswith("*") else "v = {place:String}"
    # first the frames that any device there is in, then its rows
    where = (
        f" AND who IN (SELECT who FROM {DATABASE}.identities WHERE arrayExists(v -> {match}, "
        "arrayConcat([site], rack, node, device, job))) "
        f"AND arrayExists(v -> {match}, [site, rack, node, device, job])"
        if ask.place
        else ""
    )
    stats = stats.replace(" AS n", " AS samples")
    inner = stats.replace("samples) AS samples", "t.samples) AS samples").replace(
        "* samples) / sum(samples)", "* t.samples) / sum(t.samples)"
    )
    return (
        f"SELECT fromUnixTimestamp64Milli(intDiv(toUnixTimestamp64Milli({at.replace('ts', 't.ts')}), "
        f"{{every:Int64}}) * {{every:Int64}}, 'UTC') AS bucket, "
        f"{ask.by}, {inner} FROM {source} AS t "
        f"WHERE t.ts >= {{first:DateTime64(3)}} AND t.ts <= {{last:DateTime64(3)}}{where} "
        f"GROUP BY bucket, {ask.by} HAVING samples > 0 ORDER BY bucket, {ask.by} LIMIT {{limit:UInt32}}"
    )
