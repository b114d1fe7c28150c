"""The NVML call behind each name of `points/`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: NVML_FI_DEV_POWER_INSTANT of nvml.h: instantaneous board power, mW.
FIELD_POWER_INSTANT = 186


def readers(nvml: Any) -> dict[str, Callable[[Any], float]]:
    """Returns the function of a device handle that reads each name of `points/`; it may raise NVMLError."""
    memory = lambda h: nvml.nvmlDeviceGetMemoryInfo(h, nvml.nvmlMemory_v2)  # noqa: E731
    rows = nvml.nvmlDeviceGetRemappedRows

    def field(h: Any, number: int) -> float:
        got = nvml.nvmlDeviceGetFieldValues(h, [number])[0]
        if got.nvmlReturn != nvml.NVML_SUCCESS:
            raise nvml.NVMLError(got.nvmlReturn)
        return float(got.value.uiVal)

    def ecc(kind: int) -> Callable[[Any], float]:
        return lambda h: float(nvml.nvmlDeviceGetTotalEccErrors(h, kind, nvml.NVML_VOLATILE_ECC))

    return {
        "utilization.gpu": lambda h: nvml.nvmlDeviceGetUtilizationRates(h).gpu,
        "utilization.memory": lambda h: nvml.nvmlDeviceGetUtilizationRates(h).memory,
        "utilization.encoder": lambda h: nvml.nvmlDeviceGetEncoderUtilization(h)[0],
        "utilization.decoder": lambda h: nvml.nvmlDeviceGetDecoderUtilization(h)[0],
        "power_usage": nvml.nvmlDeviceGetPowerUsage,
        "power_instant": lambda h: field(h, FIELD_POWER_INSTANT),
        "power_limit": nvml.nvmlDeviceGetEnforcedPowerLimit,
        "energy": nvml.nvmlDeviceGetTotalEnergyConsumption,
        "temperature.gpu": lambda h: nvml.nvmlDeviceGetTemperature(h, nvml.NVML_TEMPERATURE_GPU),
        "temperature.memory": lambda h: field(h, nvml.NVML_FI_DEV_MEMORY_TEMP),
        "temperature.margin": nvml.nvmlDeviceGetMarginTemperature,
        "clock.sm": lambda h: nvml.nvmlDeviceGetClockInfo(h, nvml.NVML_CLOCK_SM),
        "clock.mem": lambda h: nvml.nvmlDeviceGetClockInfo(h, nvml.NVML_CLOCK_MEM),
        "clock_event_reasons": nvml.nvmlDeviceGetCurrentClocksEventReasons,
        "memory.used": lambda h: memory(h).used,
        "memory.free": lambda h: memory(h).free,
        "memory.reserved": lambda h: memory(h).reserved,
        "pcie.tx": lambda h: nvml.nvmlDeviceGetPcieThroughput(h, nvml.NVML_PCIE_UTIL_TX_BYTES),
        "pcie.rx": lambda h: nvml.nvmlDeviceGetPcieThroughput(h, nvml.NVML_PCIE_UTIL_RX_BYTES),
        "pcie.replay": nvml.nvmlDeviceGetPcieReplayCounter,
        "ecc.corrected": ecc(nvml.NVML_MEMORY_ERROR_TYPE_CORRECTED),
        "ecc.uncorrected": ecc(nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED),
        "remapped_rows.correctable": lambda h: rows(h)[0],
        "remapped_rows.uncorrectable": lambda h: rows(h)[1],
        "remapped_rows.failure": lambda h: rows(h)[3],
    }
