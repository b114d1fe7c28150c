"""How figures are written in the terminal: one format for numbers, scores, counts and heat balances."""

from __future__ import annotations

from rich.text import Text

from schemas.thresholds import HEAT_BALANCE, HEAT_BALANCE_OFF, SCORE_BAD, SCORE_NOTICE


def number(value: float | None, digits: int = 0, unit: float = 1.0) -> str:
    """`1,234.5`, in units of `unit`; `-` where nothing was measured."""
    return "-" if value is None else f"{value / unit:,.{digits}f}"


def right(value: float | None, digits: int = 0, unit: float = 1.0) -> Text:
    """The same as a cell of a table."""
    return Text(number(value, digits, unit), justify="right")


def counted(there: int, expected: int) -> Text:
    """`71/72`, red when some are missing."""
    return Text(f"{there}/{expected}", "bold red" if there < expected else "", justify="right")


def balance(value: float | None) -> Text:
    """Heat over power, red when it does not close."""
    odd = value is not None and abs(value - HEAT_BALANCE) > HEAT_BALANCE_OFF
    return Text(number(value, 3), "red" if odd else "", justify="right")


def score(value: float | None) -> Text:
    """An anomaly score, coloured by what it means; nothing where there is none."""
    if not value:
        return Text("")
    style = "bold red" if value >= SCORE_BAD else "yellow" if value >= SCORE_NOTICE else "dim"
    return Text(number(value, 2), style, justify="right")
