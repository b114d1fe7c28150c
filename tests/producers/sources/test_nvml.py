"""NVML through a driver that answers from a table."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from producers.sources.nvml.source import Nvml
from producers.sources.source import SourceError
from schemas.frame import Frame


class NVMLError(Exception):
    pass


class NotSupported(NVMLError):
    pass


class FakeNvml:
    """An NVML of one H100 that supports what `table` has; it refuses everything else as drivers do."""

    NVMLError, NVMLError_NotSupported, NVMLError_FunctionNotFound = NVMLError, NotSupported, NotSupported
    NVML_SUCCESS = 0
    NVML_TEMPERATURE_GPU, NVML_FI_DEV_MEMORY_TEMP, NVML_CLOCK_SM, NVML_CLOCK_MEM = 0, 82, 1, 2
    NVML_PCIE_UTIL_TX_BYTES, NVML_PCIE_UTIL_RX_BYTES = 0, 1
    NVML_MEMORY_ERROR_TYPE_CORRECTED, NVML_MEMORY_ERROR_TYPE_UNCORRECTED, NVML_VOLATILE_ECC = 0, 1, 0
    nvmlMemory_v2 = 2  # noqa: N815 - NVML's name

    def __init__(self, driver: bool = True) -> None:
        self.driver, self.calls, self.down = driver, 0, False  # nothing can be read when it is down

    def nvmlInit(self) -> None:  # noqa: N802 - NVML's names
        if not self.driver:
            raise NVMLError("Driver Not Loaded")
        self.down = False

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.down = True

    def __getattr__(self, name: str) -> Any:
        table: dict[str, Any] = {
            "nvmlDeviceGetCount": lambda: 1,
            "nvmlDeviceGetHandleByIndex": lambda i: i,
            "nvmlDeviceGetName": lambda h: b"NVIDIA H100 80GB HBM3",
            "nvmlDeviceGetUtilizationRates": lambda h: SimpleNamespace(gpu=97, memory=11),
            "nvmlDeviceGetPowerUsage": lambda h: 631_950,
            "nvmlDeviceGetTemperature": lambda h, k: 59,
            "nvmlDeviceGetTotalEnergyConsumption": lambda h: 5_200_000,
            "nvmlDeviceGetClockInfo": lambda h, k: {1: 1980, 2: 2619}[k],
            "nvmlDeviceGetRemappedRows": lambda h: (3, 1, 0, 0),
            "nvmlDeviceGetMemoryInfo": lambda h, v: SimpleNamespace(used=2 << 30, free=78 << 30, reserved=1 << 29),
        }
        if self.down:
            raise NVMLError("Uninitialized")
        if name in table:
            return table[name]

        def unsupported(*_: Any) -> Any:
            self.calls += 1
            raise NotSupported(name)

        return unsupported


def test_nvml_reads_what_there_is_and_leaves_the_rest_missing() -> None:
    fake = FakeNvml()
    source = Nvml(nvml=fake)
    frame = source.read(1000)
    assert frame.identity("model") == ["H100 80GB HBM3"]
    for name, want in (
        ("util_pct", 97),
        ("power_w", 631.95),
        ("temp_c", 59),
        ("energy_j", 5200),
        ("sm_clock_mhz", 1980),
        ("fb_used_mib", 2048),
        ("row_remap_correctable_total", 3),
    ):
        assert frame.values(name)[0] == pytest.approx(want), name
    assert np.isnan(frame.values("temp_margin_c")[0])
    asked = fake.calls
    source.read(2000)
    assert fake.calls == asked, "what is not supported is not asked for again"


async def test_nvml_source_ends_and_shuts_down() -> None:
    fake = FakeNvml()
    found = [e async for e in Nvml(0.05, ticks=3, nvml=fake).emissions()]
    assert len(found) == 3
    assert fake.down


async def test_nvml_opens_the_driver_again_when_it_starts_again() -> None:
    fake = FakeNvml()
    source = Nvml(0.05, ticks=1, nvml=fake)
    for _ in range(2):
        (frame,) = [e async for e in source.emissions()]
        assert isinstance(frame, Frame)
        assert frame.values("util_pct")[0] == 97


def test_no_driver_says_what_to_do() -> None:
    with pytest.raises(SourceError, match="needs an NVIDIA GPU"):
        Nvml(nvml=FakeNvml(driver=False))
