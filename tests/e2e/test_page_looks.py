"""Themes, a telephone's screen, and what axe-core says of every screen."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, expect

from tests.e2e.desk import DESKTOP, PHONE, Desk
from tests.service import ROOT, Service

AXE = ROOT / "web" / "node_modules" / "axe-core" / "axe.min.js"
CODE_BYTES_MAX = 90_000  # gzipped, charts included
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def test_all_code_of_the_page_is_small(built_page: Path) -> None:
    assets = [path for path in (built_page.parent / "assets").iterdir() if path.suffix in {".js", ".css"}]
    assert len(assets) >= 2
    assert sum(len(gzip.compress(path.read_bytes(), 9)) for path in assets) <= CODE_BYTES_MAX


async def test_theme_and_palette_last_over_a_reload(desk: Desk) -> None:
    await desk.live()
    await desk.at_test_id("theme").click()
    await desk.at_test_id("palette").click()
    await desk.page.reload()
    root = desk.page.locator("html")
    await expect(root).to_have_attribute("data-theme", "light")
    await expect(root).to_have_attribute("data-palette", "colourblind")


async def test_telephone_fits_and_turns_its_columns(browser: Browser, service: Service) -> None:
    async with Desk.at(browser, service.url, screen=PHONE) as phone:
        await phone.live()
        assert await phone.overhang() <= 0
        await expect(phone.at_test_id("chain-head")).to_be_in_viewport(ratio=1)
        await expect(phone.atm_row.locator(".cell:visible")).to_have_count(6)
        await phone.page.get_by_label("More columns").click()
        await expect(phone.at_test_id("chain-head")).to_contain_text("Bid")
        await phone.at_test_id("nav-watch").click()
        await expect(phone.at_test_id("watchlist")).to_be_visible()
        await phone.at_test_id("nav-health").click()
        await expect(phone.at_test_id("health")).to_be_visible()
        assert await phone.overhang() <= 0


async def test_on_a_telephone_the_details_give_way_to_what_is_gone_to(browser: Browser, service: Service) -> None:
    async with Desk.at(browser, service.url, screen=PHONE, has_touch=True, is_mobile=True) as phone:
        await phone.live()
        await phone.atm_row.locator(".c-ltp.ce").tap()
        await expect(phone.at_test_id("detail")).to_be_visible()
        await phone.at_test_id("nav-watch").tap()
        await expect(phone.at_test_id("detail")).to_have_count(0)
        await expect(phone.at_test_id("entries")).to_contain_text("its + adds it here")
        await expect(phone.at_test_id("entries").get_by_text("Shift Enter")).not_to_be_visible()
        await phone.at_test_id("nav-chain").tap()
        await phone.atm_row.locator(".c-ltp.ce").tap()
        await (await phone.search("sensex")).first.tap()
        await expect(phone.at_test_id("detail")).to_have_count(0)
        await expect(phone.chain).to_have_attribute("data-symbol", "SENSEX")


async def test_reduced_motion_takes_the_flash_background_away(browser: Browser, service: Service) -> None:
    async with Desk.at(browser, service.url, reduced_motion="reduce") as calm:
        await calm.live()
        flashed = calm.page.locator(".flash-up, .flash-down").first
        await expect(flashed).to_have_css("background-color", "rgba(0, 0, 0, 0)", timeout=10_000)


@pytest.fixture(scope="module")
def listed(service: Service) -> Iterator[Service]:
    """An entry in the default list, and a second list; gone again afterwards."""
    entry = {"user_id": 1, "symbol": "INFY", "instrument_type": "EQUITY"}
    service.post("/api/v2/watchlist/add", entry).raise_for_status()
    service.post("/api/v2/watchlists/create", {"user_id": 1, "name": "axe"}).raise_for_status()
    yield service
    service.post("/api/v2/watchlists/delete", {"user_id": 1, "list": "axe"}).raise_for_status()
    service.post("/api/v2/watchlist/remove", {"user_id": 1, "symbol": "INFY"}).raise_for_status()


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("screen", [DESKTOP, PHONE], ids=["desktop", "phone"])
async def test_axe_finds_nothing(browser: Browser, listed: Service, screen: dict[str, int], theme: str) -> None:
    if not AXE.is_file():
        pytest.skip("axe-core is not installed: npm ci in web/")
    axe = AXE.read_text()
    async with Desk.at(browser, listed.url, screen=screen) as desk:
        await desk.live()
        if theme == "light":
            await desk.at_test_id("theme").click()
        found: dict[str, list[Any]] = {}
        async for name in _screens(desk):
            found[name] = await _violations(desk, axe)
        assert {name: what for name, what in found.items() if what} == {}


async def _screens(desk: Desk) -> AsyncIterator[str]:
    """Bring every screen and dialog up in turn, and name it."""
    yield "chain"
    await desk.press("2", "c")
    await expect(desk.at_test_id("chart-panel").locator("canvas")).to_have_count(4)
    yield "open interest and charts"
    await desk.press("c", "3")
    yield "greeks"
    await desk.atm_row.locator(".c-ltp.ce").click()
    await expect(desk.at_test_id("depth")).to_be_visible()
    yield "detail"
    await desk.press("Escape", "?")
    await expect(desk.at_test_id("help")).to_be_visible()
    yield "help"
    await desk.press("Escape")
    await desk.at_test_id("sign-in-open").click()
    await expect(desk.at_test_id("sign-in")).to_be_visible()
    yield "sign-in"
    await desk.press("Escape")
    await desk.search("rel")
    yield "search"
    await desk.press("Escape")
    async for name in _of_lists(desk):
        yield name
    await desk.go("#/health")
    await expect(desk.at_test_id("subs-count")).to_contain_text(" of ")
    yield "health"
    await desk.at_test_id("admin-clear").click()
    await expect(desk.at_test_id("confirm")).to_be_visible()
    yield "confirmation"


async def _of_lists(desk: Desk) -> AsyncIterator[str]:
    await desk.go("#/watch")
    await expect(desk.entry("INFY")).to_be_visible()
    yield "watchlist"
    await desk.at_test_id("list-new").click()
    await expect(desk.at_test_id("list-name")).to_be_focused()
    yield "new list"
    await desk.press("Escape")
    await desk.entry("INFY").locator(".entry").focus()
    await desk.press("m")
    await expect(desk.at_test_id("move-dialog")).to_be_visible()
    yield "move"
    await desk.press("Escape")
    await desk.page.locator('[data-testid="list-tab"][data-list="axe"]').click()
    await desk.at_test_id("list-delete").click()
    await expect(desk.at_test_id("list-delete-dialog")).to_be_visible()
    yield "delete list"
    await desk.press("Escape")


async def _violations(desk: Desk, axe: str) -> list[Any]:
    await desk.page.evaluate(axe)
    script = """rules => axe.run(document, {runOnly: rules}).then(
        found => found.violations.map(one => [one.id, one.nodes.slice(0, 3).map(node => node.html.slice(0, 200))]))"""
    found: list[Any] = await desk.page.evaluate(script, RULES)
    return found
