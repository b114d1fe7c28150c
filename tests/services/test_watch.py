"""The watch page in a real browser on a live plant, and `gigawatch top` in a real terminal, with real keys."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import AsyncIterator, Callable, Iterator
from fcntl import ioctl
from urllib.parse import urlsplit

import pyte
import pytest
from playwright.async_api import expect

from dashboards import build
from pipeline.instance import running
from tests.dashboards.browser import BoardPage, browsing, opened_page
from tests.factories import GIGAWATCH, Running, factories, run

pytestmark = [pytest.mark.service(280), pytest.mark.xdist_group("watch")]
GPU, RACK = "R0002-N03-GPU2", "R0003"
LOOK_MS = 60_000


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Four racks with a hot GPU and a starved coolant loop, both known as incidents."""
    with factories(tmp_path_factory.mktemp("plant")) as start:
        up = start(
            "--racks",
            "4",
            "--watch-port",
            "18080",
            "--fault",
            f"gpu-thermal@{GPU}:45",
            "--fault",
            f"coolant-flow@{RACK}:45",
        )
        up.until_stored(1, "incidents", 150)
        up.until_stored(15 * 288 - 1, "gpu_10s", 240)  # two and a half minutes: the alerts have held for their minute
        yield up
        up.finish()


@pytest.fixture
async def shown(plant: Running) -> AsyncIterator[BoardPage]:
    known = running(plant.folder)
    assert known is not None
    async with browsing() as browser:
        page = await opened_page(browser, known.watch)
        yield page
    assert page.console == [], "the console is quiet"


async def test_every_board_opens_on_a_living_plant_with_no_empty_panel(shown: BoardPage) -> None:
    for uid, body in build.load().items():
        await shown.open(f"/d/{uid}/{uid.removeprefix('gigawatch-')}")
        assert await shown.faulty_panels() == [], uid
        assert await shown.page.locator("section").count() == len(body["panels"])
        assert await shown.page.locator("nav a[aria-current]").get_attribute("data-uid") == uid


async def test_range_variables_and_refresh_are_chosen_and_kept_in_the_address(shown: BoardPage) -> None:
    await shown.open("/d/gigawatch-rack/rack")
    await expect(shown.page.get_by_label("Rack", exact=True)).to_have_value("R0001")
    await shown.page.get_by_label("Rack", exact=True).select_option("R0004")
    await shown.drawn()
    assert shown.variables()["var-rack"] == ["R0004"]
    assert "R0004-N01-GPU0" in await shown.panel("All GPUs").inner_text()
    for length in ("now-6h", "now-7d", "now-5m"):
        await shown.page.get_by_label("Time range").select_option(length)
        await shown.drawn()
        assert shown.variables()["from"] == [length]
        assert await shown.faulty_panels() == [], length
    await shown.page.get_by_label("Refresh").select_option("5")
    before = await shown.page.locator("#clock").inner_text()
    await expect(shown.page.locator("#clock")).not_to_have_text(before, timeout=LOOK_MS)
    await shown.page.go_back()
    await shown.drawn()
    assert shown.variables()["from"] == ["now-7d"]


async def test_a_fault_is_seen_on_the_factory_and_leads_to_its_rack_its_gpu_and_its_alert(shown: BoardPage) -> None:
    await shown.open("/d/gigawatch-factory/factory")
    await expect(shown.panel("Open incidents by device")).to_contain_text(GPU)
    await shown.panel("Open incidents by device").get_by_role("link", name="R0002", exact=True).first.click()
    await shown.drawn()
    assert urlsplit(shown.page.url).path == "/d/gigawatch-rack/rack"
    assert shown.variables()["var-rack"] == ["R0002"]
    assert shown.variables()["from"][0].isdigit(), "the incident's own time"
    await shown.panel("All GPUs").get_by_role("link", name=GPU, exact=True).click()
    await shown.drawn()
    assert shown.variables()["var-gpu"] == [GPU]
    assert GPU in await shown.panel("Identity").inner_text()
    assert await shown.faulty_panels() == []
    await shown.page.locator("#alerts summary").click()
    alerts = await shown.page.locator("#alerts div p a").all_inner_texts()
    assert len(alerts) == 2, alerts
    assert any(text.startswith(RACK) and "L/min" in text for text in alerts)
    assert any(text.startswith(GPU) and "above its peers" in text for text in alerts)
    await shown.page.locator("#alerts div p a").filter(has_text=GPU).click()
    await shown.drawn()
    assert urlsplit(shown.page.url).path == "/d/gigawatch-gpu/gpu"


