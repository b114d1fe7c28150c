"""What `gigawatch top` asks the store: the site, its racks, a rack's GPUs, a GPU's past."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from pipeline.store.named_queries import latest
from schemas.tables import DATABASE as DB

#: Seconds of a sparkline, and its points.
PAST_S, POINTS = 1800, 60
_NOW = f"(SELECT max(ts) FROM {DB}.site_windows)"
_SCORES = f"{DB}.scores WHERE ts > {_NOW} - INTERVAL 30 SECOND"

_SITE = (
    "SELECT site, ts, racks, gpus, gpus_expected, util_pct_mean, it_power_w, pue, heat_balance FROM "
    f"{latest('site_windows', 60)} ORDER BY site LIMIT 8"
)
_PAST = (
    f"SELECT toStartOfInterval(ts, INTERVAL {PAST_S // POINTS} SECOND) AS t, sum(it_power_w) / uniqExact(ts), "
    "sum(util_pct_mean * gpus) / sum(gpus) "
    f"FROM {DB}.site_windows FINAL WHERE window_s = 10 AND ts > {_NOW} - INTERVAL {PAST_S} SECOND GROUP BY t ORDER BY t"
)
_RACKS = (
    "SELECT r.site, r.rack, r.model, r.gpus, r.gpus_expected, r.util_pct_mean, r.rack_power_w, "
    "r.gpu_temp_c_max, r.flow_lpm, r.return_temp_c - "
    f"r.supply_temp_c, r.heat_balance, s.worst FROM {latest('rack_windows', 60)} AS r LEFT JOIN (SELECT site, "
    "rack, max(score) AS worst FROM "
    f"{_SCORES} GROUP BY site, rack) AS s USING (site, rack) ORDER BY r.site, r.rack LIMIT 20000"
)
_INCIDENTS = (
    f"SELECT opened, site, rack, device, job, cause, peak FROM {DB}.incidents FINAL WHERE open = 1 ORDER BY "
    "opened DESC LIMIT 100"
)
_GPUS = (
    "SELECT g.site, g.rack, g.device, g.job, g.util_pct_mean, g.power_w_mean, g.temp_c_mean, "
    "g.temp_margin_c_mean, g.mem_temp_c_max, "
    f"g.sm_clock_mhz_mean, s.worst, s.why FROM (SELECT * FROM {DB}.gpu_10s WHERE site = {{site:String}} AND "
    f"rack = {{rack:String}} AND ts > {_NOW} - "
    "INTERVAL 400 SECOND ORDER BY ts DESC LIMIT 1 BY device) AS g LEFT JOIN (SELECT device, max(score) AS "
    "worst, argMax(cause, score) AS why FROM "
    f"{_SCORES} AND site = {{site:String}} AND rack = {{rack:String}} GROUP BY device) AS s USING (device) "
    "ORDER BY g.device LIMIT 2000"
)
_LINES = (
    "SELECT device, groupArray(round(p)) FROM (SELECT device, toStartOfInterval(ts, INTERVAL 30 SECOND) AS t, "
    "avg(power_w_mean) AS p FROM "
    f"{DB}.gpu_10s WHERE site = {{site:String}} AND rack = {{rack:String}} AND ts > {_NOW} - INTERVAL 480 "
    "SECOND GROUP BY device, t ORDER BY device, "
    f"t) GROUP BY device"
)
_ONE = (
    "SELECT ts, power_w_mean, temp_c_mean, util_pct_mean, sm_active_mean, sm_clock_mhz_mean, "
    f"temp_margin_c_mean FROM {DB}.gpu_10s WHERE site = "
    f"{{site:String}} AND rack = {{rack:String}} AND device = {{device:String}} AND ts > {_NOW} - INTERVAL "
    f"{PAST_S} SECOND ORDER BY ts"
)


@dataclass(frozen=True, slots=True)
class Rack:
    """A rack's newest minute; None where nothing was measured."""

    site: str
    rack: str
    model: str
    gpus: int
    expected: int
    util_pct: float | None
    power_w: float | None
    temp_c: float | None
    flow_lpm: float | None
    rise_k: float | None
    balance: float | None
    score: float | None

    @property
    def silent(self) -> int:
        return max(0, self.expected - self.gpus)


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU's newest 10 s; `line` is its power over the last eight minutes."""

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


