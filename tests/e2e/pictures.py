"""Take the pictures of ``docs/images``: ``python -m tests.e2e.pictures [NAME …]``. They are for people to look at."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

from playwright.async_api import Browser, async_playwright, expect

from tests.e2e.conftest import CHROMIUM
from tests.e2e.desk import DESKTOP, LIVE_MS, PHONE, Desk
from tests.service import ROOT, Service

IMAGES = ROOT / "docs" / "images"
Scene = Callable[[Desk], Awaitable[None]]
WIDE = {"width": 1600, "height": 900}
TALL = {"width": 1500, "height": 1340}


async def _chain(desk: Desk) -> None:
    await desk.live()


async def _light(desk: Desk) -> None:
    await desk.live()
    await desk.at_test_id("theme").click()


async def _interest(desk: Desk) -> None:
    await desk.live()
    await desk.press("2")
    await desk.at_test_id("palette").click()


async def _detail(desk: Desk) -> None:
    await desk.live()
    await desk.press("3")
    await desk.at_test_id("charts").click()
    await desk.atm_row.locator(".c-ltp.ce").click()
    await desk.page.wait_for_timeout(6_000)


async def _search(desk: Desk) -> None:
    await desk.live()
    await desk.search("nifty 25000 ce")


async def _unsubscribed(desk: Desk) -> None:
    await desk.live()
    await desk.go("#/chain/TCS")
    await expect(desk.at_test_id("add-chain")).to_be_visible(timeout=LIVE_MS)


async def _health(desk: Desk) -> None:
    await desk.live()
    await desk.press("h")
    await expect(desk.at_test_id("subs-count")).to_contain_text("of", timeout=LIVE_MS)


async def _watch(desk: Desk) -> None:
    await desk.live()
    await desk.at_test_id("nav-watch").click()


async def _phone_detail(desk: Desk) -> None:
    await desk.live()
    await desk.atm_row.locator(".c-ltp.ce").click()


SCENES: dict[str, tuple[dict[str, int], Scene]] = {
    "chain-desktop": (WIDE, _chain),
    "chain-light": (WIDE, _light),
    "chain-oi-colourblind": (WIDE, _interest),
    "chain-detail": (WIDE, _detail),
    "search": (DESKTOP, _search),
    "not-subscribed": (DESKTOP, _unsubscribed),
    "health": (TALL, _health),
    "phone-chain": (PHONE, _chain),
    "phone-watch": (PHONE, _watch),
    "phone-detail": (PHONE, _phone_detail),
    "phone-health": (PHONE, _health),
}


async def _take(browser: Browser, url: str, name: str) -> None:
    screen, scene = SCENES[name]
    async with Desk.at(browser, url, screen=screen) as desk:
        if name == "phone-health":
            await desk.go("#/health")
            await desk.page.wait_for_timeout(1_500)
        else:
            await scene(desk)
        await desk.page.wait_for_timeout(800)
        await desk.page.screenshot(path=IMAGES / f"{name}.png")


async def _take_lost(browser: Browser, service: Service) -> None:
    async with Desk.at(browser, service.url) as desk:
        await desk.live()
        desk.tolerates_outage = True
        service.kill()
        await expect(desk.at_test_id("not-live")).to_be_visible(timeout=LIVE_MS)
        await desk.page.screenshot(path=IMAGES / "stream-lost.png")


async def take_all(service: Service, names: list[str]) -> None:
    """The stream's loss comes last: it costs the service."""
    for symbol, kind in (("RELIANCE", "STOCK_OPTION"), ("TATASTEEL", "STOCK_OPTION"), ("INFY", "EQUITY")):
        expiries = service.get(f"/api/v2/instruments/{symbol}/expiries")["expiries"]
        body = {"user_id": 1, "symbol": symbol, "instrument_type": kind}
        service.post("/api/v2/watchlist/add", body | ({"expiry": expiries[0]} if kind != "EQUITY" else {}))
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for name in names or SCENES:
            await _take(browser, service.url, name)
        if not names:
            await _take_lost(browser, service)
        await browser.close()


def main() -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        service = Service(Path(directory))
        service.start()
        try:
            service.wait_for("the feed", 60, lambda: service.status()["states"].get("LIVE", 0) > 8_000)
            asyncio.run(take_all(service, sys.argv[1:]))
        finally:
            service.stop()


if __name__ == "__main__":
    main()
