"""Units, colours by threshold, and words that panels share. Units come from the catalogue, thresholds from schemas."""

from __future__ import annotations

from collections.abc import Sequence

from grafana_foundation_sdk.builders import dashboard as dash
from grafana_foundation_sdk.models import dashboard

from schemas import thresholds
from schemas.catalogue import KINDS

#: The catalogue's units as Grafana names them.
UNITS = {
    "W": "watt",
    "J": "joule",
    "C": "celsius",
    "%": "percent",
    "ratio": "percentunit",
    "MHz": "rotmhz",
    "MiB": "mbytes",
    "L/min": "flowlpm",
    "kPa": "pressurekpa",
    "V": "volt",
    "A": "amp",
    "Hz": "hertz",
    "B/s": "Bps",
    "MB/s": "MBs",
    "count": "none",
    "code": "none",
    "bits": "none",
    "state": "none",
}
NO_DATA = "nothing stored in this time range"
#: What a panel of faults shows when there are none.
NO_FAULT = "none"
Step = tuple[str, float | None]
Steps = Sequence[Step]
GREEN: Steps = (("green", None),)
#: From good to bad as a value grows, such as scores.
SCORES: Steps = (("green", None), ("yellow", thresholds.SCORE_NOTICE), ("red", thresholds.SCORE_BAD))
LOADS: Steps = (("green", None), ("yellow", thresholds.LOAD_HIGH), ("red", thresholds.LOAD_TOO_HIGH))
BALANCE: Steps = (
    ("red", None),
    ("green", thresholds.HEAT_BALANCE - thresholds.HEAT_BALANCE_OFF),
    ("red", thresholds.HEAT_BALANCE + thresholds.HEAT_BALANCE_OFF),
)
MARGINS: Steps = (("red", None), ("yellow", thresholds.MARGIN_CAUTION_C), ("green", thresholds.MARGIN_LOW_C))
HBM: Steps = (("green", None), ("yellow", thresholds.HBM_WARM_C), ("red", thresholds.HBM_CRITICAL_C))
FLOWS: Steps = (("red", None), ("yellow", thresholds.LPM_PER_KW_LEAST), ("green", thresholds.LPM_PER_KW_DESIGN))
RISES: Steps = (("green", None), ("yellow", thresholds.DELTA_T_HIGH_K), ("red", thresholds.DELTA_T_TOO_HIGH_K))
PUES: Steps = (("green", None), ("yellow", thresholds.PUE_HIGH), ("red", thresholds.PUE_TOO_HIGH))
ANY: Steps = (("green", None), ("red", 1))
#: The words of states, with their colours.
STATES = {
    "none": "green",
    "ok": "green",
    "idle": "blue",
    "power cap": "yellow",
    "thermal limit": "orange",
    "hardware slowdown": "red",
    "leak": "red",
    "sensor fault": "orange",
    "isolated": "purple",
    "open": "red",
    "closed": "green",
}


def unit(kind: str, metric: str) -> str:
    """Grafana's unit for a metric of the catalogue."""
    return UNITS[KINDS[kind][metric].unit]


def steps(pairs: Steps) -> dash.ThresholdsConfig:
    """Thresholds as (colour, from which value); the first value is None."""
    return (
        dash.ThresholdsConfig()
        .mode(dashboard.ThresholdsMode.ABSOLUTE)
        .steps([dashboard.Threshold(value=v, color=c) for c, v in pairs])
    )
