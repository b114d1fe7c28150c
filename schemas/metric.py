"""A metric, declared once; everything else (wire, storage, simulator, dashboards, docs) derives from it."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Literal

MetricKind = Literal["gauge", "counter", "state", "flags", "derived"]
Direction = Literal["high", "low", "both"]

#: Values that vendors' tools print for "not supported"; each is far outside any physical range.
#: DCGM_INT32_BLANK .. DCGM_INT32_PERMISSION_DENIED and the INT64 and FP64 families of NVIDIA's dcgm_structs.h,
#: whose blanks start at 0x7ffffff0, 0x7ffffffffffffff0 and 140737488355328.0.
BLANK_INT32 = 0x7FFFFFF0
BLANK_INT64 = 0x7FFFFFFFFFFFFFF0
BLANK_FP64 = 140737488355328.0


@dataclass(frozen=True, slots=True)
class Score:
    """How a metric votes in anomaly scores.

    `direction` is the side that is bad, `floor` the smallest spread (in the metric's unit) that counts as noise:
    a device may sit `floor` away from its peers or its past before it earns a z of 1.
    """

    direction: Direction
    floor: float
    weight: float = 1.0
    self_history: bool = True


@dataclass(frozen=True, slots=True)
class Metric:
    """One column. `lo` and `hi` bound what is physically possible; outside is *missing*, counted, never averaged."""

    name: str
    unit: str
    help: str
    kind: MetricKind = "gauge"
    dtype: Literal["float32", "float64"] = "float32"
    lo: float = 0.0
    hi: float = inf
    resolution: float = 0.0
    sentinels: tuple[float, ...] = (BLANK_INT32, BLANK_INT64, BLANK_FP64)
    windowed: bool = False
    score: Score | None = None
    alarm_at: float | None = None

    @property
    def rolled(self) -> tuple[str, ...]:
        """The statistics kept of this metric in the roll-up tiers: column suffixes."""
        match self.kind:
            case "counter":
                return ("inc",)
            case "state" | "flags":
                return ("max",)
            case _:
                return ("mean", "max")


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All metrics of one kind of telemetry, in wire order."""

    kind: str
    help: str
    metrics: tuple[Metric, ...]

    @property
    def stored(self) -> tuple[Metric, ...]:
        """Metrics that arrive in frames; derived ones are computed from these."""
        return tuple(m for m in self.metrics if m.kind != "derived")

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(m.name for m in self.metrics)

    def __getitem__(self, name: str) -> Metric:
        for metric in self.metrics:
            if metric.name == name:
                return metric
        raise KeyError(f"no metric {name!r} in the {self.kind} catalogue; it has {', '.join(self.names)}")
