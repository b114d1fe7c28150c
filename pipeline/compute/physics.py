"""Physics as a detector: heat in the coolant, heat balance of a rack, PUE of a site."""

from __future__ import annotations

import numpy as np

from schemas.arrays import Floats
from schemas.kinds.cooling import PG25_J_PER_L_K

#: Spread of the heat balance of healthy racks about `limits.HEAT_BALANCE`.
HEAT_BALANCE_SIGMA = 0.03
#: Below this a rack is idle and its balance says nothing, W.
LOADED_W = 5000.0


def coolant_heat_w(flow_lpm: Floats, supply_c: Floats, return_c: Floats) -> Floats:
    """Heat the coolant carries, W: litres a minute x kelvin x 3.9 kJ/L/K (PG25) / 60."""
    return np.asarray(flow_lpm * (return_c - supply_c) * (PG25_J_PER_L_K / 60.0))


def heat_balance(heat_w: Floats, rack_power_w: Floats) -> Floats:
    """Coolant heat over electrical power; NaN for an idle rack or an unknown part."""
    power = np.asarray(rack_power_w, np.float64)
    loaded = power >= LOADED_W
    return np.where(loaded, heat_w / np.where(loaded, power, 1.0), np.nan)


def pue(facility_w: float, it_w: float) -> float:
    """Power usage effectiveness: all power over IT power; NaN where either is unknown."""
    return facility_w / it_w if it_w > 0 and facility_w > 0 else float("nan")
