"""One GPU of this machine: its index, its handle, and who it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from schemas import hardware

#: NVML_ERROR_NOT_SUPPORTED, _FUNCTION_NOT_FOUND and _GPU_IS_LOST of nvml.h.
UNSUPPORTED, GPU_IS_LOST = (3, 13), 15


@dataclass(slots=True)
class LocalGpu:
    """`board` is its UUID, else its serial, empty where it has neither. `error` is why it gave nothing when it was last
    read; `reported` what the inventory has of it.
    """

    index: int
    device: str
    handle: Any = None
    is_found: bool = False
    board: str = ""
    serial: str = ""
    model: str = ""
    pci: str = ""
    error: str = ""
    tried_ms: int = 0
    reported: tuple[str, str, str] | None = None


def is_unsupported(nvml: Any, err: Exception) -> bool:
    """Whether the GPU or its driver will never give this. nvidia-ml-py makes a class of an error's number, or not."""
    classes = tuple(getattr(nvml, f"NVMLError_{name}", ()) for name in ("NotSupported", "FunctionNotFound"))
    return isinstance(err, (AttributeError, classes)) or getattr(err, "value", None) in UNSUPPORTED


def is_lost(err: Exception) -> bool:
    return getattr(err, "value", None) == GPU_IS_LOST


def identify(nvml: Any, gpu: LocalGpu) -> None:
    """Fills in the GPU's handle and identity; what its driver does not give is empty. Raises NVMLError where the GPU is
    lost or has no handle.
    """
    handle = nvml.nvmlDeviceGetHandleByIndex(gpu.index)

    def text(read: Callable[[], Any]) -> str:
        try:
            value = read()
        except AttributeError:
            return ""
        except nvml.NVMLError as err:
            if is_lost(err):
                raise
            return ""
        return value.decode() if isinstance(value, bytes) else str(value)

    gpu.model = hardware.load().canonical(text(lambda: nvml.nvmlDeviceGetName(handle)))
    gpu.serial = text(lambda: nvml.nvmlDeviceGetSerial(handle))
    gpu.board = text(lambda: nvml.nvmlDeviceGetUUID(handle)) or gpu.serial or gpu.board
    gpu.pci = text(lambda: nvml.nvmlDeviceGetPciInfo(handle).busId)
    gpu.handle, gpu.is_found = handle, True
