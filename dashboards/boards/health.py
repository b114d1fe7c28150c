"""The pipeline itself: is the data fresh, complete and small."""

from __future__ import annotations

from dashboards import panels, variables
from dashboards.board import Board
from dashboards.links import TO_RACK
from dashboards.queries.silence import DOWN, ENDPOINTS, SILENT
from dashboards.sql import DEAD_LETTERS, QUALITY, SITE, SITE_WINDOWS, frames, frames_table, rolled_frames, sites_now
from schemas.catalogue import KINDS
from schemas.tables import DATABASE
from schemas.thresholds import FRESH_LATE_S, FRESH_SLOW_S

_FRESH = (("green", None), ("yellow", FRESH_SLOW_S), ("red", FRESH_LATE_S))
#: In panels that show the last five minutes of the range only: raw frames are many.
_LATELY = "$__timeFilter(ts)"
_EACH = " UNION ALL ".join(
    f"SELECT '{k}' AS kind, ts, kafka_ts, stored_at, rows FROM {frames(k)} WHERE {SITE} AND {_LATELY}" for k in KINDS
)
_PARTS = f"FROM system.parts WHERE active AND database = '{DATABASE}'"
#: The stage that a table belongs to.
_STAGE = (
    f"multiIf(table IN ({', '.join(repr(frames_table(k)) for k in KINDS)}), '1 raw samples', table "
    "LIKE '%\\_10s%', '3 roll-ups of 10 s', "
    "table LIKE '%\\_1m%', '4 roll-ups of 1 min', table LIKE '%\\_1h%', '5 roll-ups of 1 h', table LIKE "
    "'%windows%', '2 rolling windows', table IN "
    "('scores', 'incidents', 'quality', 'labels'), '6 scores and incidents', '7 the rest')"
)
_VALUES = " UNION ALL ".join(
    f"SELECT '{k}' AS kind, (SELECT sum(rows) {_PARTS} AND table = '{frames_table(k)}') * (SELECT "
    f"ifNotFinite(avg(rows), 0) FROM {frames(k)} WHERE {_LATELY}) * "
    f"{len(KINDS[k].stored)} AS held, "
    f"(SELECT sum(bytes_on_disk) {_PARTS} AND table = '{frames_table(k)}') AS bytes"
    for k in KINDS
)


