"""`gigawatch top`: the factory, its racks, their GPUs; a heat map, a table and sparklines on each, all by keys."""

from __future__ import annotations

from textual.app import App

from pipeline.terminal.top.list_screen import ListScreen, LiveScreen
from pipeline.terminal.top.queries import Store
from pipeline.terminal.top.screens import FactoryScreen


class Top(App[None]):
    """`every_s` is the seconds between refreshes."""

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
        self.push_screen(FactoryScreen())
        self.set_interval(self._every_s, self.round)

    def round(self) -> None:
        if not self.paused and isinstance(self.screen, LiveScreen):
            self.screen.refresh_data()

    def action_pause(self) -> None:
        self.paused = not self.paused
        if isinstance(self.screen, ListScreen):
            self.screen.redraw()
        self.notify("paused" if self.paused else "resumed", timeout=2)
