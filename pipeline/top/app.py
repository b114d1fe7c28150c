"""`gigawatch top`: the factory, its racks, their GPUs; a heat map, a table and sparklines on each, all by keys."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen, Screen
from textual.widgets import DataTable, Footer, Input, Static
from textual.worker import get_current_worker

from pipeline.terminal import plain
from pipeline.top.data import GPU_MEASURES, GPU_ORDERS, RACK_MEASURES, RACK_ORDERS, Gpu, Picture, Rack, Store
from pipeline.top.widgets import HeatMap, heat, number, score, spark, words
from schemas.limits import HEAT_BALANCE, HEAT_BALANCE_OFF, SCORE_BAD, SCORE_NOTICE

_KEYS = """\
 arrows      move in the heat map or the table     tab   go from one to the other
 enter       open the rack, the GPU                esc   back
 m           colour the map by something else      s     sort the table otherwise
 /           show only names, models and jobs that hold some letters; empty: all
 space       pause: nothing moves until pressed again
 i           the rack of the newest open incident
 q           quit

 In the map: dark is cold, red is hot; grey: nothing measured."""


def look(screen: Listed | OneGpu) -> None:
    """Has the screen ask in a thread, and show the answer here; one that was left meanwhile shows nothing."""

    def asking() -> None:
        show = screen.ask()
        if not get_current_worker().is_cancelled and screen.is_running:
            screen.app.call_from_thread(lambda: show() if screen.is_mounted else None)

    screen.run_worker(asking, thread=True, exclusive=True)


class Help(ModalScreen[None]):
    """The keys."""

    BINDINGS: ClassVar[list[BindingType]] = [("escape,question_mark,q,enter", "app.pop_screen", "close")]

    def compose(self) -> ComposeResult:
        yield Static(_KEYS, id="help")


class Listed(Screen[None]):
    """A screen with a head, a heat map and a table of the same things. What they are is said by the screens below."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("m", "measure", "map by"), Binding("s", "sort", "sort"), Binding("slash", "filter", "filter"), Binding("space", "app.pause", "pause"),
        Binding("question_mark", "help", "keys"), Binding("q", "app.quit", "quit")]
    MEASURES: ClassVar[dict[str, Any]]
    ORDERS: ClassVar[dict[str, Callable[[Any], Any]]]
    COLUMNS: ClassVar[tuple[str, ...]]

    def __init__(self) -> None:
        super().__init__()
        self.measure, self.order, self.wanted = next(iter(self.MEASURES)), next(iter(self.ORDERS)), ""
        self._all: list[Any] = []
        self._shown: list[Any] = []
        self._mapped: list[Any] = []

    def compose(self) -> ComposeResult:
        yield Static(id="head")
        yield Static(id="legend")
        yield HeatMap(id="map")
        yield Input(placeholder="letters of a rack, a model, a job; Enter", id="filter")
        yield DataTable(id="table", cursor_type="row", zebra_stripes=False)
        yield Static(id="foot")
        yield Footer(compact=True)

    def on_mount(self) -> None:
        self.query_one("#filter").display = False
        self.query_one(DataTable).add_columns(*self.COLUMNS)
        self.query_one(DataTable).focus()
        self.look()

    # -- what the screens below say ------------------------------------------------------------------------------------

    def ask(self) -> Callable[[], None]:
        """Asks the store for what it shows (in a thread), and gives what then shows it."""
        raise NotImplementedError

    def row(self, item: Any) -> Sequence[Text]:
        raise NotImplementedError

    def key(self, item: Any) -> str:
        raise NotImplementedError

    def text(self, item: Any) -> str:
        """What a filter looks into."""
        raise NotImplementedError

    def opens(self, item: Any) -> None:
        raise NotImplementedError

    # -- what they share -----------------------------------------------------------------------------------------------

    def look(self) -> None:
        look(self)

    def take(self, items: list[Any]) -> None:
        """Shows these, in the order and filter that hold; the cursors stay where they were."""
        self._all = items
        found = [i for i in items if self.wanted.lower() in self.text(i).lower()]
        self._shown, self._mapped = sorted(found, key=self.ORDERS[self.order]), found
        _, value, low, high = self.MEASURES[self.measure]
        self.query_one(HeatMap).show([self.key(i) for i in found], [heat(value(i), low, high) for i in found])
        table = self.query_one(DataTable)
        at = table.cursor_row
        kept = table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value if table.row_count else None
        table.clear()
        for item in self._shown[:500]:
            table.add_row(*self.row(item), key=self.key(item))
        keys = [self.key(i) for i in self._shown[:500]]
        table.move_cursor(row=keys.index(kept) if kept in keys and at else 0, animate=False)
        self._legend()

    def _legend(self) -> None:
        title, value, low, high = self.MEASURES[self.measure]
        line = Text()
        for k in range(8):
            line.append("█", heat(low + (high - low) * k / 7, low, high))
        line.append(f" {title}, {low:g} to {high:g}", "dim")
        if getattr(self.app, "paused", False):
            line.append("  PAUSED", "bold yellow")
        if self.wanted:
            line.append(f"  only {plain(self.wanted)!r}: {len(self._shown)} of {len(self._all)}", "yellow")
        at = self.query_one(HeatMap).cursor
        if at < len(self._mapped):
            item, here = self._mapped[at], value(self._mapped[at])
            line.append(f"  {plain(self.key(item))}: {'-' if here is None else f'{here:.4g}'}", "bold")
        line.append(f"  sorted by {self.order}", "dim")
        self.query_one("#legend", Static).update(line)

    def on_heat_map_moved(self, _: HeatMap.Moved) -> None:
        self._legend()

    def on_heat_map_chosen(self, event: HeatMap.Chosen) -> None:
        self.opens(self._mapped[event.index])

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        self.opens(self._shown[event.cursor_row])

    def action_measure(self) -> None:
        names = list(self.MEASURES)
        self.measure = names[(names.index(self.measure) + 1) % len(names)]
        self.take(self._all)

    def action_sort(self) -> None:
        names = list(self.ORDERS)
        self.order = names[(names.index(self.order) + 1) % len(names)]
        self.take(self._all)

    def action_filter(self) -> None:
        box = self.query_one("#filter", Input)
        box.display = True
        box.value = self.wanted
        self.set_focus(box)  # at once: the next key may be here already

    def on_input_submitted(self, event: Input.Submitted) -> None:
        self.wanted = event.value.strip()
        event.input.display = False
        self.query_one(DataTable).focus()
        self.take(self._all)

    def action_help(self) -> None:
        self.app.push_screen(Help())


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
        return (words(item.rack), words(item.model), Text(f"{item.gpus}/{item.expected}", "bold red" if item.silent else "", justify="right"),
                number(item.util_pct),
                number(item.power_w, 1, 1e3), number(item.temp_c), number(item.flow_lpm), number(item.rise_k, 1),
                Text("-" if item.balance is None else f"{item.balance:.2f}", "red" if odd else "", justify="right"), score(item.score, SCORE_NOTICE, SCORE_BAD))

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
        return (words(item.device), score(item.score, SCORE_NOTICE, SCORE_BAD), words(item.cause), number(item.power_w), number(item.temp_c),
                number(item.margin_c), number(item.hbm_c), number(item.util_pct), number(item.clock_mhz), Text(spark(item.line, 16), "green"), words(item.job))

    def key(self, item: Gpu) -> str:
        return item.device

    def text(self, item: Gpu) -> str:
        return f"{item.device} {item.job} {item.cause}"

    def opens(self, item: Gpu) -> None:
        self.app.push_screen(OneGpu(item))


