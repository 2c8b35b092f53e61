"""One user in front of one browser: what the tests do on the page, in their words."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from playwright.async_api import Browser, ConsoleMessage, Locator, Page, Response, expect

DESKTOP = {"width": 1600, "height": 900}
PHONE = {"width": 390, "height": 844}
LIVE_MS = 30_000
PATIENCE_MS = 15_000
EXPECTED_STATUS = (401, 403, 404, 409)  # answers that a test may provoke; the browser logs them as errors


@dataclass
class Desk:
    page: Page
    complaints: list[str] = field(default_factory=list)
    tolerates_outage: bool = False

    @classmethod
    @asynccontextmanager
    async def at(
        cls, browser: Browser, url: str, path: str = "", *, screen: dict[str, int] | None = None, **context: Any
    ) -> AsyncIterator[Desk]:
        """Open the page, wait until it is drawn; on leaving, nothing may have gone wrong in it."""
        expect.set_options(timeout=PATIENCE_MS)
        size = screen or DESKTOP
        opened = await browser.new_context(viewport=size, accept_downloads=True, **context)  # type: ignore[arg-type]
        try:
            desk = cls(await opened.new_page())
            desk._listen()
            await desk.page.goto(f"{url}/{path}")
            await expect(desk.at_test_id("app")).to_be_visible()
            yield desk
            assert not desk.complaints, desk.complaints
        finally:
            await opened.close()

    def _listen(self) -> None:
        self.page.on("pageerror", lambda error: self.complaints.append(f"exception: {error}"))
        self.page.on("console", self._console)
        self.page.on("response", self._response)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type not in ("error", "warning"):
            return
        is_network = "Failed to load resource" in message.text or "WebSocket connection" in message.text
        if not (is_network and (self.tolerates_outage or "status of 4" in message.text)):
            self.complaints.append(f"console: {message.text}")

    def _response(self, response: Response) -> None:
        if response.status >= 400 and response.status not in EXPECTED_STATUS and not self.tolerates_outage:
            self.complaints.append(f"{response.status} {response.url}")

    # -- finding things

    def at_test_id(self, name: str) -> Locator:
        return self.page.get_by_test_id(name)

    @property
    def chain(self) -> Locator:
        return self.at_test_id("chain")

    @property
    def atm_row(self) -> Locator:
        return self.page.locator(".row.atm")

    def entry(self, symbol: str) -> Locator:
        return self.page.locator(f'[data-testid="watch-entry"][data-symbol="{symbol}"]')

    # -- doing things

    async def live(self) -> None:
        """Wait until the chain on screen is fresh and its ATM row is there."""
        await expect(self.chain).to_have_attribute("data-fresh", "true", timeout=LIVE_MS)
        await expect(self.at_test_id("feed-badge")).to_have_attribute("data-feed", "live", timeout=LIVE_MS)
        await expect(self.atm_row).to_be_visible(timeout=LIVE_MS)

    async def go(self, hash_: str) -> None:
        await self.page.evaluate("hash => { location.hash = hash }", hash_)

    async def press(self, *keys: str) -> None:
        for key in keys:
            await self.page.keyboard.press(key)

    async def search(self, text: str) -> Locator:
        """Type into the search by its key, and return the hits."""
        await self.press("/")
        await expect(self.at_test_id("search")).to_be_focused()
        await self.page.keyboard.type(text)
        hits = self.at_test_id("search-hit")
        await expect(hits.first).to_be_visible()
        return hits

    async def sign_in(self, name: str, password: str) -> None:
        await self.at_test_id("sign-in-name").fill(name)
        await self.at_test_id("sign-in-password").fill(password)
        await self.at_test_id("sign-in-go").click()
        await expect(self.at_test_id("sign-out")).to_contain_text(name)

    async def overhang(self) -> int:
        """By how many pixels the page is wider than its window."""
        wide: int = await self.page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        return wide

    async def note(self, text: str) -> None:
        """Wait until the page says so in its notes."""
        await expect(self.at_test_id("notes")).to_contain_text(text)
