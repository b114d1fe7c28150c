"""The named query about what is behind a breaker, feed, CDU, rack or node: what goes with it, or loses its spare."""

from __future__ import annotations

from pipeline.store.question import EXPECTED, GPUS, KNOWN_GPUS, NamedQuery, latest
from pipeline.store.select import Select
from schemas.catalogue import KINDS
from schemas.tables import DATABASE

_CALLED = "{called:Array(String)}"
_KINDS = ", ".join(f"'{kind}'" for kind in KINDS)

#: What is behind it by the newest closure of the edges; and it itself, wherever something is called so.
_BEHIND = (
    "SELECT r.site AS site, r.downstream AS name, r.lost AS lost FROM "
    f"(SELECT * FROM {DATABASE}.reach FINAL WHERE upstream IN {_CALLED}) AS r INNER JOIN "
    f"(SELECT site, max(made) AS made FROM {DATABASE}.reach GROUP BY site) AS n "
    "ON r.site = n.site AND r.made = n.made UNION ALL "
    f"SELECT site, arrayJoin({_CALLED}) AS name, toUInt8(1) AS lost FROM "
    f"(SELECT site FROM {DATABASE}.assets UNION DISTINCT SELECT site FROM {DATABASE}.reach UNION DISTINCT "
    f"SELECT site FROM {DATABASE}.identities)"
)
#: The same with the places of assets: a rack's asset id stands for its rack.
_AT = f"multiIf(kind = 'rack', rack, kind = 'node', node, kind IN ({_KINDS}), device, '')"
_KEYS = (
    "(SELECT site, called AS name, max(lost) AS lost FROM (SELECT b.site AS site, b.lost AS lost, "
    "arrayJoin(arrayDistinct([b.name, a.at])) AS called FROM "
    f"({_BEHIND}) AS b LEFT JOIN (SELECT DISTINCT site, asset, {_AT} AS at FROM {DATABASE}.assets FINAL "
    "WHERE toYear(valid_to) = 1970) AS a ON a.site = b.site AND a.asset = b.name) "
    "WHERE called != '' GROUP BY site, name)"
)
_OF_GPU = Select(
    ("site", "rack", "device", "max(power_w_mean) AS power_w"), GPUS, group=("site", "rack", "device")
).subquery()
#: All that may be behind it: devices and what they draw, and what jobs hold now.
_THINGS = (
    "(SELECT k.*, g.power_w AS power_w FROM (SELECT site, rack, node, device, asset, hall, row, kind, '' AS job FROM "
    f"{EXPECTED} WHERE kind != 'gpu' UNION ALL SELECT site, rack, node, device, asset, hall, row, 'gpu' AS kind, "
    f"'' AS job FROM {KNOWN_GPUS}) AS k LEFT JOIN {_OF_GPU} AS g ON k.site = g.site AND k.rack = g.rack AND "
    "k.device = g.device UNION ALL "
    "SELECT h.site, if(h.rack = '', n.rack, h.rack), h.node, h.device, '', n.hall, n.row, 'hold', h.job, NULL FROM "
    f"(SELECT * FROM {DATABASE}.held WHERE open = 1) AS h LEFT JOIN "
    "(SELECT site, node, any(rack) AS rack, any(hall) AS hall, any(row) AS row FROM "
    f"{KNOWN_GPUS} GROUP BY site, node) AS n ON h.site = n.site AND h.node = n.node)"
)
_THING = ("site", "rack", "node", "device", "asset", "hall", "row", "kind", "job", "power_w")


def _reached(*names: str) -> str:
    """0, or how a thing is behind it by one of these names: 1 with a spare left, 2 lost."""
    return f"maxIf(k.lost + 1, k.name IN ({', '.join(f't.{name}' for name in names)}))"


_REACHED = Select(
    (
        *(f"t.{name} AS {name}" for name in _THING),
        f"{_reached('rack', 'hall', 'row')} AS by_rack",
        f"{_reached('rack', 'node', 'hall', 'row')} AS by_node",
        "max(k.lost + 1) AS by_any",
    ),
    "(SELECT *, arrayJoin(arrayDistinct(arrayFilter(v -> v != '', [rack, node, device, asset, hall, row]))) AS name "
    f"FROM {_THINGS}) AS t INNER JOIN {_KEYS} AS k ON t.site = k.site AND t.name = k.name",
    group=tuple(f"t.{name}" for name in _THING),
).subquery()
_AS_ROWS = (
    "arrayJoin([('rack', rack, by_rack, 0.), ('node', concat(rack, '\\n', node), if(node = '', 0, by_node), 0.), "
    "('gpu', concat(rack, '\\n', if(device = '', asset, device)), if(kind = 'gpu', by_any, 0), "
    "if(kind = 'gpu' AND by_rack = 0, toFloat64(ifNull(power_w, 0)), 0.)), ('job', job, by_any, 0.)]) AS one"
)
#: Racks, nodes, GPUs and jobs, each once: what is lost in one place is lost. A rack draws what its meter reads, or its
#: GPUs where it has none; GPUs draw for themselves where their rack is not behind it as a whole.
_EACH = Select(
    ("site", "one.1 AS what", "one.2 AS name", "max(one.3) AS state", "max(one.4) AS watts"),
    f"(SELECT site, {_AS_ROWS} FROM {_REACHED})",
    ("one.2 != ''", "one.3 > 0"),
    ("site", "what", "name"),
).subquery()
_METERED = f"(SELECT site, rack, coalesce(rack_power_w, gpu_power_w, 0) AS watts FROM {latest('rack_windows', 60)})"
_JOBS = "arraySort(groupArrayIf(e.name, e.what = 'job'))"

BLAST_RADIUS = NamedQuery(
    "blast-radius",
    "What goes with a breaker, feed, CDU, PDU, rack or node, and what it leaves without redundancy: MW, GPUs, jobs.",
    Select(
        (
            "e.site AS site",
            "if(e.state = 2, 'lost', 'redundancy lost') AS effect",
            "round(sum(e.watts + if(e.what = 'rack', m.watts, 0)) / 1e6, 6) AS mw",
            *(f"countIf(e.what = '{what}') AS {what}s" for what in ("rack", "node", "gpu")),
            "gpus * 24 AS gpu_hours_a_day",
            "countIf(e.what = 'job') AS jobs",
            f"arrayStringConcat(arraySlice({_JOBS}, 1, 5), ', ') || if(jobs > 5, ', ...', '') AS job_names",
        ),
        f"{_EACH} AS e LEFT JOIN {_METERED} AS m ON e.site = m.site AND e.name = m.rack",
        group=("e.site", "e.state"),
        order=("site", "e.state DESC"),
        limit="{limit}",
    ).sql(),
    "nothing is known behind that name; `gigawatch query assets` lists what the inventory has",
    "NAME",
)
