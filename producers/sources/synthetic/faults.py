"""Labelled faults: what can be made to fail in the plant, when and how strongly, and the cause it should show as."""

from __future__ import annotations

import re
from dataclasses import dataclass

from producers.sources.source import SourceError

#: fault -> (kind of the device that should be flagged, the metric that shows it)
FAULTS: dict[str, tuple[str, str]] = {
    "gpu-thermal": ("gpu", "temp_c"),
    "gpu-throttle": ("gpu", "sm_clock_mhz"),
    "gpu-straggler": ("gpu", "sm_active"),
    "gpu-dead": ("gpu", "silent"),
    "gpu-frozen": ("gpu", "frozen"),
    "coolant-flow": ("cooling", "flow_lpm"),
    "cdu-pump": ("cooling", "pumps_running"),
    "leak": ("cooling", "leak"),
    "lying-sensor": ("cooling", "heat_balance"),
    "psu-loss": ("power", "psu_failed"),
}

_SPEC = re.compile(
    r"(?P<name>[a-z-]+)(?:@(?P<place>[A-Za-z0-9-]+))?(?::(?P<at>\d+(?:\.\d+)?))?"
    r"(?:\+(?P<lasts>\d+(?:\.\d+)?))?(?:\*(?P<severity>\d+(?:\.\d+)?))?"
)


@dataclass(frozen=True, slots=True)
class Fault:
    """`place` is a GPU (`R0001-N01-GPU0`), a rack (`R0001`) or a CDU (`CDU-001`); times are seconds after the start."""

    name: str
    place: str
    at_s: float
    lasts_s: float
    severity: float = 1.0

    def level(self, t_s: float) -> float:
        """Returns the severity at `t_s` seconds after the start: 0 outside, with a ramp of 5 s at the beginning."""
        if not self.at_s <= t_s < self.at_s + self.lasts_s:
            return 0.0
        return self.severity * min(1.0, (t_s - self.at_s + 1.0) / 5.0)


def parse(spec: str) -> Fault:
    """Returns the fault `NAME[@PLACE][:AT][+LASTS][*SEVERITY]`, such as `gpu-thermal@R0001-N03-GPU2:60+120`. Raises
    SourceError.
    """
    match = _SPEC.fullmatch(spec.strip())
    if not match or match["name"] not in FAULTS:
        raise SourceError(
            f"fault {spec!r}: wants NAME[@PLACE][:AT_SECONDS][+LASTS_SECONDS][*SEVERITY], "
            f"where NAME is one of {', '.join(FAULTS)}"
        )
    name = match["name"]
    default = {"gpu": "R0001-N01-GPU0", "power": "R0001", "cooling": "R0001"}[FAULTS[name][0]]
    place = match["place"] or ("CDU-001" if name == "cdu-pump" else default)
    return Fault(name, place, float(match["at"] or 60), float(match["lasts"] or 1e9), float(match["severity"] or 1))
