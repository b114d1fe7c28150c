"""The heat map and the sparkline, for a terminal of any width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.binding import BindingType
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

_BARS = "▁▂▃▄▅▆▇█"
#: From cold to hot; the last for what is worst.
_HEAT = ((20, 48, 77), (31, 111, 139), (86, 184, 112), (242, 192, 55), (242, 73, 92))
UNKNOWN = "#3a4250"
_CELL = 3


def heat(value: float | None, low: float, high: float) -> str:
    """The colour of a value between cold and hot."""
    if value is None:
        return UNKNOWN
    at = max(0.0, min(1.0, (value - low) / ((high - low) or 1))) * (len(_HEAT) - 1)
    step = min(int(at), len(_HEAT) - 2)
    red, green, blue = (round(a + (b - a) * (at - step)) for a, b in zip(_HEAT[step], _HEAT[step + 1], strict=True))
    return f"#{red:02x}{green:02x}{blue:02x}"


def spark(values: Sequence[float], width: int) -> str:
    """The newest values as bars, from the lowest to the highest of them."""
    shown = list(values)[-width:]
    if not shown:
        return ""
    low, high = min(shown), max(shown)
    return "".join(_BARS[round((v - low) / ((high - low) or 1) * (len(_BARS) - 1))] for v in shown)


class HeatMap(ScrollView, can_focus=True):
    """Cells with a cursor: arrows move it, Enter opens. Posts `Moved` and `Chosen` with the cell's index."""

    BINDINGS: ClassVar[list[BindingType]] = [
        ("left", "step(-1)", "left"),
        ("right", "step(1)", "right"),
        ("up", "row(-1)", "up"),
        ("down", "row(1)", "down"),
        ("enter", "choose", "open"),
    ]

    class Moved(Message):
        def __init__(self, index: int) -> None:
            super().__init__()
            self.index = index

    class Chosen(Moved):
        pass

    def __init__(self, *, id: str) -> None:  # noqa: A002 - textual's name
        super().__init__(id=id)
        self._names: list[str] = []
        self._colours: list[str] = []
        self.cursor = 0

    @property
    def across(self) -> int:
        """Cells in a row."""
        return max(1, (self.size.width or 80) // _CELL)

    def show(self, names: Sequence[str], colours: Sequence[str]) -> None:
        """New cells; the cursor stays with the name it was on."""
        before = self._names[self.cursor] if self.cursor < len(self._names) else ""
        self._names, self._colours = list(names), list(colours)
        self.cursor = self._names.index(before) if before in self._names else min(self.cursor, max(0, len(names) - 1))
        self._measure()
        self.refresh()

    def on_resize(self) -> None:
        self._measure()

    def _measure(self) -> None:
        self.virtual_size = Size(self.across * _CELL, -(-len(self._names) // self.across))

    def render_line(self, y: int) -> Strip:
        first = (y + round(self.scroll_offset.y)) * self.across
        segments = []
        for index in range(first, min(first + self.across, len(self._colours))):
            here = index == self.cursor and self.has_focus
            segments.append(
                Segment(
                    "[]" if here else "██",
                    Style(
                        color="#ffffff" if here else self._colours[index],
                        bgcolor=self._colours[index] if here else None,
                        bold=here,
                    ),
                )
            )
            segments.append(Segment(" "))
        return Strip(segments).adjust_cell_length(self.size.width)

    def _to(self, index: int) -> None:
        index = max(0, min(len(self._names) - 1, index))
        if self._names and index != self.cursor:
            self.cursor = index
            row = index // self.across
            if not round(self.scroll_offset.y) <= row < round(self.scroll_offset.y) + self.size.height:
                self.scroll_to(y=row, animate=False)
            self.refresh()
            self.post_message(self.Moved(index))

    def action_step(self, by: int) -> None:
        self._to(self.cursor + by)

    def action_row(self, by: int) -> None:
        self._to(self.cursor + by * self.across)

    def action_choose(self) -> None:
        if self._names:
            self.post_message(self.Chosen(self.cursor))
