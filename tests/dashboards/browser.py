"""A headless Chromium on the watch page: the browser, a page, and what the page shows."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import parse_qs, urlsplit

from playwright.async_api import Browser, Locator, Page, async_playwright

from dashboards.panels import NO_DATA


def chromium() -> str:
    """The browser's path. Without one the test fails: CI installs it."""
    found = os.environ.get("GIGAWATCH_CHROMIUM") or next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    assert found, "no Chromium: install the package chromium, or name one in GIGAWATCH_CHROMIUM"
    return found


@asynccontextmanager
async def browsing() -> AsyncIterator[Browser]:
    """A browser, closed at the end."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=chromium(), args=["--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars"]
        )
        yield browser
        await browser.close()


async def opened_page(browser: Browser, url: str, zone: str | None = None) -> BoardPage:
    """A new page for the watch server at `url`, in a time zone such as `Asia/Tokyo`, else in this machine's."""
    context = await browser.new_context(viewport={"width": 1500, "height": 1000}, timezone_id=zone)
    return BoardPage(await context.new_page(), url)


class BoardPage:
    """A page of the browser, and the warnings and errors of its console."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url = page, url
        self.console: list[str] = []
        page.on("console", lambda m: self.console.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda e: self.console.append(str(e)))

    async def open(self, path: str) -> None:
        await self.page.goto(self.url + path)
        await self.drawn()

    async def drawn(self) -> None:
        """Until every panel of the address that is shown has been drawn."""
        for _ in range(600):
            parts = urlsplit(self.page.url)
            if await self.page.locator("body").get_attribute("data-shown") == parts.path + (
                f"?{parts.query}" if parts.query else ""
            ):
                return
            await self.page.wait_for_timeout(100)
        raise AssertionError(f"{self.page.url} is not drawn within a minute; the console: {self.console}")

    def panel(self, title: str) -> Locator:
        return self.page.locator("section").filter(has=self.page.get_by_text(title, exact=True))

    async def faulty_panels(self) -> list[str]:
        """Panels that show an error, or nothing though they should show something."""
        found = []
        for section in await self.page.locator("section").all():
            kind, text = await section.get_attribute("data-kind"), await section.locator(".body").inner_text()
            if (
                kind == "error"
                or (kind == "empty" and text == NO_DATA)
                or kind not in ("plot", "numbers", "bars", "table", "empty")
            ):
                found.append(f"{await section.locator('h2 span').inner_text()}: {kind} {text}")
            elif kind == "plot" and not await section.locator(".plot svg").count():
                found.append(f"{await section.locator('h2 span').inner_text()}: no picture")
        return found

    def variables(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.page.url).query)
