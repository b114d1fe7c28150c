"""The views over the inventory and the jobs: who holds which GPUs, and which assets are expected to report."""

from __future__ import annotations

from collections.abc import Callable

from schemas.catalogue import KINDS
from schemas.inventory import OPERATOR, SEEN
from schemas.jobs import STALE_S
from schemas.tables import DATABASE

#: What `held` shows.
HELD = ("site", "scheduler", "job", "rack", "node", "device", "share", "rank", "started", "until", "open")
#: Where an asset is and what it is; an operator's row need not name it.
_PLACE = ("kind", "model", "hall", "row", "rack", "slot", "node", "device")
_WORD = ("origin", "state", "reason")
#: By what an operator names it, the nearest first, and whether that is the asset itself.
_NEAR = {"asset": True, "device": True, "node": False, "rack": False}
#: What `expected` shows.
EXPECTED = ("site", "asset", *_PLACE, *_WORD)
#: `until` of what is still held.
_OPEN_END = "toDateTime64('2200-01-01 00:00:00', 3, 'UTC')"
_EMPTY = "''"
_NEVER = "toDateTime64(0, 3, 'UTC')"


def held(cluster: str = "") -> str:
    """The statement that makes a row a device of an allocation; `device` is a name or a board's UUID, and empty for all
    GPUs of the node. `rank` counts on from the allocation's first; `until` is far ahead while the job holds it.

    A hold that its source has not repeated for STALE_S of what is stored is over since then, as the workers have it:
    a source that starts again does not know what it had before.
    """
    newest = " UNION ALL ".join(
        f"SELECT max({column}) AS at FROM {DATABASE}.{table}"
        for column, table in (("seen", "allocations"), ("ts", "site_windows"))
    )
    stale = f"a.seen + INTERVAL {STALE_S} SECOND"
    is_open = f"a.ended = {_NEVER} AND {stale} > (SELECT max(at) FROM ({newest}))"
    columns = (
        "a.site AS site",
        "a.scheduler AS scheduler",
        "a.job AS job",
        "a.rack AS rack",
        "a.node AS node",
        "one AS device",
        "ifNull(a.share, 1) AS share",
        "toUInt32(a.first_rank + if(place = 0, 0, place - 1)) AS rank",
        "a.started AS started",
        f"multiIf({is_open}, {_OPEN_END}, a.ended = {_NEVER}, {stale}, a.ended) AS until",
        f"toUInt8({is_open}) AS open",
    )
    return (
        f"{_create('held', cluster)} SELECT {', '.join(columns)} FROM {DATABASE}.allocations AS a FINAL "
        "LEFT ARRAY JOIN a.devices AS one, arrayEnumerate(a.devices) AS place"
    )


def expected(cluster: str = "") -> str:
    """The statement that shows the assets that are expected to report now: of a kind of telemetry, and active.

    Of an asset's rows that are valid now, one that somebody declared counts before what a source has seen. An
    operator's word on the asset, on its name, node or rack, the nearest of these, goes before all; on a node or rack
    only where it takes them out of service, so that a rack that is back does not revive what is retired.
    """
    valid = f"valid_from <= now64(3) AND (valid_to = {_NEVER} OR valid_to > now64(3))"
    rows = f"{DATABASE}.assets FINAL WHERE {valid}"
    # declared before seen, then what is valid since last, then what was seen last
    rank = f"(r.origin != '{OPERATOR}', r.origin != '{SEEN}', r.valid_from, r.seen, r.origin)"
    assets = _newest(rows, (*_PLACE, *_WORD), rank)
    orders = _newest(f"{rows} AND origin = '{OPERATOR}'", _WORD, "(r.valid_from, r.seen)")
    out = f"SELECT * FROM ({orders}) WHERE state != 'active'"
    joins = [
        f"{'GLOBAL ' if cluster else ''}LEFT ANY JOIN ({orders if own else out}) AS by_{name} "
        f"ON b.site = by_{name}.site AND b.{name} = by_{name}.asset"
        for name, own in _NEAR.items()
    ]
    word = {
        v: f"multiIf({', '.join(f'by_{name}.state != {_EMPTY}, by_{name}.{v}' for name in _NEAR)}, b.{v})"
        for v in _WORD
    }
    kinds = ", ".join(f"'{kind}'" for kind in KINDS)
    columns = (
        *(f"b.{name} AS {name}" for name in ("site", "asset", *_PLACE)),
        *(f"{sql} AS {v}" for v, sql in word.items()),
    )
    return (
        f"{_create('expected', cluster)} SELECT {', '.join(columns)} FROM ({assets}) AS b {' '.join(joins)} "
        f"WHERE b.kind IN ({kinds}) AND (b.device != '' OR b.kind = 'gpu') AND {word['state']} = 'active'"
    )


def _newest(rows: str, names: tuple[str, ...], rank: str) -> str:
    """A row an asset: of its rows the one of the highest rank, all columns at once."""
    every, each = (
        ", ".join(f"r.{name}" for name in names),
        ", ".join(f"best.{n} AS {name}" for n, name in enumerate(names, 1)),
    )
    one = f"SELECT r.site AS site, r.asset AS asset, argMax(({every}), {rank}) AS best FROM (SELECT * FROM {rows}) AS r"
    return f"SELECT site, asset, {each} FROM ({one} GROUP BY 1, 2)"


def _create(name: str, cluster: str) -> str:
    on = f" ON CLUSTER '{cluster}'" if cluster else ""
    return f"CREATE OR REPLACE VIEW {DATABASE}.{name}{on} AS"


#: View -> its columns, and what makes it.
MODEL_VIEWS: dict[str, tuple[tuple[str, ...], Callable[[str], str]]] = {
    "held": (HELD, held),
    "expected": (EXPECTED, expected),
}
