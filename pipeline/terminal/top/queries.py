"""What `gigawatch top` asks the store beyond the snapshot: the trend, a rack's GPUs, a GPU's last half hour."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from pipeline.store import holds
from pipeline.store.client import reason
from pipeline.store.question import EXPECTED, NEWEST
from pipeline.store.select import Select, of
from pipeline.terminal.snapshot import NOW, RECENT, SCORES, RackRow, Snapshot, take
from schemas.tables import DATABASE as DB
from schemas.thresholds import SCORE_BAD

#: Seconds of a sparkline, and its points.
PAST_S, POINTS = 1800, 60
#: Seconds after which a GPU is silent.
SILENT_S = 60

_HERE = ("site = {site:String}", "rack = {rack:String}")


def _since(seconds: int) -> str:
    return f"ts > {NOW} - INTERVAL {seconds} SECOND"


_TREND = Select(
    (
        f"toStartOfInterval(ts, INTERVAL {PAST_S // POINTS} SECOND) AS t",
        "sum(it_power_w) / uniqExact(ts)",
        "sum(util_pct_mean * gpus) / sum(gpus)",
    ),
    f"{DB}.site_windows FINAL",
    ("window_s = 10", _since(PAST_S)),
    ("t",),
    order=("t",),
)
#: Of a place its newest board; of two boards that speak at one place now both.
_NEWEST = Select(("*",), f"{DB}.gpu_10s", (*_HERE, _since(400)), order=("ts DESC",), limit="1 BY device, board")
_PRESENT = Select(("*", "max(ts) OVER (PARTITION BY device) AS at"), _NEWEST.subquery())
_CAUSES = Select(
    ("device", "max(score) AS worst", "argMax(cause, (score, ts, cause)) AS why"), SCORES, (RECENT, *_HERE), ("device",)
)
_GPUS = Select(
    (
        *of("g", "site", "rack", "device", "board", "util_pct_mean", "power_w_mean", "temp_c_mean"),
        *of("g", "temp_margin_c_mean", "mem_temp_c_max", "sm_clock_mhz_mean"),
        *of("s", "worst", "why"),
        f"g.ts > {NEWEST} - INTERVAL {SILENT_S} SECOND AS heard",
    ),
    f"{_PRESENT.subquery()} AS g LEFT JOIN {_CAUSES.subquery()} AS s ON g.device = s.device",
    ("g.ts > g.at - INTERVAL 30 SECOND",),
    order=("g.device", "g.board"),
    limit="2000",
)
#: Who holds what is known there, and what is expected there.
_HOLDERS = Select(
    ("device", "board", "arrayStringConcat(arraySort(arrayDistinct(arrayMap(s -> s.3, spans))), ', ')"),
    holds.holds("gpu", "open = 1", "site = {site:String}"),
    _HERE,
)
_EXPECTED = Select(("device", "asset"), EXPECTED, (*_HERE, "kind = 'gpu'"), order=("device", "asset"), limit="2000")
_POINTS = Select(
    ("device", "toStartOfInterval(ts, INTERVAL 30 SECOND) AS t", "avg(power_w_mean) AS p"),
    f"{DB}.gpu_10s",
    (*_HERE, _since(480)),
    ("device", "t"),
    order=("device", "t"),
)
_LINES = Select(("device", "groupArray(round(p))"), _POINTS.subquery(), group=("device",))
_FRAMES = f"(SELECT who FROM {DB}.identities WHERE has(device, {{device:String}}) OR has(board, {{board:String}}))"
_ONE = Select(
    ("ts", "power_w_mean", "temp_c_mean", "util_pct_mean", "sm_active_mean", "sm_clock_mhz_mean", "temp_margin_c_mean"),
    f"{DB}.gpu_10s",
    (
        "site = {site:String}",
        "if({board:String} = '', rack = {rack:String} AND device = {device:String}, board = {board:String})",
        f"who IN {_FRAMES}",
        _since(PAST_S),
    ),
    order=("ts",),
)


@dataclass(frozen=True, slots=True)
class GpuRow:
    """A GPU's newest 10 s, and `job`, which holds it; `line` is its power over the last eight minutes. One that is
    expected and not heard has the cause `silent`.
    """

    site: str
    rack: str
    device: str
    job: str
    util_pct: float | None
    power_w: float | None
    temp_c: float | None
    margin_c: float | None
    hbm_c: float | None
    clock_mhz: float | None
    score: float | None
    cause: str
    line: tuple[float, ...] = ()
    board: str = ""


@dataclass(frozen=True, slots=True)
class Trend:
    """IT power and utilization of all sites over the last half hour, oldest first."""

    power_w: tuple[float, ...] = ()
    util_pct: tuple[float, ...] = ()


class Store:
    """Asks a client, and blocks. What the store cannot answer is returned as text, in ClickHouse's own words."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def _rows(self, select: Select, **parameters: str) -> Sequence[Sequence[Any]]:
        return self._client.query(select.sql(), parameters=parameters).result_rows

    def snapshot(self) -> tuple[Snapshot, Trend]:
        """The factory now, and how it came here."""
        made, past = take(self._client), list[Sequence[Any]]()
        try:
            past = list(self._rows(_TREND))
        except ClickHouseError as err:
            made.error = made.error or _short(err)
        return made, Trend(tuple(r[1] or 0.0 for r in past), tuple(r[2] or 0.0 for r in past))

    def gpus(self, site: str, rack: str) -> tuple[list[GpuRow], str]:
        """Returns the rack's GPUs, silent ones too, or none and the error."""
        try:
            here = {"site": site, "rack": rack}
            lines = {r[0]: tuple(r[1]) for r in self._rows(_LINES, **here)}
            jobs = {(r[0], r[1]): r[2] for r in self._rows(_HOLDERS, **here)}
            rows = []
            for found in self._rows(_GPUS, **here):
                device, board, heard = found[2], found[3], found[12]
                job, line = jobs.get((device, board), ""), lines.get(device, ())
                row = GpuRow(*(site, rack, device, job, *found[4:11], found[11] or "", line, board))
                rows.append(row if heard else _silent(row))
            return _with_silent(site, rack, rows, [(r[0], r[1]) for r in self._rows(_EXPECTED, **here)], jobs), ""
        except ClickHouseError as err:
            return [], _short(err)

    def past(self, gpu: GpuRow) -> tuple[list[Sequence[Any]], str]:
        """Returns (moment, W, C, utilization %, SM activity, MHz, margin) of the last half hour, 10 s apart, of its
        board wherever it was; or nothing and the error.
        """
        try:
            who = {"site": gpu.site, "rack": gpu.rack, "device": gpu.device, "board": gpu.board}
            return list(self._rows(_ONE, **who)), ""
        except ClickHouseError as err:
            return [], _short(err)