async def test_help_tables_and_what_the_store_refuses(shown: BoardPage) -> None:
    await shown.open("/d/gigawatch-factory/factory")
    await shown.panel("PUE").get_by_role("button").hover()
    await expect(shown.page.locator("#tip")).to_contain_text("Facility power over IT power")
    header = shown.panel("All racks").locator("th").filter(has_text="rack").first
    await header.click()
    await header.click()
    racks = await shown.panel("All racks").locator("tbody td:first-child").all_inner_texts()
    assert racks == sorted(racks)
    await shown.page.goto(f"{shown.url}/d/gigawatch-factory/factory?from=yesterday")
    await expect(shown.page.locator("#trouble")).to_contain_text("now-30m", timeout=LOOK_MS)
    shown.console = [line for line in shown.console if "400" not in line]  # the browser logs the refusal itself


class Terminal:
    """A program in a pseudo terminal of a size, its screen, and its keyboard."""

    def __init__(self, argv: list[str], columns: int, lines: int) -> None:
        self.screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self.screen)
        self._master, slave = pty.openpty()
        ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.process = subprocess.Popen(
            argv,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env={**os.environ, "TERM": "xterm-256color", "COLUMNS": str(columns), "LINES": str(lines)},
        )
        os.close(slave)

    def until(self, ready: Callable[[str], bool], what: str, timeout_s: float = 40) -> str:
        """Reads until the screen is as wanted; the screen."""
        deadline = time.monotonic() + timeout_s
        while not ready(text := "\n".join(self.screen.display)):
            assert time.monotonic() < deadline, f"{what}: not within {timeout_s} s. The screen:\n{text}"
            if select.select([self._master], [], [], 0.2)[0]:
                try:
                    self._stream.feed(os.read(self._master, 65536))
                except OSError:
                    break
        return text

    def press(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def ended(self, timeout_s: float = 20) -> int:
        """Its exit code; what it still writes is read, since a full terminal would hold it up."""
        deadline = time.monotonic() + timeout_s
        while self.process.poll() is None:
            assert time.monotonic() < deadline, "it does not end"
            if select.select([self._master], [], [], 0.1)[0]:
                try:
                    os.read(self._master, 65536)
                except OSError:
                    break
        return self.process.wait(5)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(10)
        os.close(self._master)


@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (200, 55)])
def test_top_is_walked_with_keys_in_a_terminal(plant: Running, columns: int, lines: int) -> None:
    terminal = Terminal([*GIGAWATCH, "top", "--data-dir", str(plant.folder), "--every", "1"], columns, lines)
    try:
        terminal.until(
            lambda t: "R0001" in t and "288/288 GPUs" in t and "open incidents" in t and GPU in t,
            "the factory and the incident, all of it drawn",
        )
        terminal.press("/")
        terminal.until(lambda t: "part of a rack" in t, "where a filter is written")
        terminal.press("r0002\r")
        terminal.until(lambda t: "1 of 4" in t, "the filter")
        terminal.press("\r")
        terminal.until(lambda t: "72 GPUs draw" in t and GPU in t, "the rack, its hot GPU first")
        terminal.press("\r")
        terminal.until(lambda t: f"{GPU} " in t and "last half hour" in t, "the GPU")
        terminal.press("\x1b")
        terminal.until(lambda t: "72 GPUs draw" in t, "back on the rack")
        terminal.press("m")
        terminal.until(lambda t: "die, C" in t, "another colouring")
        terminal.press(" ")
        terminal.until(lambda t: "PAUSED" in t, "paused")
        terminal.press("q")
        assert terminal.ended() == 0
    finally:
        terminal.close()


def test_top_once_shows_the_faults_and_the_page_has_queried_the_store(plant: Running) -> None:
    shown = run("top", "--once", "--data-dir", str(plant.folder)).stdout
    assert GPU in shown
    assert RACK in shown
    known = running(plant.folder)
    assert known is not None
    status = json.loads((plant.folder / "run" / "watch.json").read_text())
    assert status["asked"] > 0
