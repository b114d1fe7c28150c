"""The query behind `history`: one tier's rows of a place or a job, in buckets of time, a line per what is asked."""

from __future__ import annotations

from pipeline.store import holds, places
from pipeline.store.select import Select
from pipeline.store.tiers import TIERS, Tier
from schemas.metric import Metric

#: A counter's first sample in the range grows from the newest sample of up to so long before.
_LOOK_BACK_S = 300
_MS = "toUnixTimestamp64Milli"
#: What a line is named by. A device that has no board is a line of its own.
_LINES = {"board": "if(t.board = '', t.device, t.board)"}
_IN_RANGE = ("ts >= {first:DateTime64(3)}", "ts < {last:DateTime64(3)}")
_IDENTITY = ("ts", *holds.WHO)


def select(kind: str, metric: Metric, tier: Tier, place: str, job: str, by: str) -> Select:
    """The query; its parameters are `first`, `last`, `every` (ms), `limit`, `job` and those of `places`."""
    steps = metric.kind == "counter" and not tier.width_s
    held = ""
    if job or by == "job":
        # of the range alone: a job of a year ago is found as fast as today's
        alive = ("started < {last:DateTime64(3)}", f"until > {{first:DateTime64(3)}} - INTERVAL {tier.width_s} SECOND")
        held = holds.holds(kind, *alive, *(("job = {job:String}",) if job else ()))
    rows = (
        _steps(kind, metric.name, place, held if job else "") if steps else _rows(kind, metric, tier, place, held, job)
    )
    if held:
        rows = holds.with_jobs(rows, held, tier.width_s, keep=not job)
    # a job that shares a board has its part of the energy
    share = " * t.share" if held and metric.unit == "J" else ""
    stats = (f"sum(t.step{share}) AS increase", "count() AS samples") if steps else _stats(metric, tier, share)
    # a roll-up's row is named by its end: its start decides which row it falls in
    start = f"{_MS}(t.ts) - {1000 * tier.width_s}"
    lines: dict[str, str] = {by: _LINES.get(by, f"t.{by}")} | ({"board": "t.board"} if by == "device" else {})
    return Select(
        (
            f"fromUnixTimestamp64Milli(intDiv({start}, {{every:Int64}}) * {{every:Int64}}, 'UTC') AS bucket",
            *(f"{expression} AS {name}" for name, expression in lines.items()),
            *stats,
        ),
        f"{rows} AS t",
        (),
        ("bucket", *lines.values()),
        "samples > 0",
        ("bucket", *lines),
        "{limit:UInt32}",
    )


def _rows(kind: str, metric: Metric, tier: Tier, place: str, held: str, job: str) -> str:
    """The tier's rows in the range, of the place; of a job only those of frames that its devices are in."""
    names = (metric.name,) if not tier.width_s else ("samples", *(f"{metric.name}_{s}" for s in metric.rolled))
    where = _range(tier)
    if place:
        where += (*places.frames_at(place), places.matches(place))
    if job:
        where += holds.frames_of(held)
    return Select((*_IDENTITY, *names), tier.view(kind), where).subquery()


def _stats(metric: Metric, tier: Tier, share: str) -> tuple[str, ...]:
    """The aggregates; a row without the metric is in none of them, `samples` included."""
    name = f"t.{metric.name}"
    if not tier.width_s:
        return f"avg({name}) AS mean", f"max({name}) AS max", f"count({name}) AS samples"
    samples = f"sumIf(t.samples, isNotNull({name}_{metric.rolled[0]})) AS samples"
    if metric.kind == "counter":
        return f"sum({name}_inc{share}) AS increase", samples
    mean = "CAST(NULL AS Nullable(Float64))"
    if "mean" in metric.rolled:
        mean = f"sum({name}_mean * t.samples) / sumIf(t.samples, isNotNull({name}_mean))"
    return f"{mean} AS mean", f"max({name}_max) AS max", samples


def _steps(kind: str, name: str, place: str, held: str) -> str:
    """Samples of a counter in the range with `step`, what each adds to its device's sample before it; a counter that
    goes backwards starts again at 0.

    A counter is its board's, wherever the board is; a device without one is its place.
    """
    wider: tuple[str, ...] = (
        f"ts >= {{first:DateTime64(3)}} - INTERVAL {_LOOK_BACK_S} SECOND",
        _IN_RANGE[1],
        f"isNotNull({name})",
    )
    if place:
        wider += places.units_at(place)
    if held:
        wider += holds.frames_of(held)
    before = f"lagInFrame({name}) OVER (PARTITION BY site, {places.UNIT} ORDER BY ts) AS before"
    step = f"multiIf(isNull(before), 0, {name} < before, {name}, {name} - before) AS step"
    source = Select((*_IDENTITY, name, before), TIERS[0].view(kind), wider).subquery()
    where = (_IN_RANGE[0], *((places.matches(place),) if place else ()))
    return Select((*_IDENTITY, step), source, where).subquery()


def _range(tier: Tier) -> tuple[str, ...]:
    """Samples in the range; of a roll-up every row that overlaps it."""
    if not tier.width_s:
        return _IN_RANGE
    return "ts > {first:DateTime64(3)}", f"ts < {{last:DateTime64(3)}} + INTERVAL {tier.width_s} SECOND"