def _silent(row: GpuRow) -> GpuRow:
    return replace(row, score=max(row.score or 0.0, SCORE_BAD), cause="silent")


def _with_silent(
    site: str, rack: str, rows: list[GpuRow], expected: Sequence[tuple[str, str]], jobs: Mapping[tuple[str, str], str]
) -> list[GpuRow]:
    """The rows, and one for each expected (device, asset) that is not among them: neither its board, nor at its place
    a board that nobody expects.
    """
    assets = {asset for _, asset in expected}
    listed = {row.board or row.device for row in rows}
    strangers = {row.device for row in rows if row.board not in assets}
    made = list(rows)
    for device, asset in expected:
        if asset not in listed and device not in strangers:
            board = "" if asset == device else asset
            row = GpuRow(site, rack, device, jobs.get((device, board), ""), *(None,) * 7, cause="", board=board)
            made.append(_silent(row))
    return made


def _short(err: ClickHouseError) -> str:
    return reason(err)[:160]


#: Measure -> (title, value, coldest, hottest): how heat maps are coloured.
RACK_MEASURES: dict[str, tuple[str, Callable[[RackRow], float | None], float, float]] = {
    "score": ("anomaly score", lambda r: r.score or 0.0, 0.0, 1.0),
    "temperature": ("hottest GPU, C", lambda r: r.temp_c, 30.0, 85.0),
    "power": ("power, kW", lambda r: None if r.power_w is None else r.power_w / 1000, 0.0, 140.0),
    "utilization": ("utilization, %", lambda r: r.util_pct, 0.0, 100.0),
}
GPU_MEASURES: dict[str, tuple[str, Callable[[GpuRow], float | None], float, float]] = {
    "score": ("anomaly score", lambda g: g.score or 0.0, 0.0, 1.0),
    "temperature": ("die, C", lambda g: g.temp_c, 30.0, 87.0),
    "power": ("power, W", lambda g: g.power_w, 0.0, 1400.0),
    "utilization": ("utilization, %", lambda g: g.util_pct, 0.0, 100.0),
}
#: Order -> the key that racks are sorted by; the first is the default.
RACK_ORDERS: dict[str, Callable[[RackRow], Any]] = {
    "worst": lambda r: (not r.dark, -(r.score or 0.0), -r.silent, r.rack),
    "name": lambda r: (r.site, r.rack),
    "power": lambda r: -(r.power_w or 0.0),
    "hottest": lambda r: -(r.temp_c or 0.0),
    "idle": lambda r: r.util_pct or 0.0,
}
GPU_ORDERS: dict[str, Callable[[GpuRow], Any]] = {
    "worst": lambda g: (-(g.score or 0.0), g.device),
    "name": lambda g: g.device,
    "power": lambda g: -(g.power_w or 0.0),
    "hottest": lambda g: -(g.temp_c or 0.0),
    "idle": lambda g: g.util_pct or 0.0,
}
