"""Takes the pictures of docs/pictures: `make pictures` runs a factory with faults for ten minutes and looks at every
board, and at `gigawatch top`.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import tempfile
import time
from pathlib import Path

from playwright.async_api import Page

from pipeline.instance import running
from pipeline.store.access import opened
from pipeline.terminal.escape import without_fonts
from pipeline.terminal.top.app import Top
from pipeline.terminal.top.queries import Store
from tests.conftest import ROOT
from tests.dashboards.browser import browsing
from tests.factories import GIGAWATCH

#: Faults that the pictures show, s from the start.
FAULTS = (
    "gpu-thermal@R0002-N03-GPU2:330",
    "coolant-flow@R0003:390",
    "gpu-dead@R0005-N02-GPU1:420",
    "psu-loss@R0006:300",
    "gpu-straggler@R0004-N11-GPU0:240",
)
#: Picture -> (address, height).
VIEWS = {
    "factory": ("factory?from=now-15m", 1330),
    "rack": ("rack?var-rack=R0002&from=now-15m", 1330),
    "gpu": ("gpu?var-rack=R0002&var-gpu=R0002-N03-GPU2&from=now-15m", 1330),
    "power": ("power?from=now-15m", 1680),
    "cooling": ("cooling?from=now-15m", 1900),
    "jobs": ("jobs?from=now-15m", 1750),
    "incidents": ("incidents?from=now-15m", 1120),
    "health": ("health?from=now-15m", 1400),
    "heat": ("factory?from=now-15m&var-by=temperature", 900),
}


async def page_pictures(url: str, folder: Path) -> None:
    """Every view as a PNG, and the alerts opened."""
    async with browsing() as browser:
        page = await browser.new_page(viewport={"width": 1600, "height": 1000})
        for name, (address, height) in VIEWS.items():
            await page.set_viewport_size({"width": 1600, "height": height})
            await _open(page, f"{url}/d/gigawatch-{address.replace('?', '/x?', 1)}")
            if name == "heat":
                await page.evaluate("document.querySelectorAll('section')[11].scrollIntoView({block: 'center'})")
            await page.screenshot(path=folder / f"{name}.png")
            print(f"{folder / name}.png", flush=True)
        await page.set_viewport_size({"width": 1600, "height": 760})
        await _open(page, f"{url}/d/gigawatch-factory/factory?from=now-15m")
        await page.locator("#alerts summary").click()
        await page.screenshot(path=folder / "alerts.png")


async def _open(page: Page, url: str) -> None:
    await page.goto(url)
    await page.wait_for_selector("body[data-shown]", timeout=60_000)
    await page.wait_for_timeout(700)


async def top_pictures(folder: Path, data_dir: Path) -> None:
    """`gigawatch top` on the factory, and on the rack with the hot GPU."""
    with opened(None, data_dir) as client:
        app = Top(Store(client), 3600)
        async with app.run_test(size=(120, 34)) as pilot:
            for name, keys in (("top", ()), ("top-rack", ("slash", *"r0002", "enter", "enter"))):
                await pilot.press(*keys)
                await app.workers.wait_for_complete()
                await pilot.pause(0.5)
                (folder / f"{name}.svg").write_text(without_fonts(app.export_screenshot(title="gigawatch top")))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("folder", type=Path, nargs="?", default=ROOT / "docs" / "pictures")
    options.add_argument("--minutes", type=float, default=10.0)
    given = options.parse_args()
    given.folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        data_dir = Path(name)
        faults = [word for fault in FAULTS for word in ("--fault", fault)]
        with subprocess.Popen(
            [*GIGAWATCH, "up", "--racks", "12", "--quiet", "--data-dir", name, *faults], stderr=subprocess.DEVNULL
        ) as factory:
            try:
                time.sleep(given.minutes * 60)
                known = running(data_dir)
                assert known is not None, "the factory ended early"
                asyncio.run(page_pictures(known.watch, given.folder))
                asyncio.run(top_pictures(given.folder, data_dir))
            finally:
                factory.terminate()


if __name__ == "__main__":
    main()
