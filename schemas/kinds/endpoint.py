"""The `endpoint` catalogue: what reading a source's endpoints gives, Prometheus' `up` among it."""

from schemas.metric import Catalogue, Metric

ENDPOINT = Catalogue(
    "endpoint",
    "One endpoint that a source reads, such as a dcgm-exporter: whether it answers, how fast, and what it gives.",
    (
        Metric("up", "state", "1 when it answered with samples, 0 when not.", "state", hi=1, resolution=1),
        Metric("duration_s", "s", "Time until its answer was read.", hi=3600, resolution=0.001),
        Metric("devices", "count", "Devices that its answer holds.", hi=1e6, resolution=1),
        Metric("refused_lines", "count", "Lines of its answer that could not be read.", hi=1e7, resolution=1),
    ),
)
