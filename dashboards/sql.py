"""SQL that boards share: table names, scopes, tiers that fit the time range, the hardware catalogue, rows of racks."""

from __future__ import annotations

from collections.abc import Mapping

from schemas import hardware, thresholds
from schemas.catalogue import KINDS
from schemas.tables import DATABASE, STORED

_TIERS = ("raw", "10s", "1m", "1h")
_KNOWN = {
    *STORED.values(),
    "dead_letters",
    "identities",
    *KINDS,
    *(f"{kind}_{tier}" for kind in KINDS for tier in _TIERS),
}


def stored(name: str) -> str:
    """Returns a table or view of the store that has a row a device, window, score and so on; KeyError for one that the
    store does not have, so that a renamed table cannot blank a panel.
    """
    if name not in _KNOWN:
        raise KeyError(f"the store has no table {name}; it has {', '.join(sorted(_KNOWN))}")
    return f"{DATABASE}.{name}"


RACK_WINDOWS, SITE_WINDOWS = stored("rack_windows"), stored("site_windows")
SCORES, INCIDENTS, LABELS, QUALITY = stored("scores"), stored("incidents"), stored("labels"), stored("quality")
DEAD_LETTERS = stored("dead_letters")
GPU_10S, POWER_10S, COOLING_10S = stored("gpu_10s"), stored("power_10s"), stored("cooling_10s")
POWER_RAW, ENDPOINT_10S = stored("power_raw"), stored("endpoint_10s")
IDENTITIES = stored("identities")

#: Variables as SQL, quoted by Grafana itself: a name from telemetry is data, whatever is in it.
SITE = "site IN (${site:singlequote})"
RACK = f"{SITE} AND rack = ${{rack:singlequote}}"
GPU = f"{RACK} AND device = ${{gpu:singlequote}}"

#: "Now" is the last minutes of the range, so that a long range reads no more for it.
NOW = "ts > $__toTime - INTERVAL 3 MINUTE AND ts <= $__toTime"

#: A row of racks: a rack's name up to its last dash (`A01-R05` stands in `A01`); plain numbers go eight to a
#: row, as one row CDU serves. (No `$` before a quote: Grafana's plugin puts this through JavaScript's replace, where
#: that means the rest of the text.)
ROW = (
    "if(position(rack, '-') > 0, arrayStringConcat(arrayPopBack(splitByChar('-', rack)), '-'), "
    "concat('row ', leftPad(toString(intDiv(greatest(toUInt32OrZero(arrayElement(extractAll(rack, '[0-9]+'), "
    "-1)), 1) - 1, 8) + 1), 3, '0')))"
)
IN_ROW = f"$__conditionalAll({ROW} IN (${{row:singlequote}}), $row)"

#: Seconds that the range really covers: a factory that started ten minutes ago has no hours.
_SPAN = (
    "least(dateDiff('second', $__fromTime, $__toTime), greatest(1, dateDiff('second', (SELECT min(ts) FROM "
    f"{SITE_WINDOWS}), $__toTime)))"
)
#: Tiers by the seconds that they serve: some hundred to a thousand points a line each.
RAW_S, TEN_S, MINUTE_S = 600, 3 * 3600, 48 * 3600
TIER = (
    f"SELECT multiIf(s <= {RAW_S}, 'raw', s <= {TEN_S}, '10s', s <= {MINUTE_S}, '1m', '1h') AS tier FROM (SELECT "
    f"{_SPAN} AS s)"
)
ROLLED = f"SELECT multiIf(s <= {TEN_S}, '10s', s <= {MINUTE_S}, '1m', '1h') AS tier FROM (SELECT {_SPAN} AS s)"
#: Rolling windows by the range: 10 s each 10 s, a minute each 10 s, five minutes each minute.
WINDOW = f"SELECT multiIf(s <= {RAW_S}, '10', s <= {TEN_S}, '60', '300') AS width FROM (SELECT {_SPAN} AS s)"
HOP = "if($window = 300, 60, 10)"


def tiered(kind: str) -> str:
    """The table of a kind that fits the range; at a few minutes it is the raw samples.

    Columns are `<metric>_mean` and `<metric>_max`.
    """
    return f"{stored(kind)}_${{tier}}"


def rolled(kind: str) -> str:
    """The same, but never raw: for counters' increases (`<metric>_inc`)."""
    return f"{stored(kind)}_${{rolled}}"


def frames_table(kind: str, tier: str = "") -> str:
    """The name of the table behind a kind's view, raw or of a tier: a row per rack or message and moment, metrics as
    arrays over its devices.
    """
    return f"{kind}_{tier}_frames" if tier else f"{kind}_frames"