@dataclass(slots=True)
class Picture:
    """The factory at one moment."""

    sites: list[Any] = field(default_factory=list)
    power: list[float] = field(default_factory=list)
    util: list[float] = field(default_factory=list)
    racks: list[Rack] = field(default_factory=list)
    incidents: list[Any] = field(default_factory=list)
    trouble: str = ""


class Store:
    """Asks a client; blocking. What cannot be answered comes as `trouble`, in the store's own words."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def _rows(self, sql: str, **parameters: str) -> Sequence[Sequence[Any]]:
        return self._client.query(sql, parameters=parameters).result_rows

    def picture(self) -> Picture:
        made = Picture()
        try:
            made.sites = list(self._rows(_SITE))
            past = self._rows(_PAST)
            made.power, made.util = [r[1] or 0.0 for r in past], [r[2] or 0.0 for r in past]
            made.racks = [Rack(*r) for r in self._rows(_RACKS)]
            made.incidents = list(self._rows(_INCIDENTS))
        except ClickHouseError as err:
            made.trouble = _said(err)
        return made

    def gpus(self, site: str, rack: str) -> tuple[list[Gpu], str]:
        """The rack's GPUs, or none and why."""
        try:
            lines = {r[0]: tuple(r[1]) for r in self._rows(_LINES, site=site, rack=rack)}
            return [
                Gpu(*(*r[:11], r[11] or "", lines.get(r[2], ()))) for r in self._rows(_GPUS, site=site, rack=rack)
            ], ""
        except ClickHouseError as err:
            return [], _said(err)

    def past(self, gpu: Gpu) -> tuple[list[Sequence[Any]], str]:
        """(moment, W, C, utilization %, SM activity, MHz, margin) of the last half hour, 10 s apart."""
        try:
            return list(self._rows(_ONE, site=gpu.site, rack=gpu.rack, device=gpu.device)), ""
        except ClickHouseError as err:
            return [], _said(err)


def _said(err: ClickHouseError) -> str:
    return str(err).split("server response: ")[-1].split("\n")[0][:160]


#: Measure -> (title, value, what is cold, what is hot): how heat maps are coloured.
RACK_MEASURES: dict[str, tuple[str, Callable[[Rack], float | None], float, float]] = {
    "score": ("anomaly score", lambda r: r.score or 0.0, 0.0, 1.0),
    "temperature": ("hottest GPU, C", lambda r: r.temp_c, 30.0, 85.0),
    "power": ("power, kW", lambda r: None if r.power_w is None else r.power_w / 1000, 0.0, 140.0),
    "utilization": ("utilization, %", lambda r: r.util_pct, 0.0, 100.0),
}
GPU_MEASURES: dict[str, tuple[str, Callable[[Gpu], float | None], float, float]] = {
    "score": ("anomaly score", lambda g: g.score or 0.0, 0.0, 1.0),
    "temperature": ("die, C", lambda g: g.temp_c, 30.0, 87.0),
    "power": ("power, W", lambda g: g.power_w, 0.0, 1400.0),
    "utilization": ("utilization, %", lambda g: g.util_pct, 0.0, 100.0),
}
#: Order -> what to sort racks by; the first is best to begin with.
RACK_ORDERS: dict[str, Callable[[Rack], Any]] = {
    "worst": lambda r: (-(r.score or 0.0), -r.silent, r.rack),
    "name": lambda r: (r.site, r.rack),
    "power": lambda r: -(r.power_w or 0.0),
    "hottest": lambda r: -(r.temp_c or 0.0),
    "idle": lambda r: r.util_pct or 0.0,
}
GPU_ORDERS: dict[str, Callable[[Gpu], Any]] = {
    "worst": lambda g: (-(g.score or 0.0), g.device),
    "name": lambda g: g.device,
    "power": lambda g: -(g.power_w or 0.0),
    "hottest": lambda g: -(g.temp_c or 0.0),
    "idle": lambda g: g.util_pct or 0.0,
}
