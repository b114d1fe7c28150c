"""Named queries about what there is: assets, what a place held when, and what is silent."""

from __future__ import annotations

from pipeline.store import holds, places
from pipeline.store.question import EXPECTED, NEWEST, NamedQuery, latest
from pipeline.store.select import Select
from schemas.catalogue import KINDS
from schemas.tables import DATABASE

#: Seconds after which a device is silent: meters and coolant loops speak once a minute.
SILENT_S = {"power": 180, "cooling": 180}
_SILENT_S = 60
_EXPECTED = tuple(kind for kind, catalogue in KINDS.items() if catalogue.expected)
_CURRENT = "(toYear(valid_to) = 1970 OR valid_to > now64(3))"
_CALLED = "{called:Array(String)}"
#: A day of 10 s rows is looked through; before it, hours.
_DAY = f"{NEWEST} - INTERVAL 1 DAY"

_OF_ASSETS = ("site", "asset", "kind", "model", "serial", "hall", "row", "rack", "node", "device")

ASSETS = NamedQuery(
    "assets",
    "The inventory: assets and their places, who declared them, those out of service first; of one place or kind.",
    Select(
        (
            *("site", "asset", "kind", "model", "hall", "row", "rack", "slot", "node", "device", "origin", "state"),
            *("reason", "valid_from AS since"),
        ),
        f"{DATABASE}.assets FINAL",
        (
            _CURRENT,
            f"({{about:String}} = '' OR hasAny([{', '.join(_OF_ASSETS)}], {_CALLED}))",
        ),
        order=("state != 'active' DESC", "site", "hall", "row", "rack", "node", "device", "asset", "origin"),
        limit="{limit}",
    ).sql(),
    "no asset is known: sources emit what they see, and a site's inventory what it declares",
    "[PLACE|KIND]",
)


def _seen_at(kind: str) -> str:
    """Boards at the place and from when to when each was heard there: 10 s rows of a month, hours before it."""
    month = f"{NEWEST} - INTERVAL 29 DAY"
    parts = [
        Select(
            (
                f"'{kind}' AS kind",
                *holds.WHO,
                "model",
                f"min(ts) - INTERVAL {width} SECOND AS first",
                "max(ts) AS last",
            ),
            f"{DATABASE}.{kind}_{tier}",
            (when, *places.frames_at(""), places.matches("")),
            ("kind", *holds.WHO, "model"),
        ).sql()
        for tier, width, when in (("10s", 10, f"ts > {month}"), ("1h", 3600, f"ts <= {month}"))
    ]
    return " UNION ALL ".join(parts)


PLACE = NamedQuery(
    "place",
    "Which boards a place held when, or at which places a board was.",
    Select(
        (
            *("site", "rack", "node", "device", "kind", "model", "board"),
            "min(first) AS from",
            f"if(max(last) > {NEWEST} - INTERVAL 60 SECOND, NULL, max(last)) AS until",
        ),
        f"({' UNION ALL '.join(map(_seen_at, KINDS))})",
        group=("kind", *holds.WHO, "model"),
        order=("site", "rack", "node", "kind", "device", "from"),
        limit="{limit}",
    ).sql(),
    "nothing of that name was ever heard: name a site, rack, node, device, board, or what another system calls one",
    "PLACE",
)


def _heard(kind: str) -> str:
    """Devices with any value in the newest minute."""
    metrics = KINDS[kind].stored
    values = [f"{m.name}_{m.rolled[0]}" for m in metrics if m.windowed and kind == "gpu"] or [
        f"{m.name}_{m.rolled[0]}" for m in metrics
    ]
    return Select(
        ("site", "rack", "device", "board"),
        f"{DATABASE}.{kind}_10s",
        (
            f"ts > {NEWEST} - INTERVAL {SILENT_S.get(kind, _SILENT_S)} SECOND",
            f"isNotNull(coalesce({', '.join([*values, 'NULL'])}))",
        ),
    ).sql()


_HEARD = f"({' UNION DISTINCT '.join(map(_heard, _EXPECTED))})"
_KNOWN = f"(SELECT * FROM {EXPECTED} WHERE kind IN ({', '.join(repr(kind) for kind in _EXPECTED)}))"
#: What is heard, as assets: by its board, or by what another system calls the board.
_BOARDS = f"SELECT site, board FROM {_HEARD} WHERE board != ''"
_ASSETS_HEARD = (
    f"({_BOARDS} UNION DISTINCT SELECT site, asset FROM {DATABASE}.names FINAL WHERE (site, name) IN ({_BOARDS}))"
)
_STRANGERS = (
    f"(SELECT site, rack, device FROM {_HEARD} WHERE (site, board) NOT IN (SELECT site, asset FROM {_KNOWN}) "
    f"AND (site, board) NOT IN (SELECT site, name FROM {DATABASE}.names FINAL))"
)
#: An asset is heard by its board; by its place where what speaks there is no asset itself, or where it has no board.
_IS_SILENT = (
    f"(site, asset) NOT IN {_ASSETS_HEARD}",
    f"(site, rack, device) NOT IN {_STRANGERS}",
    f"(site, rack, asset) NOT IN (SELECT site, rack, device FROM {_HEARD})",
)


