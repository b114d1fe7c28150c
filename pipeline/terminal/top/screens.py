"""The screens of `gigawatch top`: all racks, a rack's GPUs, a GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Footer, Static

from pipeline.terminal.escape import plain
from pipeline.terminal.top.list_screen import Asking, Listed
from pipeline.terminal.top.queries import GPU_MEASURES, GPU_ORDERS, RACK_MEASURES, RACK_ORDERS, Gpu, Picture, Rack
from pipeline.terminal.top.widgets import number, score, spark, words
from schemas.thresholds import HEAT_BALANCE, HEAT_BALANCE_OFF, SCORE_BAD, SCORE_NOTICE


class Factory(Listed):
    """All racks."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("i", "incident", "incident")]
    MEASURES = RACK_MEASURES
    ORDERS = RACK_ORDERS
    COLUMNS = ("rack", "GPU", "GPUs", "util %", "kW", "max C", "L/min", "rise K", "heat", "score")

    def ask(self) -> Callable[[], None]:
        picture = self.app.store.picture()  # type: ignore[attr-defined]
        return lambda: self.picture(picture)

    def picture(self, picture: Picture) -> None:
        self._incidents = picture.incidents
        self.query_one("#head", Static).update(_head(picture, self.size.width))
        self.query_one("#foot", Static).update(_incidents(picture, self.size.width))
        self.take(picture.racks)

    def row(self, item: Rack) -> Sequence[Text]:
        odd = item.balance is not None and abs(item.balance - HEAT_BALANCE) > HEAT_BALANCE_OFF
        return (
            words(item.rack),
            words(item.model),
            Text(f"{item.gpus}/{item.expected}", "bold red" if item.silent else "", justify="right"),
            number(item.util_pct),
            number(item.power_w, 1, 1e3),
            number(item.temp_c),
            number(item.flow_lpm),
            number(item.rise_k, 1),
            Text("-" if item.balance is None else f"{item.balance:.2f}", "red" if odd else "", justify="right"),
            score(item.score, SCORE_NOTICE, SCORE_BAD),
        )

    def key(self, item: Rack) -> str:
        return f"{item.site}/{item.rack}" if item.site else item.rack

    def text(self, item: Rack) -> str:
        return f"{item.site} {item.rack} {item.model}"

    def opens(self, item: Rack) -> None:
        self.app.push_screen(OneRack(item.site, item.rack))

    def action_incident(self) -> None:
        for _, site, rack, *_ in getattr(self, "_incidents", ()):
            if rack:
                self.app.push_screen(OneRack(site, rack))
                return


class OneRack(Listed):
    """The GPUs of a rack."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "app.pop_screen", "back")]
    MEASURES = GPU_MEASURES
    ORDERS = GPU_ORDERS
    COLUMNS = ("GPU", "score", "because", "W", "C", "margin", "HBM", "util %", "MHz", "power, 8 min", "job")

    def __init__(self, site: str, rack: str) -> None:
        super().__init__()
        self._site, self._rack = site, rack

    def ask(self) -> Callable[[], None]:
        gpus, trouble = self.app.store.gpus(self._site, self._rack)  # type: ignore[attr-defined]
        return lambda: self.gpus(gpus, trouble)

    def gpus(self, gpus: list[Gpu], trouble: str) -> None:
        drawn = sum(g.power_w or 0.0 for g in gpus)
        head = Text(f"{plain(self._site)} / {plain(self._rack)}", "bold")
        head.append(f"   {len(gpus)} GPUs draw {drawn / 1000:,.1f} kW", "")
        jobs = sorted({plain(g.job) for g in gpus if g.job})
        head.append(f"   {', '.join(jobs[:3])}", "cyan")
        if trouble:
            head.append(f"\n{trouble}", "red")
        self.query_one("#head", Static).update(head)
        self.take(gpus)

    def row(self, item: Gpu) -> Sequence[Text]:
        return (
            words(item.device),
            score(item.score, SCORE_NOTICE, SCORE_BAD),
            words(item.cause),
            number(item.power_w),
            number(item.temp_c),
            number(item.margin_c),
            number(item.hbm_c),
            number(item.util_pct),
            number(item.clock_mhz),
            Text(spark(item.line, 16), "green"),
            words(item.job),
        )

    def key(self, item: Gpu) -> str:
        return item.device

    def text(self, item: Gpu) -> str:
        return f"{item.device} {item.job} {item.cause}"

    def opens(self, item: Gpu) -> None:
        self.app.push_screen(OneGpu(item))


class OneGpu(Asking):
    """A GPU's last half hour."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "app.pop_screen", "back"),
        Binding("space", "app.pause", "pause"),
        Binding("q", "app.quit", "quit"),
    ]

    def __init__(self, gpu: Gpu) -> None:
        super().__init__()
        self._gpu = gpu

    def compose(self) -> ComposeResult:
        yield Static(id="head")
        yield Vertical(Static(id="lines"))
        yield Footer(compact=True)

    def on_mount(self) -> None:
        self.look()

    def ask(self) -> Callable[[], None]:
        past, trouble = self.app.store.past(self._gpu)  # type: ignore[attr-defined]
        return lambda: self.past(past, trouble)

    def past(self, rows: list[Sequence[Any]], trouble: str) -> None:
        gpu = self._gpu
        head = Text(plain(gpu.device), "bold")
        head.append(f"   {plain(gpu.site)} / {plain(gpu.rack)}   {plain(gpu.job) or 'no job'}", "cyan")
        if gpu.score:
            head.append(
                f"   score {gpu.score:.2f}: {plain(gpu.cause)}", "bold red" if gpu.score >= SCORE_BAD else "yellow"
            )
        head.append(f"\n{trouble}" if trouble else "", "red")
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
        self.query_one("#lines", Static).update(
            lines if rows else Text("\nnothing stored of the last half hour", "yellow")
        )


def _head(picture: Picture, width: int) -> Text:
    text = Text()
    for site, ts, racks, gpus, expected, util, it_w, pue, balance in picture.sites:
        text.append(f"{plain(site)} ", "bold green")
        text.append(f"{racks} racks  ")
        text.append(f"{gpus}/{expected} GPUs", "bold red" if gpus < expected else "")
        text.append(f"  util {util or 0:.0f} %  IT {(it_w or 0) / 1e6:,.3f} MW")
        text.append((f"  PUE {pue:.3f}" if pue else "") + (f"  heat {balance:.2f}" if balance else ""))
        text.append(f"  {ts:%H:%M:%S} UTC\n", "dim")
    if not picture.sites:
        text.append("waiting for the first minute of telemetry ...\n" if not picture.trouble else "", "dim")
    if picture.trouble:
        text.append(picture.trouble + "\n", "red")
    if picture.power:
        wide = max(8, (width - 26) // 2)
        text.append("power ", "dim")
        text.append(spark(picture.power, wide), "yellow")
        text.append("  util ", "dim")
        text.append(spark(picture.util, wide), "green")
    return text


def _incidents(picture: Picture, width: int) -> Text:
    if not picture.incidents:
        return Text("no open incidents", "green")
    text = Text(f"{len(picture.incidents)} open incidents\n", "bold red")
    for opened, _, rack, device, job, cause, peak in picture.incidents[:3]:
        text.append(
            f"{opened:%H:%M:%S} {plain(device)} {plain(cause)} {peak:.2f} {plain(job)} {plain(rack)}"[
                : max(20, width - 3)
            ]
            + "\n"
        )
    return text
