"""The catalogues: complete, consistent, and open to an operator."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas import hardware
from schemas.catalogue import KINDS, markdown, rows

#: dcgm-exporter's default counters (etc/default-counters.csv at d5e5f51).


@pytest.mark.parametrize("kind", KINDS)
def test_every_metric_is_fully_declared(kind: str) -> None:
    for metric in KINDS[kind].metrics:
        assert metric.help.endswith("."), metric.name
        assert metric.unit
        assert metric.lo < metric.hi < float("inf"), f"{metric.name} has no valid range"
        assert min(metric.sentinels) > metric.hi or metric.dtype == "float64" or metric.hi >= 1e9, (
            f"{metric.name}: a sentinel would pass for a value"
        )


def test_a_blank_never_passes_for_a_gpu_value() -> None:
    for metric in KINDS["gpu"].stored:
        blanks = [s for s in metric.sentinels if s > metric.hi]
        assert blanks, f"{metric.name}: hi {metric.hi:g} swallows every blank"


def test_table_has_a_row_per_metric() -> None:
    assert len(rows(None, {})) == sum(len(c.metrics) for c in KINDS.values())
    assert all(f"| {m.name} |" in markdown({}) for m in KINDS["gpu"].metrics)
    assert "x:Power, y:watts x 0.001" in markdown({("gpu", "power_w"): ["x:Power", "y:watts x 0.001"]})


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
