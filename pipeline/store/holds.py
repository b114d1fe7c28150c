"""Who held which device when: SQL that joins rows of telemetry with the view `held`.

A hold names a device, a board, or a whole node. It is in a row when the row's sample lies in it; of a roll-up when more
than half of its interval does, or the first half of it.
"""

from __future__ import annotations

from pipeline.store.select import Select, of
from schemas.jobs import GIVEN
from schemas.tables import DATABASE

#: Who a device is, as rows of every view have it.
WHO = ("site", "rack", "node", "device", "board")
_MS = "toUnixTimestamp64Milli"
#: Stands before the name of a node that is held whole.
WHOLE = "'all of '"


def holds(kind: str, *where: str) -> str:
    """A subquery: WHO, and `spans`, an array of (started ms, until ms, job, share, rank, whole node, what it names); a
    row a device.

    `where` are conditions on `held`. A hold that names its rack is of that rack's devices alone.
    """
    given = kind in GIVEN
    devices = Select(WHO, f"{DATABASE}.identities ARRAY JOIN rack, node, device, board", group=WHO).subquery()
    board_of = "splitByChar('/', board)[1]"
    keys = f"[device, board, {board_of}, concat({WHOLE}, node)]" if given else f"[concat({WHOLE}, node)]"
    mine = Select((*WHO, f"arrayJoin(arrayDistinct({keys})) AS key"), devices).subquery()
    held = Select(
        (
            *("site", "rack", "started", "until", "job"),
            "share" if given else "toFloat32(1) AS share",
            "rank" if given else "toUInt32(0) AS rank",
            "toUInt8(device = '') AS whole",
            f"if(device != '' AND {int(given)}, device, concat({WHOLE}, node)) AS key",
        ),
        f"{DATABASE}.held",
        where,
    ).subquery()
    span = f"({_MS}(h.started), {_MS}(h.until), h.job, h.share, h.rank, h.whole, h.key)"
    return Select(
        (*(f"d.{n} AS {n}" for n in WHO), f"groupUniqArray({span}) AS spans"),
        f"{mine} AS d INNER JOIN {held} AS h ON d.site = h.site AND d.key = h.key",
        ("d.key != ''", f"(h.rack = '' OR d.rack = '' OR h.rack = d.rack OR d.key IN (d.board, {_of('d')}))"),
        of("d", *WHO),
    ).subquery()


def _of(alias: str) -> str:
    return f"splitByChar('/', {alias}.board)[1]"


def within(width_s: int | str, at: str = "ts") -> str:
    """Whether a span `s` has a row that ends at `at`: its sample, or its interval of `width_s` (seconds, or SQL)."""
    ms = f"{_MS}({at})"
    if not width_s:
        return f"s.1 <= {ms} AND {ms} < s.2"
    width = f"1000 * {width_s}"
    # the half that lies in it, doubled: more than half, or half of it from its start on
    return f"2 * (least(s.2, {ms}) - greatest(s.1, {ms} - {width})) + (s.1 <= {ms} - {width}) > {width}"


def matched(rows: str, held: str, width_s: int | str, join: str) -> str:
    """Rows with the spans that each lies in."""
    equal = " AND ".join(f"r.{n} = h.{n}" for n in WHO)
    return Select(
        ("r.*", f"arrayFilter(s -> {within(width_s, 'r.ts')}, h.spans) AS spans_now"),
        f"{rows} AS r {join} JOIN {held} AS h ON {equal}",
    ).subquery()


def with_holder(rows: str, held: str, width_s: int) -> str:
    """A subquery: `rows` with `job`, the jobs that held the device, by name; empty where none did."""
    jobs = "arrayStringConcat(arraySort(arrayDistinct(arrayMap(s -> s.3, spans_now))), ', ') AS job"
    return Select(("* EXCEPT (spans_now)", jobs), matched(rows, held, width_s, "LEFT")).subquery()


def with_jobs(rows: str, held: str, width_s: int, *, keep: bool) -> str:
    """A subquery: `rows` with `job` and `share`, once for each job that held the device; `keep` those that no job held.

    `share` is the job's part of the device: holds of one job add up, to no more than the whole.
    """
    found = matched(rows, held, width_s, "LEFT" if keep else "INNER")
    share = "if(job = '', 1, least(1, arraySum(s -> if(s.3 = job, s.4, 0), spans_now))) AS share"
    return Select(
        ("* EXCEPT (spans_now)", "job", share),
        f"{found} {'LEFT ' if keep else ''}ARRAY JOIN arrayDistinct(arrayMap(s -> s.3, spans_now)) AS job",
    ).subquery()


def frames_of(held: str) -> tuple[str, ...]:
    """Conditions that leave only the stored frames that any of these devices is in: cheap, before the join."""
    there = Select(WHO, held).subquery()
    who = Select(
        ("who",), f"{DATABASE}.identities ARRAY JOIN rack, node, device, board", (f"({', '.join(WHO)}) IN {there}",)
    ).subquery()
    return f"who IN {who}", f"rack IN {Select(('rack',), held).subquery()}"
