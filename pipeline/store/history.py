"""History: one metric, one place, one time range, from the tier that fits; as an Arrow table."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass

import pyarrow as pa
from clickhouse_connect.driver.client import Client

from pipeline.store import places
from pipeline.store.history_rows import select
from pipeline.store.tiers import TIERS, choose_tier, width_s
from schemas.catalogue import KINDS
from schemas.errors import GigawatchError
from schemas.metric import Metric
from schemas.tables import DATABASE

BY = ("board", "device", "rack", "job", "site")
DEFAULT_SPAN_S = 900.0
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d)")
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class AskError(GigawatchError, ValueError):
    """A query that cannot be made; the message states what is wrong and what exists."""


@dataclass(frozen=True, slots=True)
class HistoryQuery:
    """`place` is a site, rack, node, device, board or what another system calls one, `*` at its end for all that begin
    so; empty for everything. `job`: only what it held, while it held it.

    `first` (inclusive) and `last` (exclusive) bound the time range, UTC; without `last` it ends with the newest sample,
    without `first` it is `span_s` long; without all three it is 15 minutes, or all the time of the job. `every_s` is
    the width of a row, 0 for what suits the range; `by` is one of BY.
    """

    metric: str
    place: str = ""
    first: dt.datetime | None = None
    last: dt.datetime | None = None
    every_s: float = 0.0
    by: str = "device"
    span_s: float = 0.0
    limit: int = 2_000_000
    job: str = ""


def span_s(text: str) -> float:
    """Returns `90s`, `15m`, `6h` or `2d` in seconds; raises AskError for anything else."""
    match = _SPAN.fullmatch(text.strip())
    if not match or not float(match[1]):
        raise AskError(f"{text!r} is not a time span such as 90s, 15m, 6h or 2d")
    return float(match[1]) * _UNIT_S[match[2]]


def find_metric(name: str) -> tuple[str, Metric]:
    """Returns (kind, metric) of `temp_c`, or of `gpu.temp_c` where several kinds have one.

    Raises AskError, which names metrics that look alike.
    """
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
    """Returns the columns `bucket` (start of the row, UTC), `ask.by`, `mean`, `max`, `samples`; for a counter
    `increase` in place of mean and max. By device there is `board` too: two boards at one place are two lines.

    The mean weighs every sample of the devices that have the metric. The increase is summed over devices; a counter
    that goes backwards starts again at 0; a job that shares a board has its share of the energy. Raw samples up to an
    hour, 10 s up to a day, 1 min up to 60 days, 1 h beyond.
    """
    kind, metric = find_metric(ask.metric)
    if ask.by not in BY:
        raise AskError(f"by {ask.by!r}: it is one of {', '.join(BY)}")
    newest = _newest(client, kind)
    end = newest + dt.timedelta(milliseconds=1)
    first, last = _utc(ask.first) if ask.first else None, _utc(ask.last) if ask.last else end
    if ask.job and not (ask.first or ask.last or ask.span_s):
        first, until = _held(client, ask.job)
        last = min(until, max(end, first + dt.timedelta(milliseconds=1)))
    first = first or last - dt.timedelta(seconds=ask.span_s or DEFAULT_SPAN_S)
    if first >= last:
        raise AskError(f"the range is empty: from {first:%Y-%m-%d %H:%M:%S} to {last:%Y-%m-%d %H:%M:%S} UTC")
    tier = choose_tier((last - first).total_seconds(), (newest - first).total_seconds())
    found = client.query_arrow(
        select(kind, metric, tier, ask.place, ask.job, ask.by).sql(),
        parameters={
            "first": first,
            "last": last,
            "every": round(1000 * width_s(ask.every_s, (last - first).total_seconds(), tier)),
            "job": ask.job,
            "limit": ask.limit + 1,
            **places.names_of(client, ask.place).parameters,
        },
    )
    if found.num_rows > ask.limit:
        raise AskError(
            f"more than {ask.limit:,} rows: ask for a shorter range, wider rows (--every), one place, or fewer lines "
            "(--by rack)"
        )
    return found


def _newest(client: Client, kind: str) -> dt.datetime:
    """The newest sample's moment, or what the tiers still have of it; now when there is nothing."""
    for tier in TIERS:
        found = client.query(f"SELECT max(ts) FROM {tier.view(kind)}_frames").result_rows[0][0]
        if found and found.year > 1970:
            return _utc(found)
    return dt.datetime.now(dt.UTC)


def _held(client: Client, job: str) -> tuple[dt.datetime, dt.datetime]:
    """From when to when the job held anything."""
    found = client.query(
        f"SELECT count(), min(started), max(until) FROM {DATABASE}.held WHERE job = {{job:String}}",
        parameters={"job": job},
    ).result_rows[0]
    if not found[0]:
        raise AskError(f"no job {job!r} held anything; `gigawatch query jobs` lists those of the last day")
    return _utc(found[1]), _utc(found[2])


def _utc(moment: dt.datetime) -> dt.datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