def _last_heard(kind: str) -> str:
    frames = f"{DATABASE}.{kind}"
    return (
        f"SELECT who, max(ts) AS at FROM {frames}_10s_frames WHERE ts > {_DAY} GROUP BY who UNION ALL "
        f"SELECT who, max(ts) AS at FROM {frames}_1h_frames WHERE ts <= {_DAY} GROUP BY who"
    )


#: When each device and board was in a row last.
_LAST = Select(
    (
        "i.site AS site",
        "arrayJoin(arrayDistinct([i.board, concat(i.rack, '\\n', i.device)])) AS unit",
        "max(f.at) AS at",
    ),
    f"({' UNION ALL '.join(map(_last_heard, _EXPECTED))}) AS f INNER JOIN (SELECT * FROM {DATABASE}.identities "
    "ARRAY JOIN rack, node, device, board) AS i ON f.who = i.who",
    group=("site", "unit"),
).subquery()
_SILENT = (
    "(SELECT k.site AS site, k.rack AS rack, k.node AS node, k.kind AS kind, k.device AS device, k.asset AS asset, "
    "k.silent AS silent, if(toYear(b.at) > 1970, b.at, p.at) AS at "
    f"FROM (SELECT *, {' AND '.join(_IS_SILENT)} AS silent FROM {_KNOWN}) AS k "
    f"LEFT JOIN {_LAST} AS b ON k.site = b.site AND k.asset = b.unit "
    f"LEFT JOIN {_LAST} AS p ON k.site = p.site AND concat(k.rack, '\\n', k.device) = p.unit)"
)
_NAMED = "arrayStringConcat(arraySlice(arraySort({0}), 1, 4), ', ') || if(length({0}) > 4, ', ...', '') AS devices"
_TEXT = "if(toYear({0}) = 1970, 'never', substring(toString({0}), 1, 19)) AS since"
_COLUMNS = ("site", "rack", "node", "kind", "silent", "expected", "since", "devices", "why")

_NOT_HEARD = Select(
    (
        *("site", "rack", "node", "kind", "sum(silent) AS missing", "count() AS expected"),
        _TEXT.format("maxIf(at, silent)"),
        _NAMED.format("groupArrayIf(if(device = '', asset, device), silent)"),
        "if(missing = expected, 'nothing is heard', 'not heard') AS why",
    ),
    _SILENT,
    group=("site", "rack", "node", "kind"),
    having="missing > 0",
).sql()
_ENDPOINTS = Select(
    (
        *(
            "site",
            "rack",
            "node",
            "'endpoint' AS kind",
            "toUInt64(count()) AS missing",
            "toUInt64(count()) AS expected",
        ),
        _TEXT.format("max(answered)"),
        _NAMED.format("groupArray(device)"),
        "'the endpoint does not answer' AS why",
    ),
    Select(
        (*("site", "rack", "node", "device"), "argMax(up_max, ts) AS up", "maxIf(ts, up_max > 0) AS answered"),
        f"{DATABASE}.endpoint_10s",
        (f"ts > {_DAY}",),
        ("site", "rack", "node", "device"),
        f"max(ts) > {NEWEST} - INTERVAL {_SILENT_S} SECOND",
    ).subquery(),
    ("up = 0",),
    ("site", "rack", "node"),
).sql()
#: Of racks that no inventory has, what the windows count.
_RACKS = Select(
    (
        *("site", "rack", "'' AS node", "'gpu' AS kind", "toUInt64(gpus_expected - gpus) AS missing"),
        *("toUInt64(gpus_expected) AS expected", "'' AS since", "'' AS devices"),
        "'fewer GPUs than expected' AS why",
    ),
    latest("rack_windows", 10),
    ("gpus < gpus_expected", "(site, rack) NOT IN (SELECT site, rack FROM " + _KNOWN + " WHERE kind = 'gpu')"),
).sql()

SILENT = NamedQuery(
    "silent",
    "What is expected and not heard in the newest minute, by rack and node; endpoints that do not answer.",
    Select(
        tuple(f"missing AS {name}" if name == "silent" else name for name in _COLUMNS),
        f"({_NOT_HEARD} UNION ALL {_ENDPOINTS} UNION ALL {_RACKS})",
        order=("kind = 'gpu' DESC", "silent DESC", "site", "rack", "node", "kind"),
        limit="{limit}",
    ).sql(),
    "everything that is expected reports",
)
