"""The printed view of `gigawatch up` and `top --once`: sites, racks, worst devices, incidents, the pipeline."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from clickhouse_connect.driver.client import Client
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from pipeline.monitoring.statuses import ProcessStatus, ProducerStatus, SinkStatus, WatchStatus, status_of
from pipeline.store.client import StoreError, connect
from pipeline.terminal.escape import cell, plain
from pipeline.terminal.headline import incidents, sites
from pipeline.terminal.numbers import balance, counted, number, score
from pipeline.terminal.snapshot import DeviceScore, RackRow, Snapshot, take
from schemas.catalogue import KINDS

Statuses = Callable[[], Mapping[str, ProcessStatus]]

#: Devices and incidents that are shown.
WORST = 8


def draw(snapshot: Snapshot, statuses: Mapping[str, ProcessStatus], width: int = 130) -> Group:
    """Returns the snapshot and the processes' statuses for a terminal of `width` columns."""
    parts: list[Any] = [_head(snapshot, statuses, width)]
    if snapshot.racks:
        parts.append(_titled("racks (worst first)", _racks(snapshot.racks)))
    if snapshot.sites:
        parts.append(_titled("worst devices, last 30 s", _worst(snapshot.worst)))
        parts.append(_titled("open incidents", incidents(snapshot.incidents, WORST, width - 4)))
    return Group(*parts)


def line(snapshot: Snapshot, statuses: Mapping[str, ProcessStatus]) -> str:
    """Returns the snapshot in one line, for logs and pipes."""
    sink = status_of(statuses, "sink", SinkStatus)
    words = [f"{_stored(sink)} rows stored", f"fresh within {sink.freshness.p99_s or '-'} s"]
    words += [
        f"{plain(site.site)}: {site.racks} racks, {site.gpus}/{site.expected} GPUs at {number(site.util_pct)} %, "
        f"IT {number(site.it_w, 3, 1e6)} MW, PUE {number(site.pue, 3)}"
        for site in snapshot.sites
    ]
    if snapshot.worst:
        worst = snapshot.worst[0]
        words.append(f"worst {plain(worst.device)} {number(worst.score, 2)} ({plain(worst.cause)})")
    if snapshot.incidents:
        words.append(f"open incidents: {len(snapshot.incidents)}")
    return "; ".join(words)


async def live(
    url: str, statuses: Statuses, *, plain: bool = False, silent: bool = False, every_s: float = 2.0
) -> None:
    """Shows the store at `url` until cancelled: a screen for a terminal, a line every ten seconds if `plain`."""
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
                print(line(await asyncio.to_thread(overview_of, client), statuses()), file=sys.stderr, flush=True)
        console = Console(stderr=not sys.stdout.isatty())
        with Live(
            Text("waiting for the first ten seconds of telemetry ..."),
            console=console,
            auto_refresh=False,
            screen=False,
        ) as screen:
            while True:
                room = max(3, min(16, console.height - 26))
                snapshot = await asyncio.to_thread(overview_of, client, room)
                screen.update(draw(snapshot, statuses(), console.width), refresh=True)
                await asyncio.sleep(every_s)
    finally:
        client.close()


def overview_of(client: Client, racks: int = 16) -> Snapshot:
    """Asks the store for what the overview shows, and blocks: the `racks` worst racks and the worst devices."""
    return take(client, racks, worst_first=True, worst=WORST)


def _stored(sink: SinkStatus) -> int:
    """Rows of raw telemetry; roll-ups and the like are not counted."""
    return sum(sink.rows.get(kind, 0) for kind in KINDS)


def _titled(title: str, content: Table | Text) -> Panel:
    return Panel(content, title=title, title_align="left", border_style="dim")


def _head(snapshot: Snapshot, statuses: Mapping[str, ProcessStatus], width: int) -> Panel:
    text = sites(snapshot, width)
    producer, sink = status_of(statuses, "producer", ProducerStatus), status_of(statuses, "sink", SinkStatus)
    if sink.at:
        text.append(f"{plain(producer.source)}\n" if producer.at else "", "dim")
        text.append(
            f"produced {sum(producer.rows.values()):,}  stored {_stored(sink):,} rows  fresh "
            f"{sink.freshness.p50_s or '-'} s (p50) {sink.freshness.p99_s or '-'} s (p99)  "
            f"dead letters {sink.dead_letters}",
            "dim",
        )
        if sink.trouble:
            text.append(f"\n{plain(sink.trouble)}", "red")
    url = status_of(statuses, "watch", WatchStatus).url
    where = f"dashboards: {plain(url)}" if url else None
    return Panel(
        text, title="Gigawatch", title_align="left", border_style="green", subtitle=where, subtitle_align="left"
    )


def _table(*columns: str, left: int) -> Table:
    """A table without lines, its columns after the first `left` to the right."""
    table = Table(*columns, box=None, pad_edge=False, header_style="dim", expand=True)
    for column in table.columns[left:]:
        column.justify = "right"
    return table


def _racks(rows: Sequence[RackRow]) -> Table:
    columns = ("GPUs", "util %", "kW", "hottest C", "L/min", "in C", "out C", "heat/power", "score")
    table = _table("rack", "GPU", *columns, left=2)
    for row in rows:
        table.add_row(
            cell(row.rack),
            cell(row.model),
            counted(row.gpus, row.expected),
            number(row.util_pct, 1),
            number(row.power_w, 1, 1e3),
            number(row.temp_c),
            number(row.flow_lpm, 1),
            number(row.supply_c, 1),
            number(row.return_c, 1),
            balance(row.balance),
            score(row.score),
        )
    return table


def _worst(rows: Sequence[DeviceScore]) -> Table | Text:
    if not rows:
        return Text("none: no device is anomalous", "green")
    table = _table("device", "kind", "because of", "score", "is", "should be", left=3)
    for row in rows:
        value = "" if row.cause in ("silent", "frozen") else number(row.value, 2)
        table.add_row(cell(row.device), row.kind, cell(row.cause), score(row.score), value, number(row.expected, 2))
    return table
