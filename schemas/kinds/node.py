"""The `node` catalogue: CPUs (Grace, Vera) and DPUs (BlueField) of a compute tray."""

from schemas.metric import Catalogue, Metric, Score

NODE = Catalogue(
    "node",
    "One host processor: a CPU (Grace, Vera) or a DPU (BlueField).",
    (
        Metric(
            "util_pct",
            "%",
            "Mean utilization over the cores.",
            hi=100,
            resolution=0.1,
            windowed=True,
        ),
        Metric(
            "power_w",
            "W",
            "Package power.",
            hi=2000,
            resolution=0.1,
            windowed=True,
            score=Score("both", 15.0),
        ),
        Metric(
            "temp_c",
            "C",
            "Package temperature.",
            lo=-20,
            hi=130,
            resolution=0.1,
            windowed=True,
            score=Score("high", 2.5),
        ),
        Metric(
            "power_limit_w",
            "W",
            "Power limit in force.",
            hi=2000,
            resolution=1,
        ),
        Metric(
            "clock_mhz",
            "MHz",
            "Mean core clock.",
            hi=8000,
            resolution=1,
            score=Score("low", 150.0),
        ),
        Metric("mem_used_pct", "%", "Host memory in use.", hi=100, resolution=0.1),
        Metric("net_tx_bytes_per_s", "B/s", "Network transmit rate (DPU, NIC).", hi=1e12, resolution=1e6),
        Metric("net_rx_bytes_per_s", "B/s", "Network receive rate (DPU, NIC).", hi=1e12, resolution=1e6),
        Metric("disk_bytes_per_s", "B/s", "Local and fabric storage traffic.", hi=1e12, resolution=1e6),
        Metric("energy_j", "J", "Energy since boot.", "counter", "float64", hi=1e14, resolution=0.001, windowed=True),
        Metric(
            "link_errors_total",
            "count",
            "Symbol and CRC errors on the network ports.",
            "counter",
            "float64",
            hi=2e9,
            resolution=1,
        ),
    ),
    stored_by="rack",
    peers=("rack", "model"),
    load=True,
)
