"""The screens of `gigawatch top`: all racks, a rack's GPUs, a GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Footer, Static

from pipeline.terminal.escape import cell, plain
from pipeline.terminal.headline import incidents, sites
from pipeline.terminal.numbers import balance, counted, right, score
from pipeline.terminal.snapshot import IncidentRow, RackRow, Snapshot
from pipeline.terminal.top.list_screen import ListScreen, LiveScreen
from pipeline.terminal.top.queries import GPU_MEASURES, GPU_ORDERS, RACK_MEASURES, RACK_ORDERS, GpuRow, Trend
from pipeline.terminal.top.widgets import spark
from schemas.thresholds import SCORE_BAD


class FactoryScreen(ListScreen):
    """All racks."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("i", "incident", "incident")]
    MEASURES = RACK_MEASURES
    ORDERS = RACK_ORDERS
    COLUMNS = ("rack", "GPU", "GPUs", "util %", "kW", "max C", "L/min", "rise K", "heat", "score")

    def __init__(self) -> None:
        super().__init__()
        self._incidents: list[IncidentRow] = []

    def ask(self) -> Callable[[], None]:
        snapshot, trend = self.app.store.snapshot()  # type: ignore[attr-defined]
        return lambda: self.show(snapshot, trend)

    def show(self, snapshot: Snapshot, trend: Trend) -> None:
        self._incidents = snapshot.incidents
        self.query_one("#head", Static).update(_head(snapshot, trend, self.size.width))
        self.query_one("#foot", Static).update(incidents(snapshot.incidents, 3, self.size.width - 3))
        self.show_items(snapshot.racks)

    def row(self, item: RackRow) -> Sequence[Text]:
        return (
            cell(item.rack),
            cell(item.model),
            counted(item.gpus, item.expected),
            right(item.util_pct),
            right(item.power_w, 1, 1e3),
            right(item.temp_c),
            right(item.flow_lpm),
            right(item.rise_k, 1),
            balance(item.balance),
            score(item.score),
        )

    def key(self, item: RackRow) -> str:
        return f"{item.site}/{item.rack}" if item.site else item.rack

    def text(self, item: RackRow) -> str:
        return f"{item.site} {item.rack} {item.model}"

    def opens(self, item: RackRow) -> None:
        self.app.push_screen(RackScreen(item.site, item.rack))

    def action_incident(self) -> None:
        where = next(((i.site, i.rack) for i in self._incidents if i.rack), None)
        if where is not None:
            self.app.push_screen(RackScreen(*where))


class RackScreen(ListScreen):
    """The GPUs of a rack."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "app.pop_screen", "back")]
    MEASURES = GPU_MEASURES
    ORDERS = GPU_ORDERS
    COLUMNS = ("GPU", "score", "because", "W", "C", "margin", "HBM", "util %", "MHz", "power, 8 min", "job")

    def __init__(self, site: str, rack: str) -> None:
        super().__init__()
        self._site, self._rack = site, rack

    def ask(self) -> Callable[[], None]:
        gpus, error = self.app.store.gpus(self._site, self._rack)  # type: ignore[attr-defined]
        return lambda: self.show(gpus, error)

    def show(self, gpus: list[GpuRow], error: str) -> None:
        drawn, silent = sum(g.power_w or 0.0 for g in gpus), sum(g.cause == "silent" for g in gpus)
        head = Text(f"{plain(self._site)} / {plain(self._rack)}", "bold")
        head.append(f"   {len(gpus)} GPUs draw {drawn / 1000:,.1f} kW", "")
        head.append(f"   {silent} silent" if silent else "", "bold red")
        jobs = sorted({plain(g.job) for g in gpus if g.job})
        head.append(f"   {', '.join(jobs[:3])}", "cyan")
        if error:
            head.append(f"\n{plain(error)}", "red")
        self.query_one("#head", Static).update(head)
        self.show_items(gpus)

    def row(self, item: GpuRow) -> Sequence[Text]:
        return (
            cell(item.device),
            score(item.score),
            cell(item.cause),
            right(item.power_w),
            right(item.temp_c),
            right(item.margin_c),
            right(item.hbm_c),
            right(item.util_pct),
            right(item.clock_mhz),
            Text(spark(item.line, 16), "green"),
            cell(item.job),
        )

    def key(self, item: GpuRow) -> str:
        return f"{item.device} {item.board}".rstrip()

    def text(self, item: GpuRow) -> str:
        return f"{item.device} {item.board} {item.job} {item.cause}"

    def opens(self, item: GpuRow) -> None:
        self.app.push_screen(GpuScreen(item))


class GpuScreen(LiveScreen):
    """A GPU's last half hour."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "app.pop_screen", "back"),
        Binding("space", "app.pause", "pause"),
        Binding("q", "app.quit", "quit"),
    ]

    def __init__(self, gpu: GpuRow) -> None:
        super().__init__()
        self._gpu = gpu

    def compose(self) -> ComposeResult:
        yield Static(id="head")
        yield Vertical(Static(id="lines"))
        yield Footer(compact=True)

    def on_mount(self) -> None:
        self.refresh_data()

    def ask(self) -> Callable[[], None]:
        past, error = self.app.store.past(self._gpu)  # type: ignore[attr-defined]
        return lambda: self.show(past, error)

    def show(self, rows: list[Sequence[Any]], error: str) -> None:
        gpu = self._gpu
        head = Text(plain(gpu.device), "bold")
        head.append(f"   {plain(gpu.site)} / {plain(gpu.rack)}   ", "cyan")
        head.append(f"{plain(gpu.board) or 'known by its place'}   ", "dim")
        head.append(f"held by {plain(gpu.job)}" if gpu.job else "no job", "cyan")
        if gpu.score:
            head.append(
                f"   score {gpu.score:.2f}: {plain(gpu.cause)}", "bold red" if gpu.score >= SCORE_BAD else "yellow"
            )
        head.append(f"\n{plain(error)}" if error else "", "red")
        self.query_one("#head", Static).update(head)
        lines, wide = Text(), max(20, self.size.width - 30)
        for title, column, unit in (
            ("power", 1, "W"),
            ("die", 2, "C"),
            ("margin", 6, "C"),
            ("utilization", 3, "%"),
            ("SM activity", 4, ""),
            ("SM clock", 5, "MHz"),
        ):
            values = [float(r[column]) for r in rows if r[column] is not None]
            if not values:
                continue
            lines.append(f"\n{title:>12}  ", "dim")
            lines.append(spark(values, wide), "green")
            lines.append(f"  {values[-1]:,.4g} {unit}", "bold")
            lines.append(f"\n{'':14}{min(values):,.4g} to {max(values):,.4g} {unit} in the last half hour\n", "dim")
        nothing = Text("\nnothing is stored of the last half hour", "yellow")
        self.query_one("#lines", Static).update(lines if rows else nothing)


def _head(snapshot: Snapshot, trend: Trend, width: int) -> Text:
    text = sites(snapshot, width)
    if trend.power_w:
        wide = max(8, (width - 26) // 2)
        text.append("power ", "dim")
        text.append(spark(trend.power_w, wide), "yellow")
        text.append("  util ", "dim")
        text.append(spark(trend.util_pct, wide), "green")
    return text
