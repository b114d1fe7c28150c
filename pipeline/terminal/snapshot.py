"""The factory now: its sites, racks, worst devices and open incidents, as the newest windows have them."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import Any

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from pipeline.store.client import reason
from pipeline.store.named_queries import RECENT_S, latest, worst_devices
from pipeline.store.select import Select, of
from schemas.tables import DATABASE

#: The moment that everything on a screen is of.
NOW = f"(SELECT max(ts) FROM {DATABASE}.site_windows)"
#: Scores, and which of them count as now.
SCORES = f"{DATABASE}.scores"
RECENT = f"ts > {NOW} - INTERVAL {RECENT_S} SECOND"
#: Most racks of a fleet that a screen takes.
MOST_RACKS = 20_000


@dataclass(frozen=True, slots=True)
class SiteRow:
    """A site's newest 10 s; PUE and heat balance are of the newest minute. None where nothing was measured."""

    site: str
    ts: dt.datetime
    racks: int
    gpus: int
    expected: int
    util_pct: float | None
    it_w: float | None
    facility_w: float | None
    heat_w: float | None
    pue: float | None
    balance: float | None


@dataclass(frozen=True, slots=True)
class RackRow:
    """A rack's newest 10 s; the heat balance is of the newest minute. None where nothing was measured."""

    site: str
    rack: str
    model: str
    gpus: int
    expected: int
    util_pct: float | None
    power_w: float | None
    temp_c: float | None
    flow_lpm: float | None
    supply_c: float | None
    return_c: float | None
    balance: float | None
    score: float | None

    @property
    def silent(self) -> int:
        """GPUs that are expected and give no samples."""
        return max(0, self.expected - self.gpus)

    @property
    def rise_k(self) -> float | None:
        return None if self.return_c is None or self.supply_c is None else self.return_c - self.supply_c


@dataclass(frozen=True, slots=True)
class DeviceScore:
    """A device's highest score of the newest half minute, with the metric that caused it."""

    device: str
    rack: str
    kind: str
    score: float
    cause: str
    value: float | None
    expected: float | None


@dataclass(frozen=True, slots=True)
class IncidentRow:
    """An open incident."""

    opened: dt.datetime
    site: str
    rack: str
    device: str
    job: str
    cause: str
    peak: float


@dataclass(slots=True)
class Snapshot:
    """The factory at one moment; `error` is what the store could not answer."""

    sites: list[SiteRow] = field(default_factory=list)
    racks: list[RackRow] = field(default_factory=list)
    worst: list[DeviceScore] = field(default_factory=list)
    incidents: list[IncidentRow] = field(default_factory=list)
    error: str = ""


_SITES = Select(
    (
        *of("s", "site", "ts", "racks", "gpus", "gpus_expected", "util_pct_mean", "it_power_w"),
        *of("s", "facility_power_w", "heat_w"),
        *of("m", "pue", "heat_balance"),
    ),
    f"{latest('site_windows', 10)} AS s LEFT JOIN {latest('site_windows', 60)} AS m USING (site)",
    order=("site",),
    limit="8",
)


def _racks(order: tuple[str, ...]) -> Select:
    scores = Select(("site", "rack", "max(score) AS worst"), SCORES, (RECENT,), ("site", "rack"))
    return Select(
        (
            *of("r", "site", "rack", "model", "gpus", "gpus_expected", "util_pct_mean", "rack_power_w"),
            *of("r", "gpu_temp_c_max", "flow_lpm", "supply_temp_c", "return_temp_c"),
            "m.heat_balance",
            "s.worst",
        ),
        f"{latest('rack_windows', 10)} AS r LEFT JOIN {latest('rack_windows', 60)} AS m USING (site, rack) "
        f"LEFT JOIN {scores.subquery()} AS s USING (site, rack)",
        order=order,
        limit="{limit:UInt32}",
    )


_RACKS_BY_NAME = _racks(("r.site", "r.rack"))
_RACKS_WORST_FIRST = _racks(("s.worst DESC NULLS LAST", "r.site", "r.rack"))
_INCIDENTS = Select(
    ("opened", "site", "rack", "device", "job", "cause", "peak"),
    f"{DATABASE}.incidents FINAL",
    ("open = 1",),
    order=("opened DESC", "device"),
    limit="100",
)


def take(client: Client, racks: int = MOST_RACKS, worst_first: bool = False, worst: int = 0) -> Snapshot:
    """Asks the store, and blocks: `racks` racks by name or the worst first, and the `worst` worst devices."""
    made = Snapshot()

    def rows(select: Select, **parameters: Any) -> list[Any]:
        return list(client.query(select.sql(), parameters=parameters).result_rows)

    try:
        made.sites = [SiteRow(*row) for row in rows(_SITES)]
        made.racks = [RackRow(*r) for r in rows(_RACKS_WORST_FIRST if worst_first else _RACKS_BY_NAME, limit=racks)]
        if worst:
            made.worst = [DeviceScore(*row[:7]) for row in rows(worst_devices(NOW, f"{worst:d}"))]
        made.incidents = [IncidentRow(*row) for row in rows(_INCIDENTS)]
    except ClickHouseError as err:
        made.error = reason(err)[:160]
    return made
