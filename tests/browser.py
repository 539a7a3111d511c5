"""A real browser without a window, which remembers what its console says and where its pages look."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import axe_playwright_python
import pytest
from playwright.async_api import Browser, Page, async_playwright

PROGRAMS: Final = ("chromium", "chromium-browser", "google-chrome", "chrome")
SIZES: Final = {"desk": (1280, 800), "phone": (390, 844)}
PATIENCE_MS: Final = 30_000
"""How long a page has to show what it should, on a machine that does other things too."""

_AXE: Final = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text("utf-8")
_RULES: Final = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]}}


@dataclass(slots=True, kw_only=True)
class Window:
    """A page with what was wrong with it: errors of its console and of scripts, requests to elsewhere."""

    page: Page
    base_url: str
    errors: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)

    def listen(self) -> None:
        """Begin to remember."""
        self.page.on("console", lambda said: self.errors.append(said.text) if said.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda asked: self._look(asked.url))

    async def open(self, path: str) -> None:
        """Open a page of the portal."""
        await self.page.goto(f"{self.base_url}/portal{path}")

    async def sign_in(self, email: str, password: str) -> None:
        """Sign in through the form."""
        await self.open("/sign-in")
        await self.page.fill("#email", email)
        await self.page.fill("#password", password)
        await self.page.click("button.primary")
        await self.page.wait_for_url("**/portal")

    async def accessibility(self) -> list[str]:
        """Return what axe-core finds serious or critical in the page."""
        await self.page.evaluate(_AXE)
        found: dict[str, Any] = await self.page.evaluate("(rules) => window.axe.run(document, rules)", _RULES)
        return [
            f"{each['id']}: {node['html'][:160]} {node.get('failureSummary', '')[:200]}"
            for each in found["violations"]
            if each["impact"] in {"serious", "critical"}
            for node in each["nodes"]
        ]

    async def unfold(self) -> None:
        """Open everything that is folded away, but for what the window's top shows when it is asked to."""
        await self.page.evaluate("document.querySelectorAll('main details').forEach((each) => { each.open = true; })")

    async def overflows(self) -> bool:
        """Tell whether the page is wider than its window."""
        return bool(
            await self.page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
        )

    def _look(self, url: str) -> None:
        if not url.startswith((f"{self.base_url}/", "data:")):
            self.elsewhere.append(url)


def find_browser() -> str:
    """Return the browser's program; where there is none the test is skipped by name, and fails where none may be missing."""
    found = next((found for each in PROGRAMS if (found := shutil.which(each))), None)
    if found is None:
        if os.environ.get("CONFORMANCE_ALL"):
            pytest.fail("chromium is missing: apt-get install chromium")
        pytest.skip("chromium is missing: apt-get install chromium")
    return found


@asynccontextmanager
async def browsing() -> AsyncIterator[Browser]:
    """Run a browser for the block."""
    program = find_browser()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def window(
    browser: Browser, base_url: str, size: str = "desk", scheme: Literal["light", "dark"] = "light"
) -> AsyncIterator[Window]:
    """Open a window with nothing remembered for the block."""
    width, height = SIZES[size]
    context = await browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    context.set_default_timeout(PATIENCE_MS)
    opened = Window(page=await context.new_page(), base_url=base_url)
    opened.listen()
    try:
        yield opened
    finally:
        await context.close()
