"""The `power` catalogue: power shelves, PDUs, taps, meters and UPS; NVIDIA DSX PowerMeter points and DMTF Redfish."""

from schemas.metric import Alias, Catalogue, Metric, Score


def dsx(point: str, scale: float = 1.0) -> tuple[Alias, ...]:
    return (Alias("dsx", point, scale),)


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
            aliases=(
                *dsx("PowerMeter/ActivePower", 1000),
                *dsx("Rack/RackPower", 1000),
                Alias("redfish", "PowerWatts"),
            ),
            score=Score("both", 1500.0, self_history=False),
        ),
        Metric(
            "apparent_power_va",
            "VA",
            "Apparent power.",
            hi=1e10,
            resolution=10,
            aliases=dsx("PowerMeter/ApparentPower", 1000),
        ),
        Metric(
            "power_factor",
            "ratio",
            "Active over apparent power.",
            lo=-1,
            hi=1,
            resolution=0.001,
            aliases=dsx("PowerMeter/PowerFactor"),
        ),
        Metric(
            "voltage_v",
            "V",
            "Voltage: line to line for AC, bus for DC.",
            hi=5e5,
            resolution=0.1,
            aliases=(*dsx("PowerMeter/Voltage"), Alias("redfish", "Voltage")),
            score=Score("both", 8.0),
        ),
        Metric(
            "current_a",
            "A",
            "Current, mean over the phases.",
            hi=1e6,
            resolution=0.1,
            aliases=(*dsx("PowerMeter/Current"), Alias("redfish", "CurrentAmps")),
        ),
        Metric(
            "current_limit_a",
            "A",
            "Breaker or tap rating.",
            hi=1e6,
            resolution=1,
            aliases=dsx("PowerMeter/CurrentLimit"),
        ),
        Metric(
            "phase1_current_a",
            "A",
            "Current of phase 1.",
            hi=1e6,
            resolution=0.1,
            aliases=dsx("PowerMeter/PhaseCurrent/1"),
        ),
        Metric(
            "phase2_current_a",
            "A",
            "Current of phase 2.",
            hi=1e6,
            resolution=0.1,
            aliases=dsx("PowerMeter/PhaseCurrent/2"),
        ),
        Metric(
            "phase3_current_a",
            "A",
            "Current of phase 3.",
            hi=1e6,
            resolution=0.1,
            aliases=dsx("PowerMeter/PhaseCurrent/3"),
        ),
        Metric(
            "frequency_hz",
            "Hz",
            "Mains frequency.",
            hi=1000,
            resolution=0.001,
            aliases=dsx("PowerMeter/Frequency"),
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
)