def frames(kind: str, tier: str = "") -> str:
    """That table, to be read from."""
    return f"{DATABASE}.{frames_table(kind, tier)}"


def rolled_frames(kind: str) -> str:
    """That table of the tier that fits the range, never raw. FINAL, as the views have it: a bucket that was made again
    counts once.
    """
    return f"{frames(kind, '${rolled}')} FINAL"


#: The column of a frame that names its devices, in order.
DEVICE_SET = "who"


def same_devices(frame: str, devices: str) -> str:
    """The condition that joins a frame to its devices, by their aliases."""
    return f"{frame}.{DEVICE_SET} = {devices}.{DEVICE_SET}"


def device_sets(columns: str) -> str:
    """The devices of all frames of the chosen sites as a subquery: `columns` (rack, node, device, model, board) are
    arrays in the order of a frame's.
    """
    return f"(SELECT {DEVICE_SET}, {columns} FROM {IDENTITIES} FINAL WHERE {SITE})"


def text(value: str) -> str:
    """A string literal."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def by_model(values: Mapping[str, float]) -> str:
    """The value of each row's `model`, by the catalogue's names, under which sources report; NULL for others."""
    names, numbers = ", ".join(map(text, values)), ", ".join(f"{v:g}" for v in values.values())
    return f"transform(model, [{names}], [{numbers}], NULL)"


def provisioned_w() -> str:
    """W that a rack may draw, from its GPUs' model in the hardware catalogue; NULL for a model that it does not
    have.
    """
    racks = {rack.gpu.name: rack.max_power_w for rack in reversed(hardware.load().racks.values())}
    return by_model(racks)


def tdp_w() -> str:
    """W, a GPU's TDP by its model; NULL for a model that the catalogue does not have."""
    return by_model({gpu.name: gpu["tdp_w"] for gpu in hardware.load().gpus.values()})


def metric(kind: str, name: str, stat: str = "mean") -> str:
    """The column of a catalogue's metric in a tier; KeyError for one that it lacks, so that a renamed metric cannot
    blank a panel.
    """
    found = KINDS[kind][name]
    if stat not in found.rolled:
        raise KeyError(f"{kind}.{name} is kept as {', '.join(found.rolled)}, not {stat}")
    return f"{name}_{stat}"


def newest(table: str, window_s: int, per: str, where: str = "") -> str:
    """The newest row of every `per` (site, or site and rack) of a table of windows, as a subquery."""
    more = f" AND {where}" if where else ""
    return (
        f"(SELECT * FROM {table} WHERE {NOW} AND {SITE} AND window_s = {window_s}{more} ORDER BY ts DESC, "
        f"version DESC LIMIT 1 BY {per})"
    )


def racks_now(window_s: int = 60, where: str = "") -> str:
    return newest(RACK_WINDOWS, window_s, "site, rack", where)


def sites_now(window_s: int = 60) -> str:
    return newest(SITE_WINDOWS, window_s, "site")


#: Scores of the newest half minute; nothing when none of it is anomalous.
FRESH = f"{SITE} AND ts > (SELECT max(ts) FROM {SITE_WINDOWS} WHERE {NOW}) - INTERVAL 30 SECOND AND {NOW}"

#: Each moment of each site once, whatever the window's width. FINAL: a moment whose parts arrive one after the other
#: is stored again with more of them, and until the store has merged both they would count twice. (A rack's row is
#: stored again with other columns filled; its means are the same.)
SITES_OVER = f"FROM {SITE_WINDOWS} FINAL WHERE $__timeFilter(ts) AND {SITE} AND window_s = $window"


def site_over(columns: str) -> str:
    """Columns of each site over the range."""
    return f"SELECT $__timeInterval(ts) AS time, site, {columns} {SITES_OVER} GROUP BY time, site ORDER BY time, site"


def off_balance(column: str = "heat_balance") -> str:
    return f"abs({column} - {thresholds.HEAT_BALANCE:g})"


def reasons(bits: str) -> str:
    """DCGM's clock event reasons as the word of the most severe one."""
    return (
        f"multiIf(bitAnd({bits}, {thresholds.THROTTLE_HW}) > 0, 'hardware slowdown', bitAnd({bits}, "
        f"{thresholds.THROTTLE_SW_THERMAL}) > 0, 'thermal limit', "
        f"bitAnd({bits}, {thresholds.THROTTLE_POWER_CAP}) > 0, 'power cap', bitAnd({bits}, {thresholds.THROTTLE_IDLE}) "
        "> 0, 'idle', 'none')"
    )
