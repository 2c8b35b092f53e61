"""Take the pictures of ``docs/images``: ``python -m tests.e2e.pictures [NAME …]``. They are for people to look at.

Most show one service with a few lists; the last ones cost a service each: an eviction, a cut feed, a closed market.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

from playwright.async_api import Browser, async_playwright, expect

from tests.e2e.conftest import CHROMIUM
from tests.e2e.crowd import PASSWORD, USERS, add_people, fill_to_eviction, inject
from tests.e2e.desk import LIVE_MS, PHONE, Desk
from tests.service import ROOT, Service

IMAGES = ROOT / "docs" / "images"
Scene = Callable[[Desk], Awaitable[None]]
WIDE = {"width": 1600, "height": 900}
USUAL = {"width": 1440, "height": 810}
TALL = {"width": 1440, "height": 1290}
SETTLED_MS = 800
MINUTES = 3  # of a session, before its charts show something


async def _chain(desk: Desk) -> None:
    await desk.live()


async def _light(desk: Desk) -> None:
    await desk.live()
    await desk.press("l")


async def _interest(desk: Desk) -> None:
    await desk.live()
    await desk.press("2")
    await desk.at_test_id("palette").click()


async def _charts(desk: Desk) -> None:
    await desk.live()
    await desk.press("c")
    await expect(desk.at_test_id("chart-panel").locator("canvas")).to_have_count(4)


async def _detail(desk: Desk) -> None:
    await desk.live()
    await desk.press("3")
    await desk.atm_row.locator(".c-ltp.ce").click()
    await desk.page.wait_for_timeout(6_000)


async def _search(desk: Desk) -> None:
    await desk.live()
    await desk.search("nifty 25000 ce")


async def _help(desk: Desk) -> None:
    await desk.live()
    await desk.press("?")


async def _unsubscribed(desk: Desk) -> None:
    await desk.go("#/chain/TCS")
    await expect(desk.at_test_id("add-chain")).to_be_visible(timeout=LIVE_MS)


async def _move(desk: Desk) -> None:
    await desk.live()
    await desk.page.locator('[data-testid="list-tab"][data-list="swing"]').click()
    await desk.entry("SBIN").locator(".entry").focus()
    await desk.press("m")


async def _health(desk: Desk) -> None:
    await desk.go("#/health")
    await expect(desk.at_test_id("subs-count")).to_contain_text("of", timeout=LIVE_MS)
    await expect(desk.at_test_id("connection")).to_have_count(5)


async def _confirm(desk: Desk) -> None:
    await _health(desk)
    await desk.at_test_id("admin-clear").click()


async def _watch(desk: Desk) -> None:
    await desk.live()
    await desk.go("#/watch")


async def _phone_detail(desk: Desk) -> None:
    await desk.live()
    await desk.atm_row.locator(".c-ltp.ce").click()


SCENES: dict[str, tuple[dict[str, int], Scene]] = {
    "chain-desktop": (WIDE, _chain),
    "chain-light": (USUAL, _light),
    "chain-oi-colourblind": (USUAL, _interest),
    "chain-detail": (USUAL, _detail),
    "search": (USUAL, _search),
    "help": (TALL, _help),
    "not-subscribed": (USUAL, _unsubscribed),
    "watch-move": (USUAL, _move),
    "health": (TALL, _health),
    "health-confirm": (USUAL, _confirm),
    "phone-chain": (PHONE, _chain),
    "phone-light": (PHONE, _light),
    "phone-watch": (PHONE, _watch),
    "phone-detail": (PHONE, _phone_detail),
    "phone-health": (PHONE, _health),
    "charts": (WIDE, _charts),
}


async def _shoot(desk: Desk, name: str) -> None:
    await desk.page.wait_for_timeout(SETTLED_MS)
    await desk.page.screenshot(path=IMAGES / f"{name}.png")


async def _take(browser: Browser, service: Service, name: str) -> None:
    screen, scene = SCENES[name]
    async with Desk.at(browser, service.url, screen=screen) as desk:
        await scene(desk)
        await _shoot(desk, name)


async def _take_evicted(browser: Browser, service: Service) -> None:
    async with Desk.at(browser, service.url, screen=USUAL) as desk:
        await desk.live()
        fill_to_eviction(service)
        await desk.note("was evicted")
        await expect(desk.entry("RELIANCE")).to_have_attribute("data-state", "EVICTED", timeout=LIVE_MS)
        await _shoot(desk, "evicted")


async def _take_cut(browser: Browser, service: Service) -> None:
    """The feed goes first, then the service itself."""
    async with Desk.at(browser, service.url, screen=USUAL) as desk:
        await desk.live()
        faults = [{"kind": "refuse", "value": 503, "seconds": 600}, {"kind": "cut"}]
        inject(service, *faults)
        await expect(desk.atm_row).to_have_attribute("data-ce-state", "GAP", timeout=LIVE_MS)
        await _shoot(desk, "feed-cut")
        desk.tolerates_outage = True
        service.kill()
        await expect(desk.at_test_id("not-live")).to_be_visible(timeout=LIVE_MS)
        await _shoot(desk, "stream-lost")


async def _take_signed_out(browser: Browser, service: Service) -> None:
    add_people(service)
    async with Desk.at(browser, service.url, screen=USUAL) as desk:
        await expect(desk.at_test_id("sign-in")).to_be_visible(timeout=LIVE_MS)
        await _shoot(desk, "sign-in")
        await desk.sign_in(USERS[0], PASSWORD)
        await desk.live()
        await desk.page.evaluate(
            """() => fetch('/api/v2/auth/sign-out', {method: 'POST', headers: {Authorization:
                `Bearer ${JSON.parse(sessionStorage.getItem('bt.session.v1')).token}`}})"""
        )
        await expect(desk.at_test_id("sign-in")).to_be_visible(timeout=LIVE_MS)
        await _shoot(desk, "session-ended")


async def _take_closed(browser: Browser, service: Service) -> None:
    async with Desk.at(browser, service.url, screen=USUAL) as desk:
        await expect(desk.at_test_id("market-NSE")).to_contain_text("CLOSED", timeout=LIVE_MS)
        await expect(desk.at_test_id("feed-badge")).to_have_attribute("data-feed", "closed", timeout=LIVE_MS)
        await expect(desk.at_test_id("coverage")).to_contain_text("202 closed", timeout=LIVE_MS)
        await _shoot(desk, "market-closed")


CLOSED_DAY = {"BT_SIM_HOURS": "market", "BT_SIM_DATE": "2026-02-08"}
APART: dict[str, tuple[dict[str, str], Callable[[Browser, Service], Awaitable[None]]]] = {
    "signed-out": ({"BT_AUTH": "required"}, _take_signed_out),
    "closed": (CLOSED_DAY, _take_closed),
}


def _furnish(service: Service) -> None:
    """Two lists with something of every kind in them."""
    service.post("/api/v2/watchlists/create", {"user_id": 1, "name": "swing"})
    wanted = (
        ("RELIANCE", "STOCK_OPTION", "default"), ("TATASTEEL", "STOCK_OPTION", "default"),
        ("INFY", "EQUITY", "default"), ("GOLD", "FUTURE", "default"), ("SBIN", "EQUITY", "swing"),
        ("WIPRO", "EQUITY", "swing"), ("CRUDEOIL", "COMMODITY_OPTION", "swing"),
    )  # fmt: skip
    for symbol, kind, name in wanted:
        body = {"user_id": 1, "symbol": symbol, "instrument_type": kind, "list": name}
        if kind.endswith("_OPTION"):
            body["expiry"] = service.get(f"/api/v2/instruments/{symbol}/expiries")["expiries"][0]
        service.post("/api/v2/watchlist/add", body)


async def take_all(names: list[str], directory: Path) -> None:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        with Service(directory / "shared") as service:
            service.wait_for("the feed", 90, lambda: service.status()["states"].get("LIVE", 0) > 8_000)
            _furnish(service)
            wanted = [each for each in SCENES if not names or each in names]
            if wanted:
                service.wait_for("minutes", 400, lambda: service.get("/api/v2/bars/NIFTY")["count"] > MINUTES)
            for name in wanted:
                await _take(browser, service, name)
            if not names or "evicted" in names:
                await _take_evicted(browser, service)
            if not names or "feed-cut" in names:
                await _take_cut(browser, service)
        for name, (settings, take) in APART.items():
            if not names or name in names:
                with Service(directory / name, settings) as service:
                    await take(browser, service)
        await browser.close()


def main() -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(take_all(sys.argv[1:], Path(directory)))


if __name__ == "__main__":
    main()