class OneGpu(Screen[None]):
    """A GPU's last half hour."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "app.pop_screen", "back"), Binding("space", "app.pause", "pause"),
                                             Binding("q", "app.quit", "quit")]

    def __init__(self, gpu: Gpu) -> None:
        super().__init__()
        self._gpu = gpu

    def compose(self) -> ComposeResult:
        yield Static(id="head")
        yield Vertical(Static(id="lines"))
        yield Footer(compact=True)

    def on_mount(self) -> None:
        self.look()

    def look(self) -> None:
        look(self)

    def ask(self) -> Callable[[], None]:
        past, trouble = self.app.store.past(self._gpu)  # type: ignore[attr-defined]
        return lambda: self.past(past, trouble)

    def past(self, rows: list[Sequence[Any]], trouble: str) -> None:
        gpu = self._gpu
        head = Text(plain(gpu.device), "bold")
        head.append(f"   {plain(gpu.site)} / {plain(gpu.rack)}   {plain(gpu.job) or 'no job'}", "cyan")
        if gpu.score:
            head.append(f"   score {gpu.score:.2f}: {plain(gpu.cause)}", "bold red" if gpu.score >= SCORE_BAD else "yellow")
        head.append(f"\n{trouble}" if trouble else "", "red")
        self.query_one("#head", Static).update(head)
        lines, wide = Text(), max(20, self.size.width - 30)
        for title, column, unit in (("power", 1, "W"), ("die", 2, "C"), ("margin", 6, "C"), ("utilization", 3, "%"), ("SM activity", 4, ""),
                                    ("SM clock", 5, "MHz")):
            values = [float(r[column]) for r in rows if r[column] is not None]
            if not values:
                continue
            lines.append(f"\n{title:>12}  ", "dim")
            lines.append(spark(values, wide), "green")
            lines.append(f"  {values[-1]:,.4g} {unit}", "bold")
            lines.append(f"\n{'':14}{min(values):,.4g} to {max(values):,.4g} {unit} in the last half hour\n", "dim")
        self.query_one("#lines", Static).update(lines if rows else Text("\nnothing stored of the last half hour", "yellow"))


class Top(App[None]):
    """`every_s`: seconds between looks."""

    TITLE = "gigawatch top"
    CSS = """
    #head { height: auto; max-height: 4; padding: 0 1; }
    #legend { height: 1; padding: 0 1; }
    #map { height: auto; max-height: 30%; min-height: 2; margin: 0 1; scrollbar-size: 1 1; background: $background; }
    #table { height: 1fr; background: $background; scrollbar-size: 1 1; }
    #foot { height: auto; max-height: 5; padding: 0 1; }
    #help { width: auto; height: auto; padding: 1 2; border: round $primary; background: $surface; }
    Help { align: center middle; }
    #filter { height: 3; }
    """
    ENABLE_COMMAND_PALETTE = False

    def __init__(self, store: Store, every_s: float = 2.0) -> None:
        super().__init__()
        self.store, self.paused, self._every_s = store, False, every_s

    def on_mount(self) -> None:
        self.push_screen(Factory())
        self.set_interval(self._every_s, self.round)

    def round(self) -> None:
        if not self.paused and isinstance(self.screen, Listed | OneGpu):
            self.screen.look()

    def action_pause(self) -> None:
        self.paused = not self.paused
        if isinstance(self.screen, Listed):
            self.screen.take(self.screen._all)  # noqa: SLF001 - shows that it is paused
        self.notify("paused" if self.paused else "going on", timeout=2)


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
        text.append(f"{opened:%H:%M:%S} {plain(device)} {plain(cause)} {peak:.2f} {plain(job)} {plain(rack)}"[: max(20, width - 3)] + "\n")
    return text
