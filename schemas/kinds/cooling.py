"""The `cooling` catalogue: rack liquid loops, CDUs, pumps, air sensors and the plant; DSX Rack, CDU, Pump and Sensor
points.
"""

import numpy as np

from schemas.arrays import Floats
from schemas.metric import Catalogue, Formula, Metric, Score

#: Volumetric heat capacity of the coolant, J per litre and kelvin: PG25 (25 % propylene glycol) near 40 C, the value
#: with which NVIDIA's recorded facility trace closes at 0.93 to 0.95.
PG25_J_PER_L_K = 3900.0


def coolant_heat_w(flow_lpm: Floats, supply_c: Floats, return_c: Floats) -> Floats:
    """Heat that the coolant carries, W: litres a minute x kelvin x 3.9 kJ/L/K (PG25) / 60."""
    return np.asarray(flow_lpm * (return_c - supply_c) * (PG25_J_PER_L_K / 60.0))


COOLING = Catalogue(
    "cooling",
    "One cooling device: a rack's liquid loop, a CDU, a pump, the plant or an air sensor.",
    (
        Metric(
            "flow_lpm",
            "L/min",
            "Coolant flow (CDU: secondary loop).",
            hi=1e6,
            resolution=0.1,
            windowed=True,
            score=Score("low", 4.0),
        ),
        Metric(
            "supply_temp_c",
            "C",
            "Coolant into the load (CDU: secondary supply).",
            lo=-10,
            hi=90,
            resolution=0.1,
            windowed=True,
            score=Score("high", 0.8),
        ),
        Metric(
            "return_temp_c",
            "C",
            "Coolant out of the load (CDU: secondary return).",
            lo=-10,
            hi=110,
            resolution=0.1,
            windowed=True,
            score=Score("high", 1.5),
        ),
        Metric(
            "diff_pressure_kpa",
            "kPa",
            "Pressure across the load (CDU: secondary).",
            hi=2000,
            resolution=0.1,
            score=Score("both", 12.0),
        ),
        Metric(
            "diff_pressure_sp_kpa",
            "kPa",
            "Set-point of that pressure.",
            hi=2000,
            resolution=0.1,
        ),
        Metric(
            "valve_pct",
            "%",
            "Control valve position.",
            hi=100,
            resolution=0.1,
        ),
        Metric(
            "pump_speed_pct",
            "%",
            "Pump speed; of a CDU, its fastest pump.",
            hi=100,
            resolution=0.1,
            score=Score("both", 8.0),
        ),
        Metric(
            "primary_supply_temp_c",
            "C",
            "Facility water into the CDU.",
            lo=-10,
            hi=90,
            resolution=0.1,
        ),
        Metric(
            "primary_return_temp_c",
            "C",
            "Facility water out of the CDU.",
            lo=-10,
            hi=110,
            resolution=0.1,
        ),
        Metric(
            "primary_flow_lpm",
            "L/min",
            "Facility water flow.",
            hi=1e6,
            resolution=0.1,
        ),
        Metric(
            "supply_pressure_kpa",
            "kPa",
            "Secondary supply pressure.",
            hi=5000,
            resolution=0.1,
        ),
        Metric(
            "return_pressure_kpa",
            "kPa",
            "Secondary return pressure.",
            hi=5000,
            resolution=0.1,
        ),
        Metric(
            "filter_dp_kpa",
            "kPa",
            "Pressure across the filter.",
            hi=1000,
            resolution=0.1,
            score=Score("high", 6.0),
        ),
        Metric("level_pct", "%", "Coolant level in the reservoir.", hi=100, resolution=0.1, score=Score("low", 1.0)),
        Metric(
            "air_temp_c",
            "C",
            "Air temperature (aisle).",
            lo=-40,
            hi=90,
            resolution=0.1,
        ),
        Metric(
            "humidity_pct",
            "%",
            "Relative humidity (aisle).",
            hi=100,
            resolution=0.1,
        ),
        Metric("power_w", "W", "Electrical power of pumps, fans and chillers.", hi=1e9, resolution=10, windowed=True),
        Metric(
            "leak",
            "state",
            "1 when a leak is detected.",
            "state",
            hi=1,
            alarm_at=1,
            alert="leak",
        ),
        Metric(
            "leak_sensor_fault",
            "state",
            "1 when the leak sensor itself has failed: a fault, not a leak.",
            "state",
            hi=1,
        ),
        Metric(
            "liquid_isolated",
            "state",
            "1 when the rack's liquid is isolated.",
            "state",
            hi=1,
        ),
        Metric(
            "electrical_isolated",
            "state",
            "1 when the rack's power is isolated.",
            "state",
            hi=1,
        ),
        Metric("pumps_running", "count", "Pumps that turn.", "state", hi=100),
        Metric(
            "heat_w",
            "W",
            "Heat carried by the coolant: flow x (return - supply) x 3.9 kJ/L/K.",
            "derived",
            lo=-1e9,
            hi=1e10,
            windowed=True,
            formula=Formula(
                ("flow_lpm", "supply_temp_c", "return_temp_c"),
                coolant_heat_w,
                f"flow_lpm * (return_temp_c - supply_temp_c) * {PG25_J_PER_L_K / 60.0!r}",
            ),
        ),
    ),
    peers=("model", "job"),
    held="rack",
)
