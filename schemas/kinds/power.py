"""The `power` catalogue: power shelves, PDUs, taps, meters and UPS; NVIDIA DSX PowerMeter points and DMTF Redfish."""

from schemas.metric import Catalogue, Metric, Score

POWER = Catalogue(
    "power",
    "One electrical device: rack meter, power shelf, tap, bus meter, UPS or utility meter.",
    (
        Metric(
            "power_w",
            "W",
            "Active power (for a shelf: DC output).",
            hi=1e10,
            resolution=10,
            windowed=True,
            score=Score("both", 1500.0, self_history=False),
        ),
        Metric(
            "apparent_power_va",
            "VA",
            "Apparent power.",
            hi=1e10,
            resolution=10,
        ),
        Metric(
            "power_factor",
            "ratio",
            "Active over apparent power.",
            lo=-1,
            hi=1,
            resolution=0.001,
        ),
        Metric(
            "voltage_v",
            "V",
            "Voltage: line to line for AC, bus for DC.",
            hi=5e5,
            resolution=0.1,
            score=Score("both", 8.0),
        ),
        Metric(
            "current_a",
            "A",
            "Current, mean over the phases.",
            hi=1e6,
            resolution=0.1,
        ),
        Metric(
            "current_limit_a",
            "A",
            "Breaker or tap rating.",
            hi=1e6,
            resolution=1,
        ),
        Metric(
            "phase1_current_a",
            "A",
            "Current of phase 1.",
            hi=1e6,
            resolution=0.1,
        ),
        Metric(
            "phase2_current_a",
            "A",
            "Current of phase 2.",
            hi=1e6,
            resolution=0.1,
        ),
        Metric(
            "phase3_current_a",
            "A",
            "Current of phase 3.",
            hi=1e6,
            resolution=0.1,
        ),
        Metric(
            "frequency_hz",
            "Hz",
            "Mains frequency.",
            hi=1000,
            resolution=0.001,
            score=Score("both", 0.1),
        ),
        Metric("psu_count", "count", "Power supplies fitted.", "state", hi=1000),
        Metric(
            "psu_failed",
            "count",
            "Power supplies that deliver nothing.",
            "state",
            hi=1000,
            alarm_at=1,
            alert="psu-loss",
        ),
        Metric("temp_c", "C", "Hottest power supply.", lo=-20, hi=150, resolution=1, score=Score("high", 3.0)),
        Metric(
            "energy_j", "J", "Energy since installation.", "counter", "float64", hi=1e18, resolution=1, windowed=True
        ),
    ),
    peers=("model", "job"),
    held="rack",
)
