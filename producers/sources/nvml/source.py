"""This machine's GPUs through NVML (nvidia-ml-py). What a GPU or driver does not support is missing, not zero."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Callable
from typing import Any

import numpy as np

from producers.sources import points
from producers.sources.source import Emission, SourceError, Ticker
from schemas.frame import Frame, build

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


class Nvml:
    """Reads all local GPUs once a tick, in a thread. Raises SourceError when NVML or its driver is not there.

    When `emissions` ends the driver is let go; it is opened again when `emissions` is called once more.
    """

    def __init__(
        self, tick_s: float = 1.0, site: str = "site-1", rack: str = "", ticks: int | None = None, nvml: Any = None
    ) -> None:
        if nvml is None:
            try:
                import pynvml as nvml  # type: ignore[no-redef]
            except ImportError as err:
                raise SourceError("nvml: the package nvidia-ml-py is missing: pip install 'gigawatch[nvml]'") from err
        self._nvml, self._tick_s, self._site, self._ticks = nvml, tick_s, site, ticks
        self._host = socket.gethostname()
        self._rack = rack or self._host
        self._readers = readers(nvml)
        self._names = points.by_name("nvml", "gpu")
        self._unsupported: set[tuple[int, str]] = set()
        try:
            self._open()
        except nvml.NVMLError as err:
            raise SourceError(
                f"nvml: {err}. This machine needs an NVIDIA GPU and its driver; without one use --source synthetic"
            ) from err

    def _open(self) -> None:
        nvml = self._nvml
        nvml.nvmlInit()
        self._handles = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
        self._models = [_text(nvml.nvmlDeviceGetName(h)).removeprefix("NVIDIA ") for h in self._handles]
        self._is_open = True

    @property
    def describe(self) -> str:
        return (
            f"nvml: {len(self._handles)} GPU(s) of {self._host} ({', '.join(sorted(set(self._models)))}), every "
            f"{self._tick_s:g} s"
        )

    def read(self, ts_ms: int) -> Frame:
        """Returns one sample of every GPU."""
        values = {metric.name: np.full(len(self._handles), np.nan) for metric, _ in self._names.values()}
        for index, handle in enumerate(self._handles):
            for name, (metric, scale) in self._names.items():
                if (index, name) in self._unsupported:
                    continue
                try:
                    values[metric.name][index] = float(self._readers[name](handle)) * scale
                except (self._nvml.NVMLError_NotSupported, self._nvml.NVMLError_FunctionNotFound, AttributeError):
                    self._unsupported.add((index, name))
                except self._nvml.NVMLError:
                    pass  # lost for this tick only: stays missing
        count = len(self._handles)
        identity = {
            "site": [self._site] * count,
            "rack": [self._rack] * count,
            "node": [self._host] * count,
            "device": [f"{self._host}-GPU{i}" for i in range(count)],
            "model": self._models,
        }
        return build("gpu", ts_ms, identity, values)

    async def emissions(self) -> AsyncGenerator[Emission]:
        if not self._is_open:
            self._open()
        ticker, done = Ticker(self._tick_s), 0
        try:
            while self._ticks is None or done < self._ticks:
                stamp = await ticker.wait()
                yield await asyncio.to_thread(self.read, stamp)
                done += 1
        finally:
            self._is_open = False
            self._nvml.nvmlShutdown()


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
