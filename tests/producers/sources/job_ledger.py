"""Who holds which GPUs, as a reader of the allocation stream knows it: for tests of sources that emit it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from producers.emission import Emission, Event
from schemas.jobs import ALLOCATION

OPEN = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def rows(emissions: Iterable[Emission], stream: str) -> list[dict[str, Any]]:
    """Rows of a derived stream, by its name."""
    return [r for e in emissions if isinstance(e, Event) and e.derived.name == stream for r in e.batch.to_pylist()]


@dataclass(slots=True)
class Ledger:
    """Holds by (job, node, start); the last row of each counts."""

    holds: dict[tuple[str, str, dt.datetime], dict[str, Any]] = field(default_factory=dict)

    def read(self, emissions: Iterable[Emission]) -> None:
        for row in rows(emissions, ALLOCATION.name):
            self.holds[row["job"], row["node"], row["started"]] = row

    def open(self) -> dict[str, str]:
        """Returns the job of each GPU that is held. Fails when two jobs hold one."""
        found: dict[str, str] = {}
        for row in self.holds.values():
            if row["ended"] == OPEN:
                for device in row["devices"]:
                    assert device not in found, f"{found[device]} and {row['job']} hold {device}"
                    found[device] = row["job"]
        return found
