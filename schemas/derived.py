"""What the stream makes of frames: roll-ups, windows, rack and site figures, scores, incidents, labels. Arrow schemas.

A derived message is an Arrow IPC stream too, marked `gigawatch: 3/<name>`; each row names its window by its *end*.
"""

from __future__ import annotations

import pyarrow as pa

from schemas import derived_v2, inventory, jobs  # noqa: F401 - they declare their streams
from schemas.catalogue import KINDS
from schemas.codec import InvalidFrame, read_batch, read_schema
from schemas.derived_stream import DERIVED, Derived, declare

__all__ = ["DERIVED", "decode"]

_TS = pa.timestamp("ms", "UTC")
_F = pa.float32()
_D = pa.float64()
_S = pa.string()

#: Rolling windows: width and hop in seconds. Every window ends on a multiple of its hop.
PANE_S = 10
WINDOWS: tuple[tuple[int, int], ...] = ((10, 10), (60, 10), (300, 60))

_DEVICE = (("site", _S), ("rack", _S), ("node", _S), ("device", _S), ("model", _S), ("board", _S))


def _rollup(kind: str) -> Derived:
    stats = tuple((f"{m.name}_{s}", _D if m.dtype == "float64" else _F) for m in KINDS[kind].metrics for s in m.rolled)
    return Derived(
        f"rollup_{kind}",
        f"10 s roll-up of every {kind} metric: mean and max, or a counter's increase.",
        (("ts", _TS), *_DEVICE, ("samples", pa.uint32()), *stats),
        ("site", "rack", "device", "ts"),
        topic=f"rollups.{kind}",
        table=f"{kind}_10s",
        tier="10s",
        stored_by=KINDS[kind].stored_by,
        from_log=True,
    )


ROLLUPS: dict[str, Derived] = {kind: declare(_rollup(kind)) for kind in KINDS}

_WINDOWED = tuple(m for catalogue in KINDS.values() for m in catalogue.metrics if m.windowed)

WINDOW = declare(
    Derived(
        "window",
        "Rolling windows per device: utilization or flow, power and temperature.",
        (
            ("ts", _TS),
            ("kind", _S),
            ("window_s", pa.uint32()),
            *_DEVICE,
            ("samples", pa.uint32()),
            *dict.fromkeys((c, _F) for m in _WINDOWED if m.kind != "counter" for c in m.windows),
            ("busy_fraction", _F),
            *dict.fromkeys((c, _D) for m in _WINDOWED if m.kind == "counter" for c in m.windows),
        ),
        ("kind", "site", "rack", "device", "window_s", "ts"),
        topic="rollups.window",
        table="device_windows",
        stored_by="rack",
        from_log=True,
    )
)

RACK = declare(
    Derived(
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
            *((f"{kind}_power_w", _F) for kind, catalogue in KINDS.items() if catalogue.load and kind != "gpu"),
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
        topic="rollups.rack",
        table="rack_windows",
        partitions=1,
        from_log=True,
    )
)

PART = declare(
    Derived(
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
        topic="rollups.part",
        partitions=1,
    )
)

SITE = declare(
    Derived(
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
        topic="rollups.site",
        table="site_windows",
        partitions=1,
    )
)

SCORE = declare(
    Derived(
        "score",
        "Anomaly score of a device over one 10 s pane, with the metric that caused it.",
        (
            ("ts", _TS),
            ("kind", _S),
            *_DEVICE,
            ("job", _S),
            ("score", _F),
            ("cause", _S),
            ("value", _F),
            ("expected", _F),
            ("z_self", _F),
            ("z_peer", _F),
        ),
        ("kind", "site", "rack", "device", "cause", "ts"),
        topic="scores",
        table="scores",
        from_log=True,
    )
)

INCIDENT = declare(
    Derived(
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
            ("job", _S),
            ("peak", _F),
            ("score", _F),
            ("cause", _S),
        ),
        ("incident",),
        topic="incidents",
        table="incidents",
        partitions=1,
        dated="opened",
    )
)

LABEL = declare(
    Derived(
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
        topic="events.label",
        table="labels",
        partitions=1,
        dated="started",
    )
)

QUALITY = declare(
    Derived(
        "quality",
        "Telemetry that was not taken at face value, by place, metric and reason.",
        (("ts", _TS), ("kind", _S), ("site", _S), ("rack", _S), ("metric", _S), ("reason", _S), ("count", pa.uint64())),
        ("kind", "site", "rack", "metric", "reason", "ts"),
        topic="events.quality",
        table="quality",
        partitions=1,
    )
)

_MOST_HEADS = 1024
_HEADS: dict[bytes, tuple[Derived, pa.Schema, derived_v2.Upgrade | None]] = {}


def decode(data: bytes) -> tuple[Derived, pa.RecordBatch]:
    """A derived message, of version 2 too; raises InvalidFrame like the frame decoder."""
    length = 8 + int.from_bytes(data[4:8], "little") if len(data) >= 8 else 0
    found = _HEADS.get(data[:length]) if length else None
    if found is None:
        if not 8 < length <= len(data):
            raise InvalidFrame("not-arrow", f"{len(data)} bytes that begin with {data[:8].hex(' ')}")
        if len(_HEADS) > _MOST_HEADS:
            _HEADS.clear()
        found = _HEADS[data[:length]] = _head(read_schema(data[:length]))
    known, wire, upgrade = found
    batch = read_batch(data, length, wire)
    return known, batch if upgrade is None else upgrade(batch)


def _head(wire: pa.Schema) -> tuple[Derived, pa.Schema, derived_v2.Upgrade | None]:
    """Returns the stream of a schema, and what makes today's columns of an older version's."""
    number, _, name = (wire.metadata or {}).get(b"gigawatch", b"").decode("utf-8", "replace").partition("/")
    known = DERIVED.get(name)
    if known is not None and wire.equals(known.schema_of(wire.names), check_metadata=True):
        return known, wire, None
    upgrade = derived_v2.upgrade(known, wire) if known is not None and number == "2" else None
    if known is None or upgrade is None:
        raise InvalidFrame("schema", f"derived stream {name!r} with columns that are not ours")
    return known, wire, upgrade
