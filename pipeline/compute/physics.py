"""Physics as a detector: heat balance of a rack, PUE of a site."""

from __future__ import annotations

import numpy as np

from schemas.arrays import Floats
from schemas.thresholds import RACK_LOADED_W


def heat_balance(heat_w: Floats, rack_power_w: Floats) -> Floats:
    """Returns coolant heat over electrical power; NaN for an idle rack or an unknown part."""
    power = np.asarray(rack_power_w, np.float64)
    loaded = power >= RACK_LOADED_W
    return np.where(loaded, heat_w / np.where(loaded, power, 1.0), np.nan)


def pue(facility_w: float, it_w: float) -> float:
    """Returns the power usage effectiveness, all power over IT power; NaN where either is unknown."""
    return facility_w / it_w if it_w > 0 and facility_w > 0 else float("nan")
