"""The `gpu_instance` catalogue: what a MIG instance has of its own. Power, energy, heat and errors are its board's."""

from schemas.metric import Catalogue, Metric

GPU_INSTANCE = Catalogue(
    "gpu_instance",
    "One MIG instance of a GPU: its share of the engines and memory. Its board, a GPU, has the rest.",
    (
        Metric(
            "util_pct",
            "%",
            "Share of time in which the instance's engines were active.",
            hi=100,
            resolution=0.1,
            windowed=True,
        ),
        Metric("sm_active", "ratio", "Share of time in which an SM had a warp, mean over SMs.", hi=1, resolution=0.001),
        Metric("tensor_active", "ratio", "Share of cycles with an active tensor pipe.", hi=1, resolution=0.001),
        Metric("dram_active", "ratio", "Share of cycles with an active memory interface.", hi=1, resolution=0.001),
        Metric("fb_used_mib", "MiB", "Frame buffer in use.", hi=4e6, resolution=1),
        Metric("fb_free_mib", "MiB", "Frame buffer free.", hi=4e6, resolution=1),
        Metric("fb_reserved_mib", "MiB", "Frame buffer reserved by driver and firmware.", hi=4e6, resolution=1),
    ),
    stored_by="rack",
    peers=("rack", "model"),
    expected=False,
)
