"""History: one metric, one place, one time range, from the tier that fits; as an Arrow table."""

from __future__ import annotations

import datetime as dt
import math
import re
from dataclasses import dataclass

import pyarrow as pa
from clickhouse_connect.driver.client import Client

from pipeline.store.select import Select
from schemas.catalogue import KINDS
from schemas.errors import GigawatchError
from schemas.metric import Metric
from schemas.tables import DATABASE, TTL_DAYS

BY = ("device", "rack", "job", "site")
DEFAULT_SPAN_S = 900.0
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d)")
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}
#: Widths of a row when none is given, and how many rows a line then has at most.
_WIDTHS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 21_600, 43_200, 86_400)
_MOST_ROWS_A_LINE = 240
#: A counter's first sample in the range grows from the newest sample of up to so long before.
_LOOK_BACK_S = 300
_MS = "toUnixTimestamp64Milli"


class AskError(GigawatchError, ValueError):
    """A query that cannot be made; the message states what is wrong and what exists."""


@dataclass(frozen=True, slots=True)
class HistoryQuery:
    """`place` is a site, rack, node, device or job, `*` at its end for all that begin so; empty for everything.

    `first` (inclusive) and `last` (exclusive) bound the time range, UTC; without `last` it ends with the newest sample,
    without `first` it is `span_s` long. `every_s` is the width of a row, 0 for what suits the range; `by` is one of BY.
    """

    metric: str
    place: str = ""
    first: dt.datetime | None = None
    last: dt.datetime | None = None
    every_s: float = 0.0
    by: str = "device"
    span_s: float = DEFAULT_SPAN_S
    limit: int = 2_000_000


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
    `increase` in place of mean and max.

    The mean weighs every sample of the devices that have the metric. The increase is summed over devices; a counter
    that goes backwards starts again at 0. Raw samples up to an hour, 10 s up to a day, 1 min up to 60 days, 1 h beyond.
    """
    kind, metric = find_metric(ask.metric)
    if ask.by not in BY:
        raise AskError(f"by {ask.by!r}: it is one of {', '.join(BY)}")
    newest = _newest(client, kind)
    last = _utc(ask.last) if ask.last else newest + dt.timedelta(milliseconds=1)
    first = _utc(ask.first) if ask.first else last - dt.timedelta(seconds=ask.span_s)
    if first >= last:
        raise AskError(f"the range is empty: from {first:%Y-%m-%d %H:%M:%S} to {last:%Y-%m-%d %H:%M:%S} UTC")
    tier = choose_tier((last - first).total_seconds(), (newest - first).total_seconds())
    found = client.query_arrow(
        select(kind, metric, tier, ask).sql(),
        parameters={
            "first": first,
            "last": last,
            "every": round(1000 * width_s(ask.every_s, (last - first).total_seconds(), tier)),
            "place": ask.place.rstrip("*"),
            "limit": ask.limit + 1,
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


def choose_tier(seconds: float, age_s: float) -> Tier:
    """Returns the finest tier that answers a range of `seconds` which begins `age_s` before the newest sample."""
    return next(t for t in TIERS if t is TIERS[-1] or (seconds <= t.most_s + 1 and age_s <= t.ttl_days * 86_400))


def width_s(every_s: float, seconds: float, tier: Tier) -> float:
    """Returns the width of a row: as given or what suits the range, in whole rows of the tier."""
    wanted = every_s or next((w for w in _WIDTHS_S if w * _MOST_ROWS_A_LINE >= seconds), _WIDTHS_S[-1])
    return max(1, math.ceil(wanted / tier.width_s)) * tier.width_s if tier.width_s else max(0.001, wanted)


def select(kind: str, metric: Metric, tier: Tier, ask: HistoryQuery) -> Select:
    """The query; its parameters are `first`, `last`, `every` (ms), `place` and `limit`."""
    source, where = f"{tier.view(kind)} AS t", _range(tier) + _place(ask.place)
    stats: tuple[str, ...]
    if metric.kind == "counter" and not tier.width_s:
        source = f"{_steps(kind, metric.name, ask)} AS t"
        where = ("t.ts >= {first:DateTime64(3)}", *_place(ask.place, rows_only=True))
        now, before = f"t.{metric.name}", "t.before"
        step = f"multiIf(isNull({before}), 0, {now} < {before}, {now}, {now} - {before})"
        stats = (f"sum({step}) AS increase", "count() AS samples")
    else:
        stats = _stats(metric, tier)
    # a roll-up's row is named by its end: its start decides which row it falls in
    start = f"{_MS}(t.ts) - {1000 * tier.width_s}"
    return Select(
        (
            f"fromUnixTimestamp64Milli(intDiv({start}, {{every:Int64}}) * {{every:Int64}}, 'UTC') AS bucket",
            f"t.{ask.by} AS {ask.by}",
            *stats,
        ),
        source,
        where,
        ("bucket", f"t.{ask.by}"),
        "samples > 0",
        ("bucket", ask.by),
        "{limit:UInt32}",
    )


def _stats(metric: Metric, tier: Tier) -> tuple[str, ...]:
    """The aggregates; a row without the metric is in none of them, `samples` included."""
    name = f"t.{metric.name}"
    if not tier.width_s:
        return f"avg({name}) AS mean", f"max({name}) AS max", f"count({name}) AS samples"
    samples = f"sumIf(t.samples, isNotNull({name}_{metric.rolled[0]})) AS samples"
    if metric.kind == "counter":
        return f"sum({name}_inc) AS increase", samples
    mean = "CAST(NULL AS Nullable(Float64))"
    if "mean" in metric.rolled:
        mean = f"sum({name}_mean * t.samples) / sumIf(t.samples, isNotNull({name}_mean))"
    return f"{mean} AS mean", f"max({name}_max) AS max", samples


def _steps(kind: str, name: str, ask: HistoryQuery) -> str:
    """Each sample of a counter with the device's sample before it; from a little before the range, so that the step
    into it is known.
    """
    before = f"lagInFrame({name}) OVER (PARTITION BY site, rack, device ORDER BY ts) AS before"
    where: tuple[str, ...] = (
        f"ts >= {{first:DateTime64(3)}} - INTERVAL {_LOOK_BACK_S} SECOND",
        "ts < {last:DateTime64(3)}",
        f"isNotNull({name})",
    )
    if ask.place:
        # whole devices, not only their rows under the job that is asked for: the sample before may be another job's
        there = Select(
            ("device",),
            f"{DATABASE}.identities ARRAY JOIN rack, node, device, job",
            (f"arrayExists(v -> {_match(ask.place)}, [site, rack, node, device, job])",),
        )
        frames = Select(
            ("who",), f"{DATABASE}.identities ARRAY JOIN device AS one", (f"one IN {there.subquery()}",)
        ).subquery()
        where += (f"who IN {frames}", f"device IN {there.subquery()}")
    columns = ("ts", "site", "rack", "node", "device", "job", name, before)
    return Select(columns, f"{DATABASE}.{kind}", where).subquery()


def _range(tier: Tier) -> tuple[str, ...]:
    """Samples in the range; of a roll-up every row that overlaps it."""
    if not tier.width_s:
        return "t.ts >= {first:DateTime64(3)}", "t.ts < {last:DateTime64(3)}"
    return "t.ts > {first:DateTime64(3)}", f"t.ts < {{last:DateTime64(3)}} + INTERVAL {tier.width_s} SECOND"


def _place(place: str, rows_only: bool = False) -> tuple[str, ...]:
    """First the frames that any device of the place is in, then its rows."""
    if not place:
        return ()
    rows = f"arrayExists(v -> {_match(place)}, [t.site, t.rack, t.node, t.device, t.job])"
    every = f"arrayExists(v -> {_match(place)}, arrayConcat([site], rack, node, device, job))"
    frames = Select(("who",), f"{DATABASE}.identities", (every,)).subquery()
    return (rows,) if rows_only else (f"t.who IN {frames}", rows)


def _match(place: str) -> str:
    return "startsWith(v, {place:String})" if place.endswith("*") else "v = {place:String}"


def _utc(moment: dt.datetime) -> dt.datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
