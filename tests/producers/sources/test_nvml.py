"""NVML through a driver that answers from a table."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from producers.emission import Emission, Event, SourceFailure
from producers.sources.nvml.source import Nvml
from producers.sources.source import SourceError
from schemas.derived_stream import Derived
from schemas.frame import Frame
from schemas.inventory import ASSET, NAME


class NVMLError(Exception):
    def __init__(self, text: str, value: int = 999) -> None:
        super().__init__(text)
        self.value = value


class NotSupported(NVMLError):
    pass


class FakeNvml:
    """An NVML of H100s that supports what `table` has; it refuses everything else as drivers do. `lost` and `mute` are
    indices of GPUs of which everything, or every reading, fails; without `identities` there is no UUID and no serial.
    """

    NVMLError = NVMLError
    NVMLError_NotSupported: Any = NotSupported
    NVMLError_FunctionNotFound: Any = NotSupported
    NVML_SUCCESS = 0
    NVML_TEMPERATURE_GPU, NVML_FI_DEV_MEMORY_TEMP, NVML_CLOCK_SM, NVML_CLOCK_MEM = 0, 82, 1, 2
    NVML_PCIE_UTIL_TX_BYTES, NVML_PCIE_UTIL_RX_BYTES = 0, 1
    NVML_MEMORY_ERROR_TYPE_CORRECTED, NVML_MEMORY_ERROR_TYPE_UNCORRECTED, NVML_VOLATILE_ECC = 0, 1, 0
    nvmlMemory_v2 = 2  # noqa: N815 - NVML's name

    def __init__(self, driver: bool = True, gpus: int = 1, identities: tuple[str, ...] = ("UUID", "Serial")) -> None:
        self.driver, self.calls, self.down = driver, 0, False  # nothing can be read when it is down
        self.gpus, self.identities = gpus, identities
        self.lost: set[int] = set()
        self.mute: set[int] = set()
        self.handles: list[int] = []  # indices in the order in which they are asked for

    def nvmlInit(self) -> None:  # noqa: N802 - NVML's names
        if not self.driver:
            raise NVMLError("Driver Not Loaded")
        self.down = False

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.down = True

    def __getattr__(self, name: str) -> Any:
        table: dict[str, Any] = {
            "nvmlDeviceGetCount": lambda: self.gpus,
            "nvmlDeviceGetHandleByIndex": self.handle,
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
        table |= {
            f"nvmlDeviceGet{name}": lambda h, text=text: f"{text}-{h}"
            for name, text in (("UUID", "GPU-u"), ("Serial", "1650"))
            if name in self.identities
        }
        table["nvmlDeviceGetPciInfo"] = lambda h: SimpleNamespace(busId=f"00000000:0{h}:00.0".encode())
        is_identity = name in ("nvmlDeviceGetName", "nvmlDeviceGetUUID", "nvmlDeviceGetSerial", "nvmlDeviceGetPciInfo")

        def call(*arguments: Any) -> Any:
            if arguments and arguments[0] in self.lost:
                raise NVMLError("GPU is lost", 15)
            if arguments and arguments[0] in self.mute and not is_identity:
                raise NVMLError("Unknown Error")
            if name in table:
                return table[name](*arguments)
            self.calls += 1
            raise NotSupported(name)

        return call

    def handle(self, index: int) -> int:
        self.handles.append(index)
        return index


HOST = socket.gethostname()


def frames_of(emissions: Sequence[Emission], kind: str = "gpu") -> list[Frame]:
    return [e for e in emissions if isinstance(e, Frame) and e.kind == kind]


def rows_of(emissions: Sequence[Emission], stream: Derived) -> list[dict[str, Any]]:
    return [row for e in emissions if isinstance(e, Event) and e.derived is stream for row in e.batch.to_pylist()]


def ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def test_nvml_reads_what_there_is_and_leaves_the_rest_missing() -> None:
    fake = FakeNvml()
    source = Nvml(nvml=fake)
    (frame,) = frames_of(source.sample(1000))
    assert frame.identity("board") == ["GPU-u-0"]
    assert frame.identity("model") == ["H100"]
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
    source.sample(2000)
    assert fake.calls == asked, "what is not supported is not asked for again"


async def test_nvml_source_ends_and_shuts_down() -> None:
    fake = FakeNvml()
    found = [e async for e in Nvml(0.05, ticks=3, nvml=fake).emissions()]
    assert len(frames_of(found)) == 3
    assert fake.down


async def test_nvml_opens_the_driver_again_when_it_starts_again() -> None:
    fake = FakeNvml()
    source = Nvml(0.05, ticks=1, nvml=fake)
    for _ in range(2):
        (frame,) = frames_of([e async for e in source.emissions()])
        assert frame.values("util_pct")[0] == 97


def test_no_driver_says_what_to_do() -> None:
    with pytest.raises(SourceError, match="needs an NVIDIA GPU"):
        Nvml(nvml=FakeNvml(driver=False))


@pytest.mark.parametrize(
    ("identities", "board", "asset"),
    [
        (("UUID", "Serial"), "GPU-u-0", "GPU-u-0"),
        (("Serial",), "1650-0", "1650-0"),
        ((), "", f"{HOST}-GPU0"),
    ],
)
def test_a_board_is_its_uuid_else_its_serial_else_its_place(
    identities: tuple[str, ...], board: str, asset: str
) -> None:
    source = Nvml(nvml=FakeNvml(identities=identities))
    first, second = source.sample(1000), source.sample(2000)
    assert frames_of(first)[0].identity("board") == [board]
    (row,) = rows_of(first, ASSET)
    assert (row["asset"], row["kind"], row["origin"], row["device"]) == (asset, "gpu", "seen", f"{HOST}-GPU0")
    assert (ms(row["valid_from"]), ms(row["valid_to"])) == (1000, 0)
    names = {(n["system"], n["name"], n["asset"]) for n in rows_of(first, NAME)}
    assert names == {("nvml", f"{HOST}/0", asset), ("pci", f"{HOST}/00000000:00:00.0", asset)}
    assert not rows_of(second, ASSET) + rows_of(second, NAME), "nothing is new"


@pytest.mark.parametrize("trouble", ["lost", "mute"])
def test_a_gpu_that_gives_nothing_has_no_row_until_it_gives_something(trouble: str) -> None:
    fake = FakeNvml(gpus=2)
    source = Nvml(nvml=fake)
    assert frames_of(source.sample(1000))[0].identity("device") == [f"{HOST}-GPU0", f"{HOST}-GPU1"]
    getattr(fake, trouble).add(1)
    found = source.sample(2000)
    (frame,) = frames_of(found)
    assert frame.identity("device") == [f"{HOST}-GPU0"]
    assert frame.values("util_pct").tolist() == [97]
    failures = [(e.endpoint, e.reason, e.rack) for e in found if isinstance(e, SourceFailure)]
    assert failures == [(f"{HOST}-GPU1", "gpu-lost", HOST)]
    assert list(source.errors) == [f"{HOST}-GPU1"]
    getattr(fake, trouble).clear()
    back = source.sample(3000)
    assert frames_of(back)[0].identity("board") == ["GPU-u-0", "GPU-u-1"]
    assert not source.errors
    assert not rows_of(back, ASSET), "it is the same board at the same place"


def test_a_gpu_lost_at_the_start_is_expected_at_its_place_and_looked_for_every_half_minute() -> None:
    fake = FakeNvml(gpus=2)
    fake.lost.add(1)
    source = Nvml(nvml=fake)
    first = source.sample(100_000)
    assert frames_of(first)[0].identity("board") == ["GPU-u-0"]
    place = f"{HOST}-GPU1"
    assets = {r["asset"]: r for r in rows_of(first, ASSET)}
    assert set(assets) == {"GPU-u-0", place}
    assert (assets[place]["kind"], assets[place]["rack"], assets[place]["device"]) == ("gpu", HOST, place)
    assert ms(assets[place]["valid_to"]) == 0
    fake.lost.clear()
    fake.handles.clear()
    assert frames_of(source.sample(129_000))[0].rows == 1
    assert fake.handles == [], "it was looked for 29 s ago"
    found = source.sample(130_000)
    assert fake.handles == [1]
    assert frames_of(found)[0].identity("board") == ["GPU-u-0", "GPU-u-1"]
    rows = [(r["asset"], ms(r["valid_from"]), ms(r["valid_to"])) for r in rows_of(found, ASSET)]
    assert rows == [(place, 100_000, 130_000), ("GPU-u-1", 130_000, 0)]


def test_errors_go_by_their_number_where_the_driver_has_no_classes_for_them() -> None:
    class Plain(FakeNvml):
        NVMLError_NotSupported = NVMLError_FunctionNotFound = ()

        def __getattr__(self, name: str) -> Any:
            call = super().__getattr__(name)

            def plain(*arguments: Any) -> Any:
                try:
                    return call(*arguments)
                except NotSupported as err:
                    raise NVMLError("Not Supported", 3) from err

            return plain

    fake = Plain()
    source = Nvml(nvml=fake)
    source.sample(1000)
    asked = fake.calls
    assert frames_of(source.sample(2000))[0].values("util_pct")[0] == 97
    assert 0 < asked == fake.calls


def test_the_host_is_an_endpoint_that_is_up_while_nvml_answers() -> None:
    fake = FakeNvml(gpus=2)
    source = Nvml(nvml=fake)
    (row,) = frames_of(source.sample(1000), "endpoint")
    assert (row.identity("model"), row.identity("node"), row.identity("rack")) == (["nvml"], [HOST], [HOST])
    assert (row.values("up")[0], row.values("devices")[0]) == (1, 2)
    assert not frames_of(source.sample(2000), "endpoint")
    fake.lost |= {0, 1}
    assert frames_of(source.sample(6000), "endpoint")[0].values("up")[0] == 1, "NVML answers, its GPUs do not"
    fake.down = True
    (row,) = frames_of(source.sample(7000), "endpoint")
    assert (row.values("up")[0], row.values("devices")[0]) == (0, 0)
