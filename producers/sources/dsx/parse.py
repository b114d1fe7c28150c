"""NVIDIA DSX Exchange BMS messages as frames: topic and payload parsing, and sample-and-hold onto ticks. Pure.

Contract: `BMS/v1/PUB/{Value|Metadata}/{objectType}/{pointType}/{tagPath}`; values on change, republished every 100 s.
Traps handled here: misspelt process areas, points without values, seconds instead of milliseconds, units other than
the contract's, requests and set-points that are no measurements.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from producers.sources import points
from schemas.catalogue import KINDS
from schemas.errors import GigawatchError
from schemas.frame import Frame, build

#: A point may be silent for its republish interval (100 s) and a little more before its value is no longer held.
HOLD_MS = 130_000

#: engUnit -> factor to the unit that the scales of `points/` assume (kW, kVA, LPM, kPa, C, ...).
_UNITS = {
    "": 1.0,
    "kW": 1.0,
    "W": 1e-3,
    "MW": 1e3,
    "kVA": 1.0,
    "VA": 1e-3,
    "MVA": 1e3,
    "LPM": 1.0,
    "GPM": 3.785412,
    "kPa": 1.0,
    "Pa": 1e-3,
    "bar": 100.0,
    "psi": 6.894757,
    "C": 1.0,
    "degC": 1.0,
    "%": 1.0,
    "%RH": 1.0,
    "A": 1.0,
    "V": 1.0,
    "Hz": 1.0,
}

_TYPES = {"CDU": "cdu", "Pump": "pump", "Sensor": "air-sensor", "Valve": "valve", "PowerMeter": "meter"}


class InvalidMessage(GigawatchError, ValueError):
    """A message that breaks the DSX BMS contract; `reason` for counters, `detail` for people."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


@dataclass(frozen=True, slots=True)
class Point:
    """The metric of a device that one topic's values are; `scale` makes its unit of theirs."""

    kind: str
    site: str
    rack: str
    device: str
    model: str
    metric: str
    scale: float


@dataclass(slots=True)
class _Held:
    value: float
    ts_ms: int


