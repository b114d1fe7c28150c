"""What a named query is, and what many of them ask: the newest moment, windows, GPUs, who holds them."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.store import holds, places
from pipeline.store.select import Select
from schemas.catalogue import KINDS
from schemas.tables import DATABASE


@dataclass(frozen=True, slots=True)
class NamedQuery:
    """`{limit}` in the SQL is how many rows. `argument` names what the question is about, in brackets where it may be
    left out; the SQL has it as the parameter `about`, and as those of `places.Names`. `more` are further tables of the
    same answer.
    """

    name: str
    help: str
    sql: str
    nothing: str = "nothing of the kind is stored yet (windows close about 15 s after a factory starts)"
    argument: str = ""
    more: tuple[NamedQuery, ...] = ()

    @property
    def usage(self) -> str:
        return f"{self.name} {self.argument}".strip()


#: Seconds back from the newest scores that count as now.
RECENT_S = 30
#: The newest moment of the whole store: when GPUs are dark, something else goes on.
NEWEST = "(SELECT max(at) FROM ({}))".format(
    " UNION ALL ".join(f"SELECT max(ts) AS at FROM {DATABASE}.{kind}_10s_frames" for kind in KINDS)
)


def latest(table: str, window_s: int) -> str:
    """The newest row of every site (and rack) within a minute of the newest of all: partitions do not close in step."""
    where = f"window_s = {window_s}"
    per = "site, rack" if table == "rack_windows" else "site"
    return (
        f"(SELECT * FROM {DATABASE}.{table} FINAL WHERE {where} AND ts > (SELECT max(ts) FROM "
        f"{DATABASE}.{table} WHERE {where}) "
        f"- INTERVAL 60 SECOND ORDER BY ts DESC LIMIT 1 BY {per})"
    )


#: The newest 10 s of every GPU of the newest half minute.
GPUS = Select(
    ("*",),
    f"{DATABASE}.gpu_10s",
    (f"ts > (SELECT max(ts) FROM {DATABASE}.gpu_10s_frames) - INTERVAL {RECENT_S} SECOND",),
    order=("ts DESC",),
    limit=f"1 BY site, {places.UNIT}",
).subquery()
#: Who holds GPUs now: those of `GPUS`, and a minute before.
HELD_NOW = holds.holds("gpu", f"until > (SELECT max(ts) FROM {DATABASE}.gpu_10s_frames) - INTERVAL 60 SECOND")

#: What is expected to report; an asset that is known by its place alone gives way to one with a board there.
EXPECTED = (
    f"(SELECT * FROM {DATABASE}.expected WHERE NOT (asset = device AND (site, rack, device) IN "
    f"(SELECT site, rack, device FROM {DATABASE}.expected WHERE asset != device)))"
)
#: GPUs that there ought to be: of a site without an inventory those that were heard.
KNOWN_GPUS = (
    f"(SELECT site, rack, node, device, asset, hall, row FROM {EXPECTED} WHERE kind = 'gpu' UNION ALL "
    "SELECT site, rack, node, device, if(board = '', device, board) AS asset, '' AS hall, '' AS row FROM "
    f"{GPUS} WHERE site NOT IN (SELECT site FROM {DATABASE}.expected WHERE kind = 'gpu'))"
)
