"""Grafana's units as text: scale, digits, suffix."""

from __future__ import annotations

from dataclasses import dataclass

_SI = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_IEC = ((1024.0**4, "Ti"), (1024.0**3, "Gi"), (1024.0**2, "Mi"), (1024.0, "Ki"))


@dataclass(frozen=True, slots=True)
class Unit:
    """`scale` takes a value to the unit of `suffix`, whose prefix grows with the value if there are `prefixes`."""

    suffix: str
    prefixes: tuple[tuple[float, str], ...] = ()
    scale: float = 1.0

    def prefix(self, value: float) -> tuple[float, str]:
        """What to divide a value of that size by, and the suffix that goes with it."""
        size = abs(value) * self.scale
        for factor, letter in self.prefixes:
            if size >= factor:
                return factor / self.scale, letter + self.suffix
        return 1 / self.scale, self.suffix


#: Every unit that a board may use, by Grafana's name.
UNITS = {
    "none": Unit(""),
    "short": Unit("", ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))),
    "watt": Unit("W", _SI),
    "joule": Unit("J", _SI),
    "kwatth": Unit("Wh", _SI, 1e3),
    "celsius": Unit("°C"),
    "percent": Unit("%"),
    "percentunit": Unit("%", (), 100.0),
    "rotmhz": Unit("MHz"),
    "mbytes": Unit("B", _IEC, 1024.0**2),
    "bytes": Unit("B", _IEC),
    "flowlpm": Unit("L/min"),
    "pressurekpa": Unit("kPa"),
    "volt": Unit("V"),
    "amp": Unit("A"),
    "hertz": Unit("Hz"),
    "Bps": Unit("B/s", _SI),
    "MBs": Unit("B/s", _SI, 1e6),
    "s": Unit("s"),
    "cps": Unit("/s", _SI),
}


def known(name: str) -> Unit:
    """Returns the unit of that name; an unknown name is its own suffix."""
    return UNITS.get(name) or Unit(name)


def text(value: float, name: str, decimals: float | None = None) -> str:
    """A number with its unit: `decimals` digits after the point, or three that matter."""
    factor, suffix = known(name).prefix(value)
    shown = value / factor
    if decimals is None:
        size = abs(shown)
        decimals = 0 if size >= 100 or shown == int(shown) else 1 if size >= 10 else 2 if size >= 0.1 else 3
    number = f"{shown:,.{int(decimals)}f}"
    return f"{number} {suffix}" if suffix and suffix != "%" else number + suffix
