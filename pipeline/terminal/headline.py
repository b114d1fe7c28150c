"""What every view of the factory begins and ends with: a line a site, and the open incidents."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from pipeline.terminal.escape import plain
from pipeline.terminal.numbers import counted, number, score
from pipeline.terminal.snapshot import IncidentRow, SiteRow, Snapshot

#: Columns from which a site's line has its facility power too.
_WIDE = 120


def sites(snapshot: Snapshot, width: int) -> Text:
    """A line a site, or what is waited for; the store's error in red."""
    text = Text()
    for site in snapshot.sites:
        text.append(f"{plain(site.site)}  ", "bold")
        text.append(f"{site.racks} racks  ")
        text.append(counted(site.gpus, site.expected)).append(" GPUs")
        text.append(f"  {_power(site, width)}  PUE {number(site.pue, 3)}  heat {number(site.balance, 3)}")
        text.append(f"  {site.ts:%H:%M:%S} UTC\n", "dim")
    if not snapshot.sites and not snapshot.error:
        text.append("waiting for the first ten seconds of telemetry ...\n", "dim")
    if snapshot.error:
        text.append(plain(snapshot.error) + "\n", "red")
    return text


def _power(site: SiteRow, width: int) -> str:
    facility = f"  facility {number(site.facility_w, 3, 1e6)} MW" if width >= _WIDE else ""
    return f"util {number(site.util_pct)} %  IT {number(site.it_w, 3, 1e6)} MW{facility}"


def incidents(rows: Sequence[IncidentRow], most: int, width: int) -> Text:
    """How many are open, and a line each of the newest `most`, cut at `width` characters."""
    if not rows:
        return Text("no open incidents", "green")
    text = Text(f"open incidents: {len(rows)}", "bold red")
    shown = [(plain(r.device), plain(r.cause), plain(r.rack), plain(r.job)) for r in rows[:most]]
    widths = [max(len(names[k]) for names in shown) for k in range(4)]
    for row, names in zip(rows, shown, strict=False):
        line = Text(f"{row.opened:%H:%M:%S}  ").append(score(row.peak))
        line.append("".join(f"  {name:{wide}}" for name, wide in zip(names, widths, strict=True)))
        line.truncate(max(20, width))
        text.append("\n").append(line)
    return text
