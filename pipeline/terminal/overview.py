"""The live view of `gigawatch up` and `gigawatch top`: site, racks, worst devices, incidents, and the pipeline
itself.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from pipeline.monitoring.statuses import ProcessStatus, ProducerStatus, SinkStatus, WatchStatus, status_of
from pipeline.store.client import StoreError, connect
from pipeline.store.named_queries import QUESTIONS, latest
from pipeline.terminal.escape import cell, plain
from schemas import thresholds
from schemas.catalogue import KINDS
from schemas.tables import DATABASE

Statuses = Callable[[], Mapping[str, ProcessStatus]]

_SITE = (
    "SELECT site, ts, racks, gpus, gpus_expected, util_pct_mean, it_power_w, facility_power_w, heat_w "
    f"FROM {latest('site_windows', 10)} ORDER BY site LIMIT 4"
)
_PUE = f"SELECT site, pue, heat_balance FROM {latest('site_windows', 60)}"
_RACK = (
    "SELECT r.rack, r.model, r.gpus, r.gpus_expected, r.util_pct_mean, r.rack_power_w, r.gpu_temp_c_max, "
    "r.flow_lpm, r.supply_temp_c, r.return_temp_c, "
    f"b.heat_balance, s.worst FROM {latest('rack_windows', 10)} AS r LEFT JOIN {latest('rack_windows', 60)} AS "
    "b USING (site, rack) "
    f"LEFT JOIN (SELECT site, rack, max(score) AS worst FROM {DATABASE}.scores WHERE ts > "
    f"(SELECT max(ts) FROM {DATABASE}.site_windows) - INTERVAL 30 SECOND "
    "GROUP BY site, rack) AS s USING (site, rack) ORDER BY s.worst DESC NULLS LAST, r.rack LIMIT {racks}"
)


@dataclass(slots=True)
class Picture:
    """What the store says at one moment; rows as the queries give them."""

    site: list[Any] = field(default_factory=list)
    pue: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    racks: list[Any] = field(default_factory=list)
    worst: list[Any] = field(default_factory=list)
    incidents: list[Any] = field(default_factory=list)
    trouble: str = ""


def take(client: Client, racks: int = 10) -> Picture:
    """Asks the store; what it cannot answer is in `trouble`."""
    picture = Picture()
    try:
        picture.site = list(client.query(_SITE).result_rows)
        picture.pue = {r[0]: (r[1], r[2]) for r in client.query(_PUE).result_rows}
        picture.racks = list(client.query(_RACK.replace("{racks}", str(racks))).result_rows)
        fresh = f"{DATABASE}.scores WHERE ts > (SELECT max(ts) FROM {DATABASE}.site_windows) - INTERVAL 30 SECOND"
        worst = QUESTIONS["worst"].sql.replace(
            f"{DATABASE}.scores WHERE ts > (SELECT max(ts) FROM {DATABASE}.scores) - INTERVAL 30 SECOND", fresh
        )
        picture.worst = list(client.query(worst.replace("{limit}", "8")).result_rows)
        picture.incidents = [
            r for r in client.query(QUESTIONS["incidents"].sql.replace("{limit}", "8")).result_rows if r[1] == "open"
        ]
    except ClickHouseError as err:
        picture.trouble = str(err).split("\n")[0][:160]
    return picture


def draw(picture: Picture, statuses: Mapping[str, ProcessStatus]) -> Group:
    """The picture for a terminal."""
    parts: list[Any] = [_head(picture, statuses)]
    if picture.racks:
        parts.append(Panel(_racks(picture.racks), title="racks (worst first)", title_align="left", border_style="dim"))
    if picture.site:
        parts.append(
            Panel(_worst(picture.worst), title="worst devices, last 30 s", title_align="left", border_style="dim")
        )
        parts.append(
            Panel(_incidents(picture.incidents), title="open incidents", title_align="left", border_style="dim")
        )
    return Group(*parts)


def line(picture: Picture, statuses: Mapping[str, ProcessStatus]) -> str:
    """The picture in one line, for logs and pipes."""
    sink = status_of(statuses, "sink", SinkStatus)
    rows = sum(sink.rows.get(k, 0) for k in KINDS)
    words = [f"{rows} rows stored", f"fresh within {sink.freshness.p99_s or '-'} s"]
    for site, _, racks, gpus, expected, util, it_w, *_ in picture.site:
        pue = picture.pue.get(site, (None, None))[0]
        words.append(
            f"{plain(site)}: {racks} racks, {gpus}/{expected} GPUs at {_num(util, 0)} %, IT "
            f"{_num(it_w, 1, 1e6, 3)} MW, PUE {_num(pue, 3)}"
        )
    if picture.worst:
        words.append(f"worst {plain(picture.worst[0][0])} {_num(picture.worst[0][3], 2)} ({picture.worst[0][4]})")
    if picture.incidents:
        words.append(f"{len(picture.incidents)} open incidents")
    return "; ".join(words)


async def live(
    url: str, statuses: Statuses, *, plain: bool = False, silent: bool = False, every_s: float = 2.0
) -> None:
    """Shows the store at `url` until cancelled: a screen for a terminal, a line every ten seconds otherwise."""
    if silent:
        await asyncio.Event().wait()
    try:
        client = await asyncio.to_thread(connect, url)
    except StoreError as err:
        print(err, file=sys.stderr)
        return
    try:
        if plain:
            while True:
                await asyncio.sleep(10)
                print(line(await asyncio.to_thread(take, client), statuses()), file=sys.stderr, flush=True)
        console = Console(stderr=not sys.stdout.isatty())
        with Live(
            Text("waiting for the first ten seconds of telemetry ..."),
            console=console,
            auto_refresh=False,
            screen=False,
        ) as screen:
            while True:
                room = max(3, min(16, console.height - 26))
                screen.update(draw(await asyncio.to_thread(take, client, room), statuses()), refresh=True)
                await asyncio.sleep(every_s)
    finally:
        client.close()


def _head(picture: Picture, statuses: Mapping[str, ProcessStatus]) -> Panel:
    text = Text()
    for site, ts, racks, gpus, expected, util, it_w, facility_w, heat_w in picture.site:
        pue, balance = picture.pue.get(site, (None, None))
        text.append(f"{plain(site)}  ", "bold")
        text.append(f"{racks} racks  ")
        text.append(f"{gpus}/{expected} GPUs", "bold red" if gpus < expected else "")
        text.append(
            f"  util {_num(util, 1)} %  IT {_num(it_w, 1, 1e3)} kW  facility {_num(facility_w, 1, 1e3)} kW  "
            f"PUE {_num(pue, 3)}  "
            f"heat {_num(heat_w, 1, 1e3)} kW ({_num(balance, 3)} of IT)  at {ts:%H:%M:%S} UTC\n"
        )
    if not picture.site:
        text.append("waiting for the first ten seconds of telemetry ...\n", "dim")
    if picture.trouble:
        text.append(plain(picture.trouble) + "\n", "red")
    producer, sink = status_of(statuses, "producer", ProducerStatus), status_of(statuses, "sink", SinkStatus)
    if sink.at:
        text.append(f"{plain(producer.source)}\n" if producer.at else "", "dim")
        text.append(
            f"produced {sum(producer.rows.values()):,}  stored {sum(sink.rows.get(k, 0) for k in KINDS):,} rows  fresh "
            f"{sink.freshness.p50_s or '-'} s (p50) "
            f"{sink.freshness.p99_s or '-'} s (p99)  dead letters {sink.dead_letters}",
            "dim",
        )
        if sink.trouble:
            text.append(f"\n{plain(sink.trouble)}", "red")
    url = status_of(statuses, "watch", WatchStatus).url
    where = f"dashboards: {plain(url)}" if url else None
    return Panel(
        text, title="Gigawatch", title_align="left", border_style="green", subtitle=where, subtitle_align="left"
    )


def _racks(rows: list[Any]) -> Table:
    table = Table(
        "rack",
        "GPU",
        "GPUs",
        "util %",
        "kW",
        "hottest C",
        "L/min",
        "in C",
        "out C",
        "heat/power",
        "score",
        box=None,
        pad_edge=False,
        header_style="dim",
        expand=True,
    )
    for column in table.columns[2:]:
        column.justify = "right"
    for rack, model, gpus, expected, util, power, hottest, flow, supply, back, balance, worst in rows:
        odd = balance is not None and abs(balance - thresholds.HEAT_BALANCE) > thresholds.HEAT_BALANCE_OFF
        table.add_row(
            cell(rack),
            cell(model),
            Text(f"{gpus}/{expected}", "red" if gpus < expected else ""),
            _num(util, 1),
            _num(power, 1, 1e3),
            _num(hottest, 0),
            _num(flow, 1),
            _num(supply, 1),
            _num(back, 1),
            Text(_num(balance, 3), "red" if odd else ""),
            _score(worst),
        )
    return table


def _worst(rows: list[Any]) -> Table | Text:
    if not rows:
        return Text("none: every device is as it always is", "green")
    table = Table(
        "device",
        "kind",
        "score",
        "because of",
        "is",
        "should be",
        box=None,
        pad_edge=False,
        header_style="dim",
        expand=True,
    )
    for column in table.columns[4:]:
        column.justify = "right"
    for device, _, kind, worst, why, value, expected, _ in rows:
        table.add_row(
            cell(device),
            kind,
            _score(worst),
            cell(why),
            "" if why in ("silent", "frozen") else _num(value, 2),
            _num(expected, 2),
        )
    return table


def _incidents(rows: list[Any]) -> Table | Text:
    if not rows:
        return Text("none", "green")
    table = Table(
        "since", "device", "rack", "job", "cause", "peak", box=None, pad_edge=False, header_style="dim", expand=True
    )
    for opened, _, _, device, rack, job, cause, peak, _ in rows:
        table.add_row(f"{opened:%H:%M:%S}", cell(device), cell(rack), cell(job), cell(cause), _score(peak))
    return table


def _score(value: float | None) -> Text:
    if value is None:
        return Text("")
    return Text(
        f"{value:.2f}",
        "bold red" if value >= thresholds.SCORE_BAD else "yellow" if value >= thresholds.SCORE_NOTICE else "dim",
    )


def _num(value: float | None, digits: int, unit: float = 1.0, fixed: int | None = None) -> str:
    return "-" if value is None else f"{value / unit:,.{digits if fixed is None else fixed}f}"
