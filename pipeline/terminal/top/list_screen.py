"""What the screens of `gigawatch top` share: a head, a heat map and a table of the same things; sort, filter, help."""

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
from pipeline.terminal.numbers import number
from pipeline.terminal.top.widgets import HeatMap, heat

_KEYS = """\
 arrows      move in the heat map or the table     tab   switch between them
 enter       open the rack, the GPU                esc   back
 m           colour the map by the next measure    s     sort the table by the next order
 /           show only names, models and jobs that contain a text; empty: all
 space       pause and resume
 i           the rack of the newest open incident
 q           quit

 In the map: dark is cold, red is hot; grey: nothing measured."""


class LiveScreen(Screen[None]):
    """A screen that asks the store at every refresh and shows the answer."""

    @abstractmethod
    def ask(self) -> Callable[[], None]:
        """Asks the store, in a thread; returns a function that shows the answer."""

    def refresh_data(self) -> None:
        """Asks in a thread and shows the answer; a screen that was left meanwhile shows nothing."""

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


class ListScreen(LiveScreen):
    """A screen with a head, a heat map and a table of the same things; a subclass names them."""

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
        yield Input(placeholder="part of a rack's, model's or job's name; Enter", id="filter")
        yield DataTable(id="table", cursor_type="row", zebra_stripes=False)
        yield Static(id="foot")
        yield Footer(compact=True)

    def on_mount(self) -> None:
        self.query_one("#filter").display = False
        self.query_one(DataTable).add_columns(*self.COLUMNS)
        self.query_one(DataTable).focus()
        self.refresh_data()

    # -- what a subclass defines ---------------------------------------------------------------------------------------

    @abstractmethod
    def row(self, item: Any) -> Sequence[Text]:
        """Returns its cells, as many as COLUMNS."""

    @abstractmethod
    def key(self, item: Any) -> str:
        """Returns its name, which is unique on the screen."""

    @abstractmethod
    def text(self, item: Any) -> str:
        """Returns the text that a filter searches."""

    @abstractmethod
    def opens(self, item: Any) -> None:
        """Opens its screen."""

    # -- what all share ------------------------------------------------------------------------------------------------

    def show_items(self, items: list[Any]) -> None:
        """Shows the items, filtered and sorted; the cursors stay on their items."""
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

    def redraw(self) -> None:
        """Shows the same items again, after a change of order, measure, filter or pause."""
        self.show_items(self._all)

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
            line.append(f"  {plain(self.key(item))}: {number(here, 2)}", "bold")
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
        self.redraw()

    def action_sort(self) -> None:
        names = list(self.ORDERS)
        self.order = names[(names.index(self.order) + 1) % len(names)]
        self.redraw()

    def action_filter(self) -> None:
        box = self.query_one("#filter", Input)
        box.display = True
        box.value = self.wanted
        self.set_focus(box)  # at once: the next key may be here already

    def on_input_submitted(self, event: Input.Submitted) -> None:
        self.wanted = event.value.strip()
        event.input.display = False
        self.query_one(DataTable).focus()
        self.redraw()

    def action_help(self) -> None:
        self.app.push_screen(Help())
