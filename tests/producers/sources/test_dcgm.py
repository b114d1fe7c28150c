"""dcgm-exporter text and endpoints; NVML through a driver that answers from a table."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from producers.emission import Emission, SourceFailure
from producers.sources.dcgm import Dcgm, Endpoint, parse
from producers.sources.exposition import InvalidLine, samples
from producers.sources.nvml import Nvml
from producers.sources.source import SourceError
from schemas.frame import Frame
from schemas.validation import Counts, mask_invalid
from tests.conftest import DATA

TEXT = (DATA / "expo_dcgm.txt").read_text()


def test_old_and_new_names_mig_and_sentinels() -> None:
    scraped = parse(TEXT, 1000, "s", "R1")
    frame = scraped.frame
    assert frame is not None
    assert frame.identity("device") == ["node-7-GPU0", "node-7-GPU1", "node-7-GPU1-MIG7"]
    assert frame.identity("model") == ["H100 80GB HBM3"] * 3
    assert frame.identity("job") == ["4711", "", ""]
    assert frame.key() == b"s/R1"
    assert frame.values("power_w")[:2].tolist() == pytest.approx([631.95, 70.25])
    assert frame.values("util_pct")[:2].tolist() == pytest.approx([100, 42])
    assert frame.values("energy_j")[0] == pytest.approx(5.2e8)
    assert frame.values("sm_active")[2] == 0.5
    assert np.isnan(frame.values("temp_c")[2])
    assert frame.values("xid")[0] == 79
    counts: Counts = Counter()
    assert np.isnan(mask_invalid(frame, counts).values("energy_j")[1])
    assert counts == {("energy_j", "sentinel"): 1}
    assert scraped.refused == {"line": 1, "no-gpu-label": 1}


def test_text_without_a_gpu_is_no_frame() -> None:
    assert parse("# nothing\nup 1\n", 0).frame is None


@given(st.text(max_size=300))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    for found in samples(text):
        assert isinstance(found, InvalidLine) or found.name
    parse(text, 0)


@given(st.text(max_size=40).filter(lambda t: "\n" not in t and "\r" not in t))
def test_labels_are_unescaped(label: str) -> None:
    escaped = label.replace("\\", "\\\\").replace('"', '\\"')
    (found,) = list(samples(f'm{{a="{escaped}"}} 1'))
    if not isinstance(found, InvalidLine):
        assert found.labels["a"] == label


def test_recorded_expositions_parse_without_a_refusal(recorded: Any) -> None:
    for path in sorted((recorded / "gpu-metrics").glob("*.metrics")):
        found = list(samples(path.read_text()))
        assert len(found) > 90
        assert not [f for f in found if isinstance(f, InvalidLine)], path.name


@pytest.fixture
async def exporter() -> AsyncIterator[Callable[..., Any]]:
    """Starts exporters on loopback: `await exporter(handler)` gives its URL."""
    runners: list[web.AppRunner] = []

    async def start(handler: Callable[[web.Request], Any]) -> str:
        app = web.Application()
        app.router.add_get("/metrics", handler)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        runners.append(runner)
        return f"http://127.0.0.1:{runner.addresses[0][1]}/metrics"

    yield start
    for runner in runners:
        await runner.cleanup()


async def take(source: Dcgm) -> list[Emission]:
    return [e async for e in source.emissions()]


async def test_a_slow_or_dead_endpoint_holds_up_no_other(exporter: Callable[..., Any]) -> None:
    async def good(_: web.Request) -> web.Response:
        return web.Response(text=TEXT)

    async def slow(_: web.Request) -> web.Response:
        await asyncio.sleep(30)
        return web.Response(text=TEXT)

    async def broken(_: web.Request) -> web.Response:
        return web.Response(status=503)

    urls = [await exporter(h) for h in (good, slow, broken)]
    dead = "http://127.0.0.1:1/metrics"
    source = Dcgm(
        [Endpoint(urls[0], "R1", "n1"), Endpoint(urls[1], "R2"), Endpoint(urls[2], "R3"), Endpoint(dead, "R4")],
        tick_s=1.0,
        ticks=3,
    )
    found = await asyncio.wait_for(take(source), 30)
    frames = [e for e in found if isinstance(e, Frame)]
    silent = sorted((e.endpoint, e.rack, e.reason) for e in found if isinstance(e, SourceFailure))
    stamps = sorted(int(f.ts_ms()[0]) for f in frames)
    assert len(frames) == 3
    assert {b - a for a, b in itertools.pairwise(stamps)} == {1000}
    assert silent == sorted([(urls[1], "R2", "timeout"), (urls[2], "R3", "http-503"), (dead, "R4", "unreachable")] * 3)


async def test_an_exporter_without_gpus_is_reported(exporter: Callable[..., Any]) -> None:
    async def empty(_: web.Request) -> web.Response:
        return web.Response(text="up 1\n")

    found = await take(Dcgm([Endpoint(await exporter(empty))], tick_s=0.2, ticks=1))
    assert [e.reason for e in found if isinstance(e, SourceFailure)] == ["no-gpu"]


@pytest.mark.parametrize(
    ("spec", "endpoint"),
    [
        ("http://h:9400/metrics", Endpoint("http://h:9400/metrics")),
        ("http://h:9400", Endpoint("http://h:9400/metrics")),
        ("R1/N3=http://h:9400/m", Endpoint("http://h:9400/m", "R1", "N3")),
        ("R1=https://h/m", Endpoint("https://h/m", "R1")),
    ],
)
def test_endpoints_are_parsed(spec: str, endpoint: Endpoint) -> None:
    assert Endpoint.parse(spec) == endpoint


def test_a_wrong_endpoint_says_what_is_wanted() -> None:
    with pytest.raises(SourceError, match="RACK/NODE="):
        Endpoint.parse("ftp://nowhere")
    with pytest.raises(SourceError, match="no dcgm-exporter endpoint"):
        Dcgm([])


class NVMLError(Exception):
    pass


class NotSupported(NVMLError):
    pass


class FakeNvml:
    """An NVML of one H100 that supports what `table` has; everything else is not supported, as drivers say it."""

    NVMLError, NVMLError_NotSupported, NVMLError_FunctionNotFound = NVMLError, NotSupported, NotSupported
    NVML_SUCCESS = 0
    NVML_TEMPERATURE_GPU, NVML_FI_DEV_MEMORY_TEMP, NVML_CLOCK_SM, NVML_CLOCK_MEM = 0, 82, 1, 2
    NVML_PCIE_UTIL_TX_BYTES, NVML_PCIE_UTIL_RX_BYTES = 0, 1
    NVML_MEMORY_ERROR_TYPE_CORRECTED, NVML_MEMORY_ERROR_TYPE_UNCORRECTED, NVML_VOLATILE_ECC = 0, 1, 0
    nvmlMemory_v2 = 2  # noqa: N815 - NVML's name

    def __init__(self, driver: bool = True) -> None:
        self.driver, self.calls, self.down = driver, 0, False

    def nvmlInit(self) -> None:  # noqa: N802 - NVML's names
        if not self.driver:
            raise NVMLError("Driver Not Loaded")

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


def test_no_driver_says_what_to_do() -> None:
    with pytest.raises(SourceError, match="needs an NVIDIA GPU"):
        Nvml(nvml=FakeNvml(driver=False))
