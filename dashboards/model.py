"""A board's JSON as Grafana reads it: its panels, and its variables' values for a time range; used wherever panels run
without Grafana.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dashboards.macros import AllOf, MacroError, Range, expand

ALL = "$__all"
Body = Mapping[str, Any]
Values = dict[str, str | Sequence[str]]
#: Runs SQL and returns rows.
Run = Callable[[str], Sequence[Sequence[Any]]]


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable with its options and what is chosen; `error` is why there are no options."""

    name: str
    label: str
    options: tuple[tuple[str, str], ...]  # (text, value)
    chosen: tuple[str, ...]
    multi: bool = False
    hidden: bool = False
    error: str = ""

    @property
    def value(self) -> str | tuple[str, ...]:
        """As `macros.expand` takes it. "All" is every option, and stays recognizable to `$__conditionalAll`."""
        if not self.multi:
            return self.chosen[0] if self.chosen else ""
        return AllOf(value for _, value in self.options) if self.chosen == (ALL,) else self.chosen


def panels(body: Body) -> list[dict[str, Any]]:
    """Panels of a board that show data, those inside rows too, in order."""
    return [p for panel in body["panels"] for p in (panel.get("panels") or [panel]) if p.get("targets")]


def shown(panel: Body, over: Range) -> Range:
    """Returns the part of the range that a panel shows: all, or the last part by its `timeFrom` (`5m`)."""
    last = str(panel.get("timeFrom") or "")
    if not last:
        return over
    length = dt.timedelta(seconds=int(last[:-1]) * {"s": 1, "m": 60, "h": 3600}[last[-1]])
    return Range(over.last - length, over.last, max(1, round(length.total_seconds() / 300)))


def variables(run: Run, body: Body, over: Range, wanted: Mapping[str, Sequence[str]]) -> list[Variable]:
    """Returns every variable in order, each evaluated with the ones before it. `wanted`: what the user chose. A choice
    that is no option is dropped, except a name that a link has: a device that has gone silent is still shown.
    """
    found: list[Variable] = []
    for spec in body.get("templating", {}).get("list", []):
        known: Values = {v.name: v.value for v in found}
        found.append(_variable(run, spec, over, known, tuple(wanted.get(spec["name"], ()))))
    return found


def _variable(run: Run, spec: Body, over: Range, known: Values, wanted: tuple[str, ...]) -> Variable:
    name, label, multi, hidden = (
        spec["name"],
        spec.get("label") or spec["name"],
        bool(spec.get("multi")),
        spec.get("hide", 0) == 2,
    )
    if spec["type"] == "custom":
        options = tuple((o["text"], o["value"]) for o in spec["options"])
        usual = next((o["value"] for o in spec["options"] if o.get("selected")), options[0][1])
        return Variable(
            name,
            label,
            options,
            (wanted[0] if wanted and wanted[0] in {value for _, value in options} else usual,),
            hidden=hidden,
        )
    try:
        options = tuple((str(row[0]), str(row[0])) for row in run(expand(spec["definition"], over, known)))
    except MacroError as err:
        return Variable(name, label, (), (), multi, hidden, str(err))
    if multi:
        return Variable(name, label, options, (ALL,) if not wanted or ALL in wanted else wanted, multi, hidden)
    if wanted and not hidden:
        return Variable(
            name,
            label,
            options if wanted[0] in {v for _, v in options} else (*options, (wanted[0], wanted[0])),
            wanted[:1],
            multi,
            hidden,
        )
    return Variable(name, label, options, tuple(v for _, v in options[:1]), multi, hidden)
