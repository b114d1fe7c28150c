"""A metric, declared once; everything else (wire, storage, simulator, dashboards, docs) derives from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Literal

from schemas.arrays import Floats

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
class Formula:
    """How a derived metric follows from stored metrics of the same sample, for the stream and for ClickHouse.

    `compute` takes float64 arrays in the order of `inputs` and returns one of their shape; `sql` is the same over
    columns of these names.
    """

    inputs: tuple[str, ...]
    compute: Callable[..., Floats]
    sql: str


@dataclass(frozen=True, slots=True)
class Metric:
    """One column. `lo` and `hi` bound what is physically possible; outside is *missing*, counted, never averaged.

    `windowed` metrics have rolling windows: mean, maximum and p95 of a gauge, the increase of a counter. `alarm_at` is
    the value from which a device is certainly ill; `alert` names the alert that it raises. `formula` goes with the kind
    `derived`.
    """

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
    alert: str = ""
    formula: Formula | None = None

    def __post_init__(self) -> None:
        if (self.kind == "derived") != (self.formula is not None):
            raise ValueError(f"metric {self.name}: a formula goes with the kind derived, and with no other")
        if self.windowed and self.kind in ("state", "flags"):
            raise ValueError(f"metric {self.name}: a {self.kind} has no rolling windows")

    @property
    def windows(self) -> tuple[str, ...]:
        """The columns that it has in device windows; a counter's increase stands under its own name."""
        if not self.windowed:
            return ()
        return (self.name,) if self.kind == "counter" else tuple(f"{self.name}_{s}" for s in ("mean", "max", "p95"))

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
    """All metrics of one kind of telemetry, in wire order, and the roles that its devices play.

    `stored_by`: a row of the store holds a rack's devices (kinds with many devices a rack) or all of a message.
    `peers`: what devices share with those they are compared with: identity columns, or `job`. `expected`: a device
    that was seen, or is declared, is silent when it gives no sample. `held`: a job holds single devices, or all of a
    rack serves the jobs in it. `load`: their power is part of
    what a rack draws, in the column `<kind>_power_w` of rack windows.
    """

    kind: str
    help: str
    metrics: tuple[Metric, ...]
    stored_by: Literal["rack", "message"] = "message"
    peers: tuple[str, ...] = ("model",)
    load: bool = False
    expected: bool = True
    held: Literal["", "device", "rack"] = ""

    def __post_init__(self) -> None:
        for metric in self.metrics:
            unknown = set(metric.formula.inputs) - {m.name for m in self.stored} if metric.formula else set()
            if unknown:
                raise ValueError(
                    f"{self.kind}.{metric.name}: its formula reads {', '.join(sorted(unknown))}, not stored"
                )
        if self.load and "power_w" not in self.names:
            raise ValueError(f"{self.kind}: a load has power_w")

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