def board() -> Board:
    """Key figures; freshness, lag and rows over time; stored sizes; dead letters; data quality."""
    shown = (
        panels.stat(
            "Fresh within",
            "SELECT quantile(0.5)(dateDiff('millisecond', ts, stored_at)) / 1000 AS p50, "
            "quantile(0.99)(dateDiff('millisecond', "
            f"ts, stored_at)) / 1000 AS p99 FROM ({_EACH})",
            "s",
            "From a sample's own time until it can be queried. Nothing shown is newer than this.",
            _FRESH,
            span=6,
            decimals=2,
            last="5m",
        ),
        panels.stat(
            "Newest sample",
            "SELECT max(dateDiff('millisecond', newest, $__toTime)) / 1000 AS age FROM (SELECT kind, max(ts) "
            "AS newest FROM "
            f"({_EACH}) GROUP BY kind)",
            "s",
            "Age of the newest sample at the end of the range, of the kind that is furthest behind. It grows when "
            "telemetry stops.",
            _FRESH,
            span=4,
            decimals=1,
            last="5m",
        ),
        panels.stat(
            "Dead letters",
            f"SELECT count() AS value FROM {DEAD_LETTERS} FINAL WHERE $__timeFilter(ts)",
            "none",
            "Messages in the range that could not be read or stored: kept whole, see `gigawatch dlq list`.",
            panels.ANY,
            span=4,
        ),
        panels.stat(
            "Stored",
            f"SELECT sum(bytes_on_disk) AS value {_PARTS}",
            "bytes",
            "Everything on disk, compressed.",
            span=3,
            decimals=2,
        ),
        panels.stat(
            "Bytes a value",
            f"SELECT sum(bytes) / sum(held) AS value FROM ({_VALUES})",
            "none",
            "Of raw telemetry, indexes and origin included; devices a frame taken from the last five minutes.",
            span=3,
            decimals=2,
            last="5m",
        ),
        panels.stat(
            "Parts",
            f"SELECT count() AS value {_PARTS}",
            "none",
            "Active parts of all tables. Thousands and growing: merges fall behind.",
            (("green", None), ("yellow", 3000), ("red", 10000)),
            span=4,
            decimals=0,
        ),
        panels.stat(
            "Endpoints",
            ENDPOINTS,
            "none",
            "Endpoints that sources read, such as dcgm-exporters: those that answered in the newest 10 s, and those "
            "that are down. What a down endpoint serves is not heard.",
            span=6,
            decimals=0,
            colours={"answering": "green", "down": "red"},
            empty="no source here reads endpoints",
        ),
        panels.stat(
            "Not heard",
            f"SELECT sum(gpus_expected) - sum(gpus) AS GPUs, (SELECT sum(silent) FROM ({SILENT})) AS devices FROM "
            f"{sites_now()}",
            "none",
            "GPUs that are expected and gave no sample in the newest minute, and silent devices of all kinds.",
            panels.ANY,
            span=6,
            decimals=0,
        ),
        panels.table(
            "Endpoints that are down",
            DOWN,
            "Endpoints without an answer, with their node and rack and since when: unreachable, refusing, or answering "
            "with nothing that can be read. The longest first.",
            span=12,
            height=4,
            links={"rack": TO_RACK},
            hidden=["site"],
            empty="none is down",
        ),
        panels.table(
            "Silent devices",
            SILENT,
            "Expected but not heard in the newest 10 s, by rack and node, the most first. An endpoint above that "
            "serves them is the cause; else look at the node.",
            span=24,
            height=6,
            links={"rack": TO_RACK},
            hidden=["site"],
            empty="none: every expected device reports",
        ),
        panels.graph(
            "Freshness",
            "SELECT toDateTime(ts) AS time, kind, quantile(0.99)(dateDiff('millisecond', ts, stored_at)) / "
            "1000 AS p99 FROM "
            f"({_EACH}) GROUP BY time, kind ORDER BY time, kind",
            "s",
            "From sample to query, p99 by kind, last five minutes of the range.",
            low=0,
            thresholds=_FRESH,
            last="5m",
        ),
        panels.graph(
            "Windows' freshness",
            "SELECT $__timeInterval(ts) AS time, site, max(dateDiff('millisecond', ts, stored_at)) / 1000 AS "
            "behind FROM "
            f"{SITE_WINDOWS} WHERE $__timeFilter(ts) AND {SITE} AND window_s = 60 GROUP BY time, site ORDER BY time, "
            "site",
            "s",
            "From the end of a window until it can be queried, over the whole range: allowed lateness, the worker "
            "and the sink.",
            low=0,
            thresholds=_FRESH,
        ),
        panels.graph(
            "Lag in Kafka",
            "SELECT toDateTime(kafka_ts) AS time, kind, max(dateDiff('millisecond', kafka_ts, stored_at)) / "
            "1000 AS lag FROM "
            f"({_EACH}) GROUP BY time, kind ORDER BY time, kind",
            "s",
            "From a message's arrival in Kafka until it is stored: the sink's share of the delay.",
            low=0,
            last="5m",
        ),
        panels.graph(
            "Samples",
            "SELECT * FROM ("
            + " UNION ALL ".join(
                f"SELECT $__timeInterval(ts) AS time, '{k}' AS kind, sum(arraySum(samples)) / "
                f"$__interval_s AS samples FROM {rolled_frames(k)} WHERE $__timeFilter(ts) AND {SITE} GROUP BY time"
                for k in KINDS
            )
            + ") ORDER BY time, kind",
            "cps",
            "Samples a second, by kind, as the windows counted them. A step down is a source that stopped.",
            low=0,
        ),
        panels.table(
            "By stage",
            f"SELECT {_STAGE} AS stage, sum(rows) AS rows, sum(bytes_on_disk) AS bytes, count() AS parts, "
            "max(modification_time) AS "
            f"newest_part {_PARTS} GROUP BY stage ORDER BY stage",
            "What each stage has stored: rows as stored (a frame is one row), size, parts.",
            units={"bytes": "bytes", "rows": "short"},
        ),
        panels.bars(
            "Bytes a value by kind",
            f"SELECT kind, bytes / held AS size FROM ({_VALUES}) WHERE held > 0 ORDER BY kind",
            "none",
            "Of raw telemetry.",
            span=6,
            height=9,
            decimals=2,
            last="5m",
        ),
        panels.bars(
            "Largest tables",
            f"SELECT table, sum(bytes_on_disk) AS size {_PARTS} GROUP BY table ORDER BY size DESC LIMIT 10",
            "bytes",
            "On disk.",
            span=6,
            height=9,
        ),
        panels.table(
            "Dead letters by message",
            f"SELECT ts, topic, partition, offset, reason, detail, bytes FROM {DEAD_LETTERS} FINAL WHERE "
            "$__timeFilter(ts) ORDER "
            f"BY ts DESC LIMIT 50",
            "Where they came from and why. `gigawatch dlq show` prints one, `replay` tries again.",
            units={"bytes": "bytes"},
            empty=panels.NO_FAULT,
        ),
        panels.graph(
            "Data quality",
            f"SELECT $__timeInterval(ts) AS time, reason, sum(count) AS samples FROM {QUALITY} FINAL WHERE "
            f"$__timeFilter(ts) AND {SITE} GROUP BY time, reason ORDER BY time, reason",
            "none",
            "Late, duplicate, frozen, silent, impossible samples, by reason.",
            low=0,
            height=9,
            empty=panels.NO_FAULT,
        ),
    )
    return Board(
        "health",
        80,
        "is the data fresh, complete and small",
        "Lag, freshness, silence, rows by stage, dead letters, size.",
        shown,
        (variables.site(), *variables.tiers("rolled")),
        title="pipeline health",
        pictures=(("health", "health.png"),),
    )
