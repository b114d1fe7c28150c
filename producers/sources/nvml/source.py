"""This machine's GPUs through NVML (nvidia-ml-py). What a GPU or driver does not support is missing, not zero."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import AsyncGenerator
from math import nan
from typing import Any

from producers.emission import Emission, SourceFailure
from producers.sources import points
from producers.sources.endpoint_frames import EndpointState
from producers.sources.nvml.local_gpu import LocalGpu, identify, is_lost, is_unsupported
from producers.sources.nvml.readers import readers
from producers.sources.seen import SeenAssets, Sighting
from producers.sources.source import SourceError, Ticker
from schemas.frame import Frame, build

log = logging.getLogger("gigawatch.nvml")

#: A GPU that is lost is looked for again so often, ms.
RETRY_MS = 30_000


class Nvml:
    """Reads all local GPUs once a tick, in a thread. Raises SourceError when NVML or its driver is not there.

    A GPU that gives nothing at a tick has no row at that tick; `errors` has a sentence for it. When `emissions` ends
    the driver is let go; it is opened again when `emissions` is called once more.
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
        self._assets = SeenAssets(site)
        self._endpoint = EndpointState(site, self._rack, self._host, self._host, "nvml", round(tick_s * 1000))
        self.errors: dict[str, str] = {}
        try:
            self._open()
        except nvml.NVMLError as err:
            raise SourceError(
                f"nvml: {err}. This machine needs an NVIDIA GPU and its driver; without one use --source synthetic"
            ) from err

    def _open(self) -> None:
        self._nvml.nvmlInit()
        self._gpus = [LocalGpu(i, f"{self._host}-GPU{i}") for i in range(self._nvml.nvmlDeviceGetCount())]
        self._unsupported.clear()
        for gpu in self._gpus:
            self._find(gpu)
        self._is_open = True

    @property
    def describe(self) -> str:
        models = ", ".join(sorted({g.model for g in self._gpus if g.model}))
        return f"nvml: {len(self._gpus)} GPU(s) of {self._host} ({models}), every {self._tick_s:g} s"

    def sample(self, ts_ms: int) -> list[Emission]:
        """Returns one sample of every GPU that can be read, a failure of each other one, the endpoint's row when one is
        due, and news of boards.
        """
        began = time.monotonic()
        for gpu in self._gpus:
            if gpu.error and ts_ms - gpu.tried_ms >= RETRY_MS:
                gpu.tried_ms = ts_ms
                self._find(gpu)
        rows = {gpu.device: self._read(gpu) for gpu in self._gpus if gpu.is_found}
        heard = [gpu for gpu in self._gpus if rows.get(gpu.device)]
        out: list[Emission] = []
        if heard:
            out.append(self._frame(heard, [rows[g.device] for g in heard], ts_ms))
        for gpu in self._gpus:
            out += self._news(gpu, ts_ms)
            if gpu.error:
                out.append(SourceFailure(gpu.device, "gpu-lost", ts_ms, self._site, self._rack))
        self.errors = {gpu.device: f"gpu-lost: {gpu.error}" for gpu in self._gpus if gpu.error}
        took = time.monotonic() - began
        row = self._endpoint.row(ts_ms, is_up=bool(heard) or self._answers(), duration_s=took, devices=len(heard))
        return [*out, row] if row is not None else out

    def _find(self, gpu: LocalGpu) -> None:
        """Takes the GPU's handle and identity, or notes that it is lost."""
        try:
            identify(self._nvml, gpu)
            self._unsupported -= {(gpu.index, name) for name in self._names}
        except self._nvml.NVMLError as err:
            self._lose(gpu, err)

    def _lose(self, gpu: LocalGpu, why: Exception) -> None:
        if not gpu.error:
            log.warning("%s cannot be read: %s", gpu.device, why)
        gpu.error = str(why) or type(why).__name__

    def _read(self, gpu: LocalGpu) -> dict[str, float]:
        """Returns what the GPU gives by metric; empty when it gives nothing, or is lost."""
        values: dict[str, float] = {}
        last: Exception = SourceError(f"{gpu.device} supports none of the readings")
        for name, (metric, scale) in self._names.items():
            if (gpu.index, name) in self._unsupported:
                continue
            try:
                values[metric.name] = float(self._readers[name](gpu.handle)) * scale
            except (self._nvml.NVMLError, AttributeError) as err:
                if is_unsupported(self._nvml, err):
                    self._unsupported.add((gpu.index, name))
                    continue
                last = err  # for this tick only: stays missing
                if is_lost(err):
                    values.clear()
                    break
        if not values:
            self._lose(gpu, last)
        elif gpu.error:
            log.info("%s can be read again", gpu.device)
            gpu.error = ""
        return values

    def _frame(self, gpus: list[LocalGpu], rows: list[dict[str, float]], ts_ms: int) -> Frame:
        identity = {
            "site": [self._site] * len(gpus),
            "rack": [self._rack] * len(gpus),
            "node": [self._host] * len(gpus),
            "device": [g.device for g in gpus],
            "model": [g.model for g in gpus],
            "board": [g.board for g in gpus],
        }
        names = {metric.name for metric, _ in self._names.values()}
        return build("gpu", ts_ms, identity, {name: [row.get(name, nan) for row in rows] for name in names})

    def _news(self, gpu: LocalGpu, ts_ms: int) -> list[Emission]:
        """The inventory rows of a GPU that is new or another: by its board, by its place as long as that is unknown."""
        asset = gpu.board or gpu.device
        now = (asset, gpu.model, gpu.pci)
        if now == gpu.reported:
            return []
        before, gpu.reported = gpu.reported, now
        out: list[Emission] = []
        if before is not None and before[0] == gpu.device != asset:
            out += self._assets.close(gpu.device, ts_ms)
        names = [("nvml", f"{self._host}/{gpu.index}")] + ([("pci", f"{self._host}/{gpu.pci}")] if gpu.pci else [])
        sighting = Sighting(
            asset, "gpu", gpu.model, self._rack, self._host, gpu.device, serial=gpu.serial, names=tuple(names)
        )
        return [*out, *self._assets.update([sighting], ts_ms)]

    def _answers(self) -> bool:
        """Whether NVML does, where no GPU does."""
        try:
            self._nvml.nvmlDeviceGetCount()
        except self._nvml.NVMLError:
            return False
        return True

    async def emissions(self) -> AsyncGenerator[Emission]:
        if not self._is_open:
            self._open()
        ticker, done = Ticker(self._tick_s), 0
        try:
            while self._ticks is None or done < self._ticks:
                stamp = await ticker.wait()
                for emission in await asyncio.to_thread(self.sample, stamp):
                    yield emission
                done += 1
        finally:
            self._is_open = False
            self._nvml.nvmlShutdown()
