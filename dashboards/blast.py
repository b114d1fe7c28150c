"""The blast radius on a board: the choice of an element, and the panels of what is behind it."""

from __future__ import annotations

from typing import Any

from grafana_foundation_sdk.builders import dashboard as dash

from dashboards import panels, variables
from dashboards.links import TO_RACK
from dashboards.queries import blast

_NOTHING = "no rack or node is known behind it: declare what feeds what in an inventory"
_UNITS = {"power": "watt"}
_DECIMALS = {"power": 2, "gpu_hours_a_day": 0, "GPUs": 0, "jobs": 0}


def element(network: str) -> dash.QueryVariable:
    """The choice among what feeds racks and nodes in a network of the inventory: power or fluid."""
    return variables.variable("element", "Behind", blast.elements(network))


def shown(examples: str) -> tuple[Any, ...]:
    """The panels: totals, and rack by rack."""
    return (
        panels.table(
            "Blast radius",
            blast.TOTALS,
            f"What is behind the element that is chosen at the top ({examples}): power now, racks, GPUs, the GPU-hours "
            "a day that they could do, and the jobs on them. Lost with it: no other feed is left. Left without "
            "redundancy: a second feed carries it, and must not fail meanwhile.",
            span=12,
            height=7,
            units=_UNITS,
            decimals=_DECIMALS,
            empty=_NOTHING,
        ),
        panels.table(
            "Behind it by rack",
            blast.RACKS,
            "The racks behind the chosen element, or those with nodes behind it: what is lost first, by power.",
            span=12,
            height=7,
            links={"rack": TO_RACK},
            hidden=["site"],
            units=_UNITS,
            decimals=_DECIMALS,
            empty=_NOTHING,
        ),
    )
