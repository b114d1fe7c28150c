"""Points files: what other systems call our metrics."""

from __future__ import annotations

from pathlib import Path

import pytest

from producers.sources import points
from producers.sources.nvml.readers import readers
from schemas.catalogue import KINDS
from tests.producers.sources.test_nvml import FakeNvml

DEFAULT_DCGM = [
    *(
        f"DCGM_FI_DEV_{n}"
        for n in (
            "SM_CLOCK",
            "MEM_CLOCK",
            "MEMORY_TEMP",
            "GPU_TEMP",
            "POWER_USAGE",
            "TOTAL_ENERGY_CONSUMPTION",
            "PCIE_REPLAY_COUNTER",
            "GPU_UTIL",
            "MEM_COPY_UTIL",
            "ENC_UTIL",
            "DEC_UTIL",
            "XID_ERRORS",
            "FB_FREE",
            "FB_USED",
            "FB_RESERVED",
            "NVLINK_BANDWIDTH_TOTAL",
            "VGPU_LICENSE_STATUS",
            "UNCORRECTABLE_REMAPPED_ROWS",
            "CORRECTABLE_REMAPPED_ROWS",
            "ROW_REMAP_FAILURE",
        )
    ),
    *(
        f"DCGM_FI_PROF_{n}"
        for n in ("GR_ENGINE_ACTIVE", "PIPE_TENSOR_ACTIVE", "DRAM_ACTIVE", "PCIE_TX_BYTES", "PCIE_RX_BYTES")
    ),
]
MORE_DCGM = [
    "DCGM_FI_DEV_ECC_SBE_VOL_TOTAL",
    "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL",
    "DCGM_FI_DEV_CLOCKS_EVENT_REASONS",
    "DCGM_FI_PROF_SM_ACTIVE",
    "DCGM_FI_DEV_GPU_TEMP_LIMIT",
]
RENAMED = [
    "DCGM_FI_DEV_GPU_UTIL_RATIO",
    "DCGM_FI_DEV_BOARD_POWER_WATTS",
    "DCGM_FI_DEV_BOARD_POWER_RAW_WATTS",
    "DCGM_FI_DEV_GPU_TEMP_MARGIN_CELSIUS",
    "DCGM_FI_DEV_XID_ERROR",
    "DCGM_FI_PROF_GR_ENGINE_UTIL_RATIO",
    "DCGM_FI_PROF_TENSOR_UTIL_RATIO",
]


def test_the_names_cover_dcgm_exporter() -> None:
    known = points.by_name("dcgm", "gpu")
    assert len(DEFAULT_DCGM) == 25
    assert not set(DEFAULT_DCGM + MORE_DCGM + RENAMED) - set(known)
    assert len(KINDS["gpu"].stored) >= 30


def test_old_and_new_names_mean_the_same() -> None:
    known = points.by_name("dcgm", "gpu")
    old, new = known["DCGM_FI_DEV_GPU_UTIL"], known["DCGM_FI_DEV_GPU_UTIL_RATIO"]
    assert old[0] is new[0]
    assert 0.42 * new[1] == pytest.approx(42.0)


def test_every_name_of_nvml_has_a_reader_and_every_reader_a_name() -> None:
    assert set(readers(FakeNvml())) == set(points.by_name("nvml", "gpu"))


def test_every_system_with_points_is_found() -> None:
    assert {p.system for p in points.every()} >= {"dcgm", "nvml", "dsx", "redfish"}
    assert all(p.scale for p in points.every())


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('[[point]]\nat = "A"\nis = "gpu.nosuch"', "point 1: is = 'gpu.nosuch' is no metric"),
        ('[[point]]\nat = "A"\nis = "cooling.heat_w"', "is no metric"),
        ('[[point]]\nis = "gpu.power_w"', "no name"),
        ('[[point]]\nat = "A"\nis = "gpu.power_w"\nscale = 0', "scale = 0 is no factor"),
        ('[[point]]\nat = "A"\nis = "gpu.power_w"\nscale = true', "no factor"),
        ('[[point]]\nat = "A"\nis = "gpu.power_w"\nfactor = 2', "unknown key factor"),
        (
            '[[point]]\nat = "A"\nis = "gpu.power_w"\n[[point]]\nat = "A"\nis = "gpu.temp_c"',
            "point 2: 'A' is power_w already",
        ),
        ("at = ", "gpu.toml"),
    ],
)
def test_a_wrong_points_file_names_the_point(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "points").mkdir()
    (tmp_path / "points" / "gpu.toml").write_text(text)
    with pytest.raises(points.PointsError, match=complaint):
        points.read(tmp_path)
