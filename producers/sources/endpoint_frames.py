"""Rows of the kind `endpoint`: whether what a source reads answers. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.frame import Frame, build

#: A row goes out at least so often, ms.
EVERY_MS = 5000


@dataclass(slots=True)
class EndpointState:
    """One endpoint and the rows that are due of it. `device` is its address, without secrets."""

    site: str
    rack: str
    node: str
    device: str
    model: str
    tick_ms: int
    _is_up: bool | None = None
    _sent_ms: int = 0
    _refused: int = 0

    def row(
        self, ts_ms: int, *, is_up: bool, duration_s: float, devices: int = 0, refused_lines: int = 0
    ) -> Frame | None:
        """Returns the row of a read, None where none is due: it goes out when `up` changes, when lines are refused
        first or no longer, and every EVERY_MS.
        """
        changed = is_up != self._is_up or bool(refused_lines) != bool(self._refused)
        if not changed and ts_ms + self.tick_ms <= self._sent_ms + EVERY_MS:
            return None
        self._is_up, self._sent_ms, self._refused = is_up, ts_ms, refused_lines
        identity = {
            "site": [self.site],
            "rack": [self.rack],
            "node": [self.node],
            "device": [self.device],
            "model": [self.model],
            "board": [""],
        }
        values = {"up": is_up, "duration_s": duration_s, "devices": devices, "refused_lines": refused_lines}
        return build("endpoint", ts_ms, identity, {name: [float(value)] for name, value in values.items()})