class Points:
    """Ingests messages in order and makes frames of the values that hold at a tick.

    `unmapped` counts points without a metric here by objectType/pointType, `refused` messages by reason.
    """

    def __init__(self, site: str = "") -> None:
        self._site = site
        self._names = {point.at: (point.kind, point.metric, point.scale) for point in points.of("dsx")}
        self._points: dict[str, Point | None] = {}
        self._held: dict[tuple[str, str, str, str, str], dict[tuple[str, str], _Held]] = {}
        self.unmapped: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()

    def ingest(self, topic: str, payload: str, now_ms: int) -> None:
        """Ingests one message; a point's metadata must come before its values. Raises InvalidMessage and keeps what it
        holds.
        """
        parts = topic.split("/")
        if len(parts) < 7 or parts[:3] != ["BMS", "v1", "PUB"] or parts[3] not in ("Value", "Metadata"):
            raise self._refuse("topic", f"{topic!r} is not BMS/v1/PUB/Value|Metadata/objectType/pointType/tagPath")
        tag = "/".join(parts[4:])
        try:
            body = json.loads(payload.replace("{{timestamp_ms}}", str(now_ms)))
        except (ValueError, RecursionError) as err:  # the latter for a payload of brackets
            raise self._refuse("json", f"{tag}: {err}") from err
        if not isinstance(body, dict):
            raise self._refuse("json", f"{tag}: not an object")
        if parts[3] == "Metadata":
            self._points[tag] = self._map(parts, body)
        else:
            self._value(tag, parts, body, now_ms)

    def frames(self, ts_ms: int) -> Iterator[Frame]:
        """Yields the values that hold at `ts_ms`: one frame per kind and rack, or per device outside racks."""
        groups: dict[tuple[str, str], list[tuple[tuple[str, str, str, str, str], dict[str, float]]]] = {}
        for key, metrics in self._held.items():
            current: dict[str, float] = {}
            for (metric, _), held in metrics.items():
                if ts_ms - held.ts_ms <= HOLD_MS:  # of several points of one metric (a CDU's pumps) the highest counts
                    current[metric] = max(held.value, current.get(metric, held.value))
            if current:
                kind, _, rack, device, _ = key
                groups.setdefault((kind, rack or device), []).append((key, current))
        for (kind, _), rows in sorted(groups.items()):
            names = sorted({m for _, current in rows for m in current})
            identity = {
                column: [key[i] for key, _ in rows]
                for column, i in (("site", 1), ("rack", 2), ("device", 3), ("model", 4))
            }
            yield build(kind, ts_ms, identity, {n: np.array([c.get(n, np.nan) for _, c in rows]) for n in names})

    def _refuse(self, reason: str, detail: str) -> InvalidMessage:
        self.refused[reason] += 1
        return InvalidMessage(reason, detail)

    def _value(self, tag: str, parts: list[str], body: dict[str, object], now_ms: int) -> None:
        if tag not in self._points:
            self._points[tag] = self._map(parts, {})
        point = self._points[tag]
        if point is None:
            self.unmapped[f"{parts[4]}/{parts[5]}"] += 1
            return
        value, stamp = body.get("value"), body.get("timestamp", now_ms)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not isinstance(stamp, (int, float)):
            raise self._refuse("value", f"{tag}: value {value!r} at {stamp!r} is not a number")
        if not abs(value) < 1e30 or not abs(stamp) < 1e15:  # no reading, infinite or not a number
            raise self._refuse("value", f"{tag}: value {str(value)[:40]} at {str(stamp)[:40]} is out of all bounds")
        if 0 < stamp < 1e11:  # some integrations send seconds where the contract has milliseconds
            stamp *= 1000
            self.refused["seconds"] += 1
        if body.get("quality", 1) != 1:
            self.refused["quality"] += 1
            return
        device = (point.kind, point.site, point.rack, point.device, point.model)
        self._held.setdefault(device, {})[point.metric, tag] = _Held(float(value) * point.scale, int(stamp))

    def _map(self, parts: list[str], meta: dict[str, object]) -> Point | None:
        """Returns the metric and device of a point; None for a point that is no measurement of the catalogue."""
        object_type, point_type, tags = parts[4], parts[5], [t.lower() for t in parts[6:]]
        if meta.get("isSetpoint") is True and not point_type.endswith("Sp"):
            return None
        if any(t.startswith("max") or "setpoint" in t or t == "fillpump" for t in tags):
            return None
        name = f"{object_type}/{point_type}"
        if point_type == "PhaseCurrent":
            name += next((f"/{n}" for n in "123" if any(t.endswith(f"phase{n}") for t in tags)), "")
        elif object_type == "CDU":
            name = self._cdu_point(name, tags, meta)
        found = self._names.get(name)
        if found is None:
            return None
        kind, metric, scale = found
        if meta.get("stateText") and KINDS[kind][metric].kind != "state":
            return None  # open or closed is no position in per cent
        unit = _UNITS.get(str(meta.get("engUnit") or ""))
        if unit is None:
            self.refused["unit"] += 1
            return None
        rack = str(meta.get("rackLocationId") or meta.get("rackID") or "")
        if object_type == "Rack":
            device, model = rack or parts[-4 if len(parts) > 9 else 6], "rack-meter" if kind == "power" else "rack-loop"
            rack = device
        else:
            device = str(meta.get("objectId") or "/".join(parts[6:-2]))
            if object_type == "Sensor":  # one id for a room: the tag path has the aisle and the probe
                device = "/".join(
                    [device, *[t for t in parts[6:] if t.lower().startswith(("hot", "cold", "temp0", "rh0"))]]
                )
            model = _TYPES.get(object_type, object_type.lower())
        return Point(kind, self._site or "/".join(parts[6:8]), rack, device, model, metric, scale * unit)

    @staticmethod
    def _cdu_point(name: str, tags: list[str], meta: dict[str, object]) -> str:
        """Returns `name` with the side and the port that a CDU's point measures: by the tag path, then by the process
        areas, which can be misspelt.
        """
        raw = meta.get("processArea") or []
        areas = [str(a).lower() for a in (raw if isinstance(raw, list) else [raw])]
        side = (
            "primary"
            if "primary" in tags or any(a.startswith("prim") for a in areas)
            else ("secondary" if "secondary" in tags or any(a.startswith("sec") for a in areas) else "")
        )
        if not side or name in ("CDU/PumpSpeed", "CDU/ValvePosition"):
            return name
        port = next(
            (
                p
                for p in ("inlet", "outlet", "supply", "return", "filter")
                if any(t.startswith(p) for t in tags) or any(a.startswith(p) for a in areas)
            ),
            "",
        )
        return f"{name}/{side}/{port}" if port else f"{name}/{side}"
