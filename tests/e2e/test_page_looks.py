"""Themes, a telephone's screen, and what axe-core says of every screen."""

from __future__ import annotations

import gzip
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
        wide = await phone.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0
        await expect(phone.at_test_id("chain-head")).to_be_in_viewport(ratio=1)
        await expect(phone.atm_row.locator(".cell:visible")).to_have_count(6)
        await phone.page.get_by_label("More columns").click()
        await expect(phone.at_test_id("chain-head")).to_contain_text("Bid")
        await phone.at_test_id("nav-watch").click()
        await expect(phone.at_test_id("watchlist")).to_be_visible()
        await phone.at_test_id("nav-health").click()
        await expect(phone.at_test_id("health")).to_be_visible()
        wide = await phone.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0


async def test_reduced_motion_takes_the_flash_background_away(browser: Browser, service: Service) -> None:
    async with Desk.at(browser, service.url, reduced_motion="reduce") as calm:
        await calm.live()
        flashed = calm.page.locator(".flash-up, .flash-down").first
        await expect(flashed).to_have_css("background-color", "rgba(0, 0, 0, 0)", timeout=10_000)


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("screen", [DESKTOP, PHONE], ids=["desktop", "phone"])
async def test_axe_finds_nothing(browser: Browser, service: Service, screen: dict[str, int], theme: str) -> None:
    if not AXE.is_file():
        pytest.skip("axe-core is not installed: npm ci in web/")
    axe = AXE.read_text()
    async with Desk.at(browser, service.url, screen=screen) as desk:
        await desk.live()
        if theme == "light":
            await desk.at_test_id("theme").click()
        found = {"chain": await _violations(desk, axe)}
        await desk.atm_row.locator(".c-ltp.ce").click()
        await expect(desk.at_test_id("depth")).to_be_visible()
        found["detail"] = await _violations(desk, axe)
        await desk.press("Escape", "?")
        await expect(desk.at_test_id("help")).to_be_visible()
        found["help"] = await _violations(desk, axe)
        await desk.press("Escape")
        await desk.search("rel")
        found["search"] = await _violations(desk, axe)
        await desk.press("Escape")
        for view in ("watch", "health"):
            await desk.go(f"#/{view}")
            await desk.page.wait_for_timeout(500)
            found[view] = await _violations(desk, axe)
        assert {name: what for name, what in found.items() if what} == {}


async def _violations(desk: Desk, axe: str) -> list[Any]:
    await desk.page.evaluate(axe)
    script = """rules => axe.run(document, {runOnly: rules}).then(
        found => found.violations.map(one => [one.id, one.nodes.slice(0, 3).map(node => node.html.slice(0, 200))]))"""
    found: list[Any] = await desk.page.evaluate(script, RULES)
    return found
