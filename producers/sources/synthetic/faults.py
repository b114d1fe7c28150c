"""Labelled faults: what can be made to fail in the plant, when and how strongly, and the cause it should show as."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from producers.sources.source import SourceError

FaultPlace = Literal["GPU", "node", "rack", "CDU"]


@dataclass(frozen=True, slots=True)
class FaultForm:
    """`at`: what the fault happens to. `kind` of the device that should be flagged, and the `cause` that shows it; an
    empty cause: nothing may be flagged.
    """

    at: FaultPlace
    kind: str
    cause: str


SWAP = "gpu-swap"
FAULTS: dict[str, FaultForm] = {
    "gpu-thermal": FaultForm("GPU", "gpu", "temp_c"),
    "gpu-throttle": FaultForm("GPU", "gpu", "sm_clock_mhz"),
    "gpu-straggler": FaultForm("GPU", "gpu", "sm_active"),
    "gpu-dead": FaultForm("GPU", "gpu", "silent"),
    "gpu-frozen": FaultForm("GPU", "gpu", "frozen"),
    SWAP: FaultForm("GPU", "gpu", ""),
    "job-idle": FaultForm("node", "gpu", "sm_clock_mhz"),
    "rack-dark": FaultForm("rack", "gpu", "silent"),
    "coolant-flow": FaultForm("rack", "cooling", "flow_lpm"),
    "cdu-pump": FaultForm("CDU", "cooling", "pumps_running"),
    "leak": FaultForm("rack", "cooling", "leak"),
    "lying-sensor": FaultForm("rack", "cooling", "heat_balance"),
    "psu-loss": FaultForm("rack", "power", "psu_failed"),
}
_DEFAULT = {"GPU": "R0001-N01-GPU0", "node": "R0001-N01", "rack": "R0001", "CDU": "CDU-001"}

_SPEC = re.compile(
    r"(?P<name>[a-z-]+)(?:@(?P<place>[A-Za-z0-9-]+)(?:~(?P<other>[A-Za-z0-9-]+))?)?(?::(?P<at>\d+(?:\.\d+)?))?"
    r"(?:\+(?P<lasts>\d+(?:\.\d+)?))?(?:\*(?P<severity>\d+(?:\.\d+)?))?"
)


@dataclass(frozen=True, slots=True)
class Fault:
    """`place` is a GPU (`R0001-N01-GPU0`), a node (`R0001-N01`), a rack (`R0001`) or a CDU (`CDU-001`); times are
    seconds after the start. `other`: the GPU whose board changes places with that of `place`; empty: a spare comes in.
    """

    name: str
    place: str
    at_s: float
    lasts_s: float
    severity: float = 1.0
    other: str = ""

    def level(self, t_s: float) -> float:
        """Returns the severity at `t_s` seconds after the start: 0 outside, with a ramp of 5 s at the beginning."""
        if not self.at_s <= t_s < self.at_s + self.lasts_s:
            return 0.0
        return self.severity * min(1.0, (t_s - self.at_s + 1.0) / 5.0)


def parse(spec: str) -> Fault:
    """Returns the fault `NAME[@PLACE][:AT][+LASTS][*SEVERITY]`, such as `gpu-thermal@R0001-N03-GPU2:60+120`, or
    `gpu-swap[@PLACE[~PLACE]][:AT]`, which is a moment. Raises SourceError.
    """
    match = _SPEC.fullmatch(spec.strip())
    if not match or match["name"] not in FAULTS:
        raise SourceError(
            f"fault {spec!r}: wants NAME[@PLACE][:AT_SECONDS][+LASTS_SECONDS][*SEVERITY], "
            f"where NAME is one of {', '.join(FAULTS)}"
        )
    name, swap = match["name"], match["name"] == SWAP
    if swap and (match["lasts"] or match["severity"]):
        raise SourceError(f"fault {spec!r}: a swap is a moment: {SWAP}[@PLACE[~PLACE]][:AT_SECONDS]")
    if match["other"] and not swap:
        raise SourceError(f"fault {spec!r}: only {SWAP} takes a second place")
    place = match["place"] or _DEFAULT[FAULTS[name].at]
    lasts = 0.0 if swap else float(match["lasts"] or 1e9)
    return Fault(name, place, float(match["at"] or 60), lasts, float(match["severity"] or 1), match["other"] or "")
