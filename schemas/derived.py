"""What the stream makes of frames: roll-ups, windows, rack and site figures, scores, incidents, labels. Arrow schemas.

A derived message is an Arrow IPC stream too, marked `gigawatch: 2/<name>`; each row names its window by its *end*.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from schemas.catalogue import KINDS
from schemas.codec import InvalidFrame, encode_batch, read_batch, read_schema
from schemas.frame import VERSION

_TS = pa.timestamp("ms", "UTC")
_F = pa.float32()
_D = pa.float64()
_S = pa.string()

#: Rolling windows: width and hop in seconds. Every window ends on a multiple of its hop.
PANE_S = 10
WINDOWS: tuple[tuple[int, int], ...] = ((10, 10), (60, 10), (300, 60))

#: The columns that tell one row of a derived table from another; the store keeps one row per key.
_DEVICE = (("site", _S), ("rack", _S), ("node", _S), ("device", _S), ("model", _S), ("job", _S))


@dataclass(frozen=True, slots=True)
class Derived:
    """A derived stream. `key` names the columns that identify a row; a later row with the same key replaces it."""

    name: str
    help: str
    columns: tuple[tuple[str, pa.DataType], ...]
    key: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.columns)

    @property
    def schema(self) -> pa.Schema:
        return self.schema_of(self.names)

    def schema_of(self, names: Collection[str]) -> pa.Schema:
        """The Arrow schema with all columns but those floating-point ones that are not named: a metric may be left
        out.
        """
        fields = [
            pa.field(name, dtype, nullable=False)
            for name, dtype in self.columns
            if name in names or not pa.types.is_floating(dtype)
        ]
        return pa.schema(fields, {b"gigawatch": f"{VERSION}/{self.name}".encode()})

    def build(self, columns: Mapping[str, Any]) -> pa.RecordBatch:
        """A batch from arrays or lists; a floating-point column may be left out, every other must be there."""
        wire = self.schema_of(columns)
        arrays = [c if isinstance(c := columns[f.name], pa.Array) else pa.array(_cast(c, f.type), f.type) for f in wire]
        return pa.RecordBatch.from_arrays([a.cast(f.type) for a, f in zip(arrays, wire, strict=True)], schema=wire)

    def build_rows(self, rows: Sequence[Mapping[str, Any]]) -> pa.RecordBatch:
        return self.build({name: [row[name] for row in rows] for name, _ in self.columns})

    def encode(self, batch: pa.RecordBatch) -> bytes:
        return encode_batch(batch)


def _rollup(kind: str) -> Derived:
    stats = tuple((f"{m.name}_{s}", _D if m.dtype == "float64" else _F) for m in KINDS[kind].metrics for s in m.rolled)
    return Derived(
        f"rollup_{kind}",
        f"10 s roll-up of every {kind} metric: mean and max, or a counter's increase.",
        (("ts", _TS), *_DEVICE, ("samples", pa.uint32()), *stats),
        ("site", "rack", "device", "ts"),
    )


ROLLUPS: dict[str, Derived] = {kind: _rollup(kind) for kind in KINDS}

WINDOW = Derived(
    "window",
    "Rolling windows per device: utilization or flow, power and temperature.",
    (
        ("ts", _TS),
        ("kind", _S),
        ("window_s", pa.uint32()),
        *_DEVICE,
        ("samples", pa.uint32()),
        *(
            (f"{m}_{s}", _F)
            for m in ("util_pct", "power_w", "temp_c", "flow_lpm", "supply_temp_c", "return_temp_c", "heat_w")
            for s in ("mean", "max", "p95")
        ),
        ("busy_fraction", _F),
        ("energy_j", _D),
    ),
    ("kind", "site", "rack", "device", "window_s", "ts"),
)

RACK = Derived(
    "rack",
    "Rolling windows per rack: utilization, parts' and meter's power, coolant, heat balance.",
    (
        ("ts", _TS),
        ("window_s", pa.uint32()),
        ("site", _S),
        ("rack", _S),
        ("model", _S),
        ("gpus", pa.uint32()),
        ("gpus_expected", pa.uint32()),
        ("util_pct_mean", _F),
        ("util_pct_max", _F),
        ("util_pct_p95", _F),
        ("busy_fraction", _F),
        ("gpu_power_w", _F),
        ("gpu_temp_c_mean", _F),
        ("gpu_temp_c_max", _F),
        ("gpu_temp_c_p95", _F),
        ("gpu_energy_j", _D),
        ("node_power_w", _F),
        ("rack_power_w", _F),
        ("flow_lpm", _F),
        ("supply_temp_c", _F),
        ("return_temp_c", _F),
        ("heat_w", _F),
        ("heat_balance", _F),
        ("coverage", _F),
        ("kinds", pa.uint8()),
    ),
    ("site", "rack", "window_s", "ts"),
)

PART = Derived(
    "part",
    "One kind's share of a rack's window, from which rack and site figures are joined.",
    (
        ("ts", _TS),
        ("kind", _S),
        ("window_s", pa.uint32()),
        ("site", _S),
        ("rack", _S),
        ("model", _S),
        ("devices", pa.uint32()),
        ("expected", pa.uint32()),
        ("coverage", _F),
        ("util_pct_mean", _F),
        ("util_pct_max", _F),
        ("util_pct_p95", _F),
        ("busy_fraction", _F),
        ("temp_c_mean", _F),
        ("temp_c_max", _F),
        ("temp_c_p95", _F),
        ("power_w", _D),
        ("energy_j", _D),
        ("flow_lpm", _F),
        ("supply_temp_c", _F),
        ("return_temp_c", _F),
        ("heat_w", _F),
        ("util_counts", pa.list_(pa.uint32())),
    ),
    ("kind", "site", "rack", "model", "window_s", "ts"),
)

SITE = Derived(
    "site",
    "Rolling windows per site: fleet utilization, IT and facility power, live PUE.",
    (
        ("ts", _TS),
        ("window_s", pa.uint32()),
        ("site", _S),
        ("racks", pa.uint32()),
        ("gpus", pa.uint32()),
        ("gpus_expected", pa.uint32()),
        ("util_pct_mean", _F),
        ("util_pct_max", _F),
        ("util_pct_p95", _F),
        ("busy_fraction", _F),
        ("gpu_power_w", _D),
        ("gpu_energy_j", _D),
        ("it_power_w", _D),
        ("facility_power_w", _D),
        ("cooling_power_w", _D),
        ("heat_w", _D),
        ("pue", _F),
        ("heat_balance", _F),
    ),
    ("site", "window_s", "ts"),
)

SCORE = Derived(
    "score",
    "Anomaly score of a device over one 10 s pane, with the metric that caused it.",
    (
        ("ts", _TS),
        ("kind", _S),
        *_DEVICE,
        ("score", _F),
        ("cause", _S),
        ("value", _F),
        ("expected", _F),
        ("z_self", _F),
        ("z_peer", _F),
    ),
    ("kind", "site", "rack", "device", "cause", "ts"),
)

INCIDENT = Derived(
    "incident",
    "A device that stays anomalous: opened, kept up to date, closed.",
    (
        ("incident", _S),
        ("updated", _TS),
        ("opened", _TS),
        ("closed", _TS),
        ("open", pa.uint8()),
        ("kind", _S),
        *_DEVICE,
        ("peak", _F),
        ("score", _F),
        ("cause", _S),
    ),
    ("incident",),
)

LABEL = Derived(
    "label",
    "Ground truth of an injected fault.",
    (
        ("fault", _S),
        ("started", _TS),
        ("ended", _TS),
        ("kind", _S),
        ("site", _S),
        ("rack", _S),
        ("device", _S),
        ("cause", _S),
        ("severity", _F),
    ),
    ("fault", "started"),
)

QUALITY = Derived(
    "quality",
    "Telemetry that was not taken at face value, by place, metric and reason.",
    (("ts", _TS), ("kind", _S), ("site", _S), ("rack", _S), ("metric", _S), ("reason", _S), ("count", pa.uint64())),
    ("kind", "site", "rack", "metric", "reason", "ts"),
)

DERIVED: dict[str, Derived] = {
    d.name: d for d in (*ROLLUPS.values(), WINDOW, PART, RACK, SITE, SCORE, INCIDENT, LABEL, QUALITY)
}
_MOST_HEADS = 1024
_HEADS: dict[bytes, tuple[Derived, pa.Schema]] = {}


def decode(data: bytes) -> tuple[Derived, pa.RecordBatch]:
    """A derived message; raises InvalidFrame like the frame decoder."""
    length = 8 + int.from_bytes(data[4:8], "little") if len(data) >= 8 else 0
    found = _HEADS.get(data[:length]) if length else None
    if found is None:
        if not 8 < length <= len(data):
            raise InvalidFrame("not-arrow", f"{len(data)} bytes that begin with {data[:8].hex(' ')}")
        wire = read_schema(data[:length])
        name = (wire.metadata or {}).get(b"gigawatch", b"").decode("utf-8", "replace").partition("/")[2]
        known = DERIVED.get(name)
        if known is None or not wire.equals(known.schema_of(wire.names), check_metadata=True):
            raise InvalidFrame("schema", f"derived stream {name!r} with columns that are not ours")
        if len(_HEADS) > _MOST_HEADS:
            _HEADS.clear()
        found = _HEADS[data[:length]] = known, wire
    return found[0], read_batch(data, length, found[1])


def _cast(values: Any, dtype: pa.DataType) -> Any:
    """Numbers in the column's own width, which pyarrow then takes without a copy."""
    if isinstance(values, np.ndarray) and values.dtype.kind in "fiu" and not pa.types.is_timestamp(dtype):
        return np.ascontiguousarray(values, dtype.to_pandas_dtype())
    return values
