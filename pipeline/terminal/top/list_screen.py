"""What the screens of `gigawatch top` share: a head, a heat map and a table of the same things; sort, filter, pause,
help.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen, Screen
from textual.widgets import DataTable, Footer, Input, Static
from textual.worker import get_current_worker

from pipeline.terminal.escape import plain
from pipeline.terminal.top.widgets import HeatMap, heat

_KEYS = """\
 arrows      move in the heat map or the table     tab   go from one to the other
 enter       open the rack, the GPU                esc   back
 m           colour the map by something else      s     sort the table otherwise
 /           show only names, models and jobs that hold some letters; empty: all
 space       pause: nothing moves until pressed again
 i           the rack of the newest open incident
 q           quit

 In the map: dark is cold, red is hot; grey: nothing measured."""


class Asking(Screen[None]):
    """A screen that asks the store, again and again, and shows the answer."""

    @abstractmethod
    def ask(self) -> Callable[[], None]:
        """Asks the store for what it shows (in a thread), and gives what then shows it."""

    def look(self) -> None:
        """Asks in a thread, and shows the answer here; a screen that was left meanwhile shows nothing."""

        def asking() -> None:
            show = self.ask()
            if not get_current_worker().is_cancelled and self.is_running:
                self.app.call_from_thread(lambda: show() if self.is_mounted else None)

        self.run_worker(asking, thread=True, exclusive=True)


class Help(ModalScreen[None]):
    """The keys."""

    BINDINGS: ClassVar[list[BindingType]] = [("escape,question_mark,q,enter", "app.pop_screen", "close")]

    def compose(self) -> ComposeResult:
        yield Static(_KEYS, id="help")


class Listed(Asking):
    """A screen with a head, a heat map and a table of the same things. What they are is said by the screens below."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("m", "measure", "map by"),
        Binding("s", "sort", "sort"),
        Binding("slash", "filter", "filter"),
        Binding("space", "app.pause", "pause"),
        Binding("question_mark", "help", "keys"),
        Binding("q", "app.quit", "quit"),
    ]
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

    @abstractmethod
    def row(self, item: Any) -> Sequence[Text]:
        """Its cells, as many as COLUMNS."""

    @abstractmethod
    def key(self, item: Any) -> str:
        """What it is called, and nothing else here."""

    @abstractmethod
    def text(self, item: Any) -> str:
        """What a filter looks into."""

    @abstractmethod
    def opens(self, item: Any) -> None:
        """Goes to the screen of this one."""

    # -- what they share -----------------------------------------------------------------------------------------------

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
