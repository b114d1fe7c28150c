"""The ClickHouse plugin's macros and variables, expanded as its backend does, so that a panel's query can be run
without Grafana.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from schemas.errors import GigawatchError

_CALL = re.compile(r"\$__([A-Za-z_]+)")
_VARIABLE = re.compile(r"\$\{(\w+)(?::(\w+))?\}|\$(\w+)")


class MacroError(GigawatchError, ValueError):
    """A macro that does not exist, or is called wrongly."""


@dataclass(frozen=True, slots=True)
class Range:
    """The dashboard's time range (UTC) and the panel's interval in seconds, at least 1."""

    first: dt.datetime
    last: dt.datetime
    interval_s: int = 10


class AllOf(tuple[str, ...]):
    """Every option of a variable of which all are chosen; `$__conditionalAll` knows it."""

    __slots__ = ()


def expand(sql: str, over: Range, variables: Mapping[str, str | Sequence[str]]) -> str:
    """The SQL that reaches ClickHouse; raises MacroError for an unknown macro or variable."""
    return _variables(_macros(sql, over, variables), variables)


def _macros(sql: str, over: Range, variables: Mapping[str, str | Sequence[str]]) -> str:
    out, at = [], 0
    while match := _CALL.search(sql, at):
        out.append(sql[at : match.start()])
        name, at = match[1], match.end()
        arguments: list[str] = []
        if at < len(sql) and sql[at] == "(":
            arguments, at = _arguments(sql, at)
        arguments = [_macros(a, over, variables) for a in arguments]
        out.append(_one(name, arguments, over, variables))
    return "".join([*out, sql[at:]])


def _arguments(sql: str, at: int) -> tuple[list[str], int]:
    depth, begin, found = 0, at + 1, []
    for index in range(at, len(sql)):
        char = sql[index]
        if char == "(":
            depth += 1
        elif char == ")":
            depth -= 1
            if depth == 0:
                found.append(sql[begin:index].strip())
                return [a for a in found if a], index + 1
        elif char == "," and depth == 1:
            found.append(sql[begin:index].strip())
            begin = index + 1
    raise MacroError(f"a parenthesis is not closed: {sql[at : at + 60]!r}")


def _one(name: str, args: list[str], over: Range, variables: Mapping[str, str | Sequence[str]]) -> str:
    first, last = int(over.first.timestamp()), int(over.last.timestamp())
    first_ms, last_ms = int(over.first.timestamp() * 1000), int(over.last.timestamp() * 1000)
    seconds = max(1, over.interval_s)
    begin, end = f"toDateTime({first})", f"toDateTime({last})"
    begin_ms, end_ms = f"fromUnixTimestamp64Milli({first_ms})", f"fromUnixTimestamp64Milli({last_ms})"
    dates = f"'{over.first:%Y-%m-%d}'", f"'{over.last:%Y-%m-%d}'"
    macros: dict[str, tuple[int, Callable[[], str]]] = {
        "timeFilter": (1, lambda: f"{args[0]} >= {begin} AND {args[0]} <= {end}"),
        "timeFilter_ms": (1, lambda: f"{args[0]} >= {begin_ms} AND {args[0]} <= {end_ms}"),
        "fromTime": (0, lambda: begin),
        "toTime": (0, lambda: end),
        "fromTime_ms": (0, lambda: begin_ms),
        "toTime_ms": (0, lambda: end_ms),
        "timeFrom": (1, lambda: f"{args[0]} >= {begin}"),
        "timeTo": (1, lambda: f"{args[0]} <= {end}"),
        "dateFilter": (1, lambda: f"{args[0]} >= toDate({dates[0]}) AND {args[0]} <= toDate({dates[1]})"),
        "dateTimeFilter": (
            2,
            lambda: (
                f"{args[0]} >= toDate({dates[0]}) AND {args[0]} <= toDate({dates[1]}) AND {args[1]} >= {begin} "
                f"AND {args[1]} <= {end}"
            ),
        ),
        "timeInterval": (1, lambda: f"toStartOfInterval(toDateTime({args[0]}), INTERVAL {seconds} second)"),
        "timeInterval_ms": (
            1,
            lambda: f"toStartOfInterval(toDateTime64({args[0]}, 3), INTERVAL {seconds * 1000} millisecond)",
        ),
        "timeGroup": (2, lambda: f"toStartOfInterval(toDateTime({args[0]}), INTERVAL {_seconds(args[1])} second)"),
        "interval_s": (0, lambda: str(seconds)),
        "conditionalAll": (2, lambda: "1=1" if _is_all(args[1], variables) else args[0]),
    }
    macros["dt"] = macros["dateTimeFilter"]
    if name not in macros:
        raise MacroError(f"$__{name} is no macro of the ClickHouse plugin")
    wanted, make = macros[name]
    if len(args) != wanted:
        raise MacroError(f"$__{name} takes {wanted} argument(s), got {len(args)}")
    return make()


def _seconds(text: str) -> int:
    match = re.fullmatch(r"'?(\d+)([smhd])'?", text)
    if not match:
        raise MacroError(f"{text} is not an interval such as '10s'")
    return int(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]


def _is_all(reference: str, variables: Mapping[str, str | Sequence[str]]) -> bool:
    name = reference.strip().strip("${}").split(":")[0]
    chosen = variables.get(name)
    return chosen == "$__all" or isinstance(chosen, AllOf)


def _variables(sql: str, variables: Mapping[str, str | Sequence[str]]) -> str:
    def value(match: re.Match[str]) -> str:
        name, form = match[1] or match[3], match[2]
        if name not in variables:
            raise MacroError(f"variable ${name} is not defined by the dashboard")
        chosen = variables[name]
        if form == "singlequote" or not isinstance(chosen, str):
            return ",".join(_quoted(v) for v in ([chosen] if isinstance(chosen, str) else chosen)) or "''"
        return chosen

    return _VARIABLE.sub(value, sql)


def _quoted(text: str) -> str:
    """A string literal.

    Grafana escapes the quote alone; a backslash would end a literal early, so it is escaped here too.
    """
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
