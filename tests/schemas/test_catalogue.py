"""The catalogues: complete, consistent, and open to an operator."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas import hardware
from schemas.catalogue import KINDS, markdown, rows

#: dcgm-exporter's default counters (etc/default-counters.csv at d5e5f51).
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


def test_gpu_catalogue_covers_dcgm_exporter() -> None:
    known = KINDS["gpu"].by_alias("dcgm")
    assert len(DEFAULT_DCGM) == 25
    assert not set(DEFAULT_DCGM + MORE_DCGM + RENAMED) - set(known)
    assert len(KINDS["gpu"].stored) >= 30


def test_old_and_new_names_mean_the_same() -> None:
    known = KINDS["gpu"].by_alias("dcgm")
    old, new = known["DCGM_FI_DEV_GPU_UTIL"], known["DCGM_FI_DEV_GPU_UTIL_RATIO"]
    assert old[0] is new[0]
    assert 0.42 * new[1] == pytest.approx(42.0)


@pytest.mark.parametrize("kind", KINDS)
def test_every_metric_is_fully_declared(kind: str) -> None:
    seen: set[tuple[str, str]] = set()
    for metric in KINDS[kind].metrics:
        assert metric.help.endswith("."), metric.name
        assert metric.unit
        assert metric.lo < metric.hi < float("inf"), f"{metric.name} has no valid range"
        assert min(metric.sentinels) > metric.hi or metric.dtype == "float64" or metric.hi >= 1e9, (
            f"{metric.name}: a sentinel would pass for a value"
        )
        for alias in metric.aliases:
            assert (alias.system, alias.name) not in seen, f"{alias.name} names two metrics"
            seen.add((alias.system, alias.name))


def test_a_blank_never_passes_for_a_gpu_value() -> None:
    for metric in KINDS["gpu"].stored:
        blanks = [s for s in metric.sentinels if s > metric.hi]
        assert blanks, f"{metric.name}: hi {metric.hi:g} swallows every blank"


def test_table_has_a_row_per_metric() -> None:
    assert len(rows()) == sum(len(c.metrics) for c in KINDS.values())
    assert all(f"| {m.name} |" in markdown() for m in KINDS["gpu"].metrics)


def test_hardware_figures_are_graded() -> None:
    loaded = hardware.load()
    assert {"H100", "H200", "B200", "GB200", "GB300", "VR200"} <= set(loaded.gpus)
    assert {"HGX-H100", "NVL72-GB200", "NVL72-GB300", "NVL72-VR200"} <= set(loaded.racks)
    for _, _, name, value, grade, source in hardware.rows(loaded):
        assert grade in "ABCD", name
        assert source, name
        assert float(value) >= 0


@pytest.mark.parametrize(
    ("model", "gpus", "low_kw", "high_kw"),
    [
        ("NVL72-GB200", 72, 115, 132),
        ("NVL72-GB300", 72, 130, 142),
        ("NVL72-VR200", 72, 175, 230),
        ("HGX-H100", 32, 30, 48),
    ],
)
def test_racks_draw_what_is_reported(model: str, gpus: int, low_kw: float, high_kw: float) -> None:
    rack = hardware.load().rack(model)
    assert rack.gpus == gpus
    assert low_kw <= rack.max_power_w / 1000 <= high_kw


def test_an_operator_adds_a_model_without_code(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text(
        '[gpu.X1]\nfamily = "Next"\ntdp_w = { value = 900, grade = "B", source = "our lab" }\n'
        '[rack.NVL72-X1]\nbase = "NVL72-GB200"\ngpu = "X1"\n'
    )
    rack = hardware.load(str(mine)).rack("X1")
    assert rack.name == "NVL72-X1"
    assert rack.gpu["tdp_w"] == 900
    assert rack.gpus == 72


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[gpu.X]\ntdp_w = 5", "wants { value"),
        ('[gpu.X]\ntdp_w = { value = 5, grade = "E", source = "s" }', "grade is A, B, C or D"),
        ('[rack.Y]\nbase = "nosuch"', "base 'nosuch' does not exist"),
        ('[rack.Y]\nbase = "NVL72-GB200"\ngpu = "nosuch"', "gpu = 'nosuch' is not among"),
        ("not toml", "mine.toml"),
    ],
)
def test_a_wrong_hardware_file_says_where(tmp_path: Path, text: str, complaint: str) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text(text)
    with pytest.raises(hardware.HardwareError, match=complaint):
        hardware.load(str(mine))


def test_an_unknown_model_lists_the_known() -> None:
    with pytest.raises(hardware.HardwareError, match="NVL72-GB200"):
        hardware.load().rack("nosuch")
