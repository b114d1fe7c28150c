"""The factory now: its sites, racks, worst devices and open incidents, as the newest windows have them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from pipeline.store.client import reason
from pipeline.store.named_queries import worst_devices
from pipeline.store.question import EXPECTED, NEWEST, RECENT_S, latest
from pipeline.store.select import Select, of
from schemas.tables import DATABASE

#: The moment that everything on a screen is of.
NOW = f"(SELECT max(ts) FROM {DATABASE}.site_windows)"
#: Scores, and which of them count as now.
SCORES = f"{DATABASE}.scores"
RECENT = f"ts > {NOW} - INTERVAL {RECENT_S} SECOND"
#: Most racks of a fleet that a screen takes.
MOST_RACKS = 20_000
#: Older than this against the newest moment of the store a rack or site is dark: its windows close within half of it.
DARK_S = 90


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
    def dark(self) -> bool:
        """Whether nothing is heard of it, though GPUs are expected."""
        return self.gpus == 0 < self.expected

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


_SCORED = Select(("site", "rack", "max(score) AS worst"), SCORES, (RECENT,), ("site", "rack")).subquery()
_RACKS = Select(
    (
        *of("r", "site", "rack", "model", "gpus", "gpus_expected", "util_pct_mean", "rack_power_w"),
        *of("r", "gpu_temp_c_max", "flow_lpm", "supply_temp_c", "return_temp_c"),
        "m.heat_balance",
        "s.worst",
        "r.ts",
    ),
    f"{latest('rack_windows', 10)} AS r LEFT JOIN {latest('rack_windows', 60)} AS m USING (site, rack) "
    f"LEFT JOIN {_SCORED} AS s USING (site, rack)",
    order=("r.site", "r.rack"),
    limit=str(MOST_RACKS),
)
#: (site, rack) -> GPUs that there ought to be.
_EXPECTED = Select(
    ("site", "rack", "any(model)", "count()"), EXPECTED, ("kind = 'gpu'",), ("site", "rack"), limit=str(MOST_RACKS)
)
_INCIDENTS = Select(
    ("opened", "site", "rack", "device", "job", "cause", "peak"),
    f"{DATABASE}.incidents FINAL",
    ("open = 1",),
    order=("opened DESC", "device"),
    limit="100",
)


#: What an inventory expects of a rack: (site, rack) -> (model, GPUs).
Inventory = Mapping[tuple[str, str], tuple[str, int]]


def take(client: Client, racks: int = MOST_RACKS, worst_first: bool = False, worst: int = 0) -> Snapshot:
    """Asks the store, and blocks: `racks` racks by name or the worst first, and the `worst` worst devices."""
    made = Snapshot()

    def rows(sql: str) -> list[Any]:
        return list(client.query(sql).result_rows)

    try:
        newest = rows(f"SELECT {NEWEST}")[0][0]
        known = {(row[0], row[1]): (row[2], row[3]) for row in rows(_EXPECTED.sql())}
        heard = [(RackRow(*row[:-1]), row[-1]) for row in rows(_RACKS.sql())]
        every = with_dark(heard, known, newest)
        made.sites = with_dark_sites([SiteRow(*row) for row in rows(_SITES.sql())], every, known, newest)
        made.racks = sorted(every, key=_worst_first if worst_first else _by_name)[:racks]
        if worst:
            made.worst = [DeviceScore(*row[:7]) for row in rows(worst_devices(NOW, f"{worst:d}").sql())]
        made.incidents = [IncidentRow(*row) for row in rows(_INCIDENTS.sql())]
    except ClickHouseError as err:
        made.error = reason(err)[:160]
    return made


def with_dark(heard: Sequence[tuple[RackRow, dt.datetime]], known: Inventory, newest: dt.datetime) -> list[RackRow]:
    """Racks with their moments, and what an inventory knows: its racks of which nothing is heard now are dark, with all
    their GPUs expected. What it does not know stays as it was heard last.
    """
    made: list[RackRow] = []
    for row, ts in heard:
        expected = known.get((row.site, row.rack))
        if expected is None:
            made.append(row)
        elif _lit(ts, newest):
            made.append(replace(row, expected=max(row.gpus, expected[1])))
    lit = {(row.site, row.rack) for row in made}
    blank = (None,) * 8
    made += [RackRow(*key, model, 0, gpus, *blank) for key, (model, gpus) in known.items() if key not in lit]
    return made


def with_dark_sites(
    heard: Sequence[SiteRow], racks: Sequence[RackRow], known: Inventory, newest: dt.datetime
) -> list[SiteRow]:
    """The same of sites: what is expected is the sum of its racks."""
    of_inventory = {site for site, _ in known}
    expected = dict.fromkeys(of_inventory, 0)
    for rack in racks:
        if rack.site in expected:
            expected[rack.site] += rack.expected
    made = [
        replace(row, expected=max(row.gpus, expected.get(row.site, row.expected)))
        for row in heard
        if row.site not in of_inventory or _lit(row.ts, newest)
    ]
    lit, blank = {row.site for row in made}, (None,) * 6
    made += [SiteRow(site, newest, 0, 0, gpus, *blank) for site, gpus in expected.items() if site not in lit]
    return sorted(made, key=lambda row: row.site)


def _lit(ts: dt.datetime, newest: dt.datetime) -> bool:
    return newest - ts <= dt.timedelta(seconds=DARK_S)


def _by_name(row: RackRow) -> tuple[str, str]:
    return row.site, row.rack


def _worst_first(row: RackRow) -> tuple[bool, float, str, str]:
    return not row.dark, -(row.score or 0.0), row.site, row.rack
