"""The targets on two cores, and which of them a run meets."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.errors import GigawatchError

Results = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Target:
    """`of` reads the figure from a part's result; it is met at `at_least`, or at `at_most`."""

    part: str
    what: str
    unit: str
    of: Callable[[Mapping[str, Any]], float | None]
    at_least: float | None = None
    at_most: float | None = None

    def met(self, value: float) -> bool:
        return (
            value >= self.at_least if self.at_least is not None else self.at_most is not None and value <= self.at_most
        )

    @property
    def wanted(self) -> str:
        return f">= {self.at_least:,g}" if self.at_least is not None else f"<= {self.at_most:,g}"


def _key(name: str) -> Callable[[Mapping[str, Any]], float | None]:
    return lambda result: result.get(name)


TARGETS = (
    Target("end-to-end", "end to end, a rack a message", "x real time", _key("real_time_factor"), at_least=1.0),
    Target("end-to-end", "rows missing, doubled, dead-lettered, wrong", "rows", _key("wrong"), at_most=0),
    Target("end-to-end", "freshness p99", "s", _key("freshness_p99_s"), at_most=5.0),
    Target(
        "nodes", "the same, a tray of 8 GPUs a message, merged", "x real time", _key("real_time_factor"), at_least=0.5
    ),
    Target("pods", "the same, a pod of racks a message", "x real time", _key("real_time_factor"), at_least=1.5),
    Target("worker", "GPUs a worker core", "GPUs/s", _key("gpus_per_core_s"), at_least=700_000),
    Target("sink", "rows from Kafka to durable, a core", "rows/s", _key("rows_per_core_s"), at_least=1_000_000),
    Target("size", "bytes a stored value, raw tier", "bytes", _key("bytes_per_value"), at_most=0.6),
    Target("end-to-end", "memory of the worker", "MB", _key("worker_rss_mb"), at_most=4096),
    Target("flat", "dearest size against 1,000 GPUs, cost a GPU", "x", _key("worst_ratio"), at_most=1.2),
    Target("jobs", "ten job changes a second, worker CPU", "of the worker", _key("cost"), at_most=0.05),
    Target("two-workers", "two workers against one, wall time", "x", _key("speed_up"), at_least=1.8),
)
HEADERS = ("part", "what", "target", "measured", "unit", "")


def table(results: Results) -> Iterator[tuple[str, ...]]:
    """Rows of HEADERS for the parts that ran."""
    for target in TARGETS:
        value = target.of(results.get(target.part, {}))
        if value is not None:
            shown = f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"
            yield target.part, target.what, target.wanted, shown, target.unit, "met" if target.met(value) else "NOT met"


class BenchError(GigawatchError, ValueError):
    """An older result or a page cannot be used. Names the file and what is wrong with it."""


def median(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns one result of several runs: every number is the median, `wrong` the worst."""
    out = dict(runs[-1])
    for name, value in runs[-1].items():
        if (
            isinstance(value, (int, float))
            and not isinstance(value, bool)
            and all(isinstance(r.get(name), (int, float)) for r in runs)
        ):
            out[name] = statistics.median(r[name] for r in runs)
    out["wrong"] = max(r["wrong"] for r in runs)
    out["runs"] = len(runs)
    return out


def load(path: Path) -> dict[str, dict[str, Any]]:
    """Results of an older run; a file of a single part counts as that part.

    Raises BenchError that names what is wrong with it.
    """
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as err:
        raise BenchError(f"{path} is no result of `gigawatch bench --json`: {err}") from err
    if not isinstance(found, dict) or not ("parts" in found or "part" in found):
        raise BenchError(f"{path} is no result of `gigawatch bench --json`: it has neither `parts` nor `part`")
    return found["parts"] if "parts" in found else {found["part"]: found}


def compare(now: Results, then: Results) -> Iterator[tuple[str, str, str, str, str]]:
    """(part, figure, then, now, change) of every figure that both runs have."""
    for target in TARGETS:
        new, old = (target.of(r.get(target.part, {})) for r in (now, then))
        if new is not None and old is not None:
            change = f"{100 * (new / old - 1):+.0f} %" if old else ""
            yield target.part, f"{target.what} ({target.unit})", f"{old:,.4g}", f"{new:,.4g}", change
