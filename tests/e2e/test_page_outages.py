"""The feed cut, the service killed, room run out, the market closed, the day ended: no old number is shown as live."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from playwright.async_api import Browser, expect

from tests.e2e.crowd import fill_to_eviction, heal, inject, silence_line_of_atm
from tests.e2e.desk import LIVE_MS, Desk
from tests.e2e.slow_line import SlowLine
from tests.service import Service, link_masters

SOON_MS = 150_000
SCROLLED = """(grid, top) => new Promise((done) => {
  if (grid.scrollTop !== top) done();
  else grid.addEventListener('scroll', () => done(), { once: true });
})"""
STRIKE_IN_THE_MIDDLE = """grid => {
  const box = grid.getBoundingClientRect();
  return document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2).closest('.row').dataset.strike;
}"""
KEEP_NOTES = """() => {
  const box = document.querySelector('[data-testid=notes]');
  window.notes = [];
  new MutationObserver(() => notes.push(box.innerText)).observe(box, { childList: true });
}"""


@pytest.fixture(scope="module")
def own(built_page: Path, tmp_path_factory: pytest.TempPathFactory, masters: Path) -> Iterator[Service]:
    """One service for the tests that break it and mend it again; the last one fills it."""
    service = Service(tmp_path_factory.mktemp("own"), {"BT_RETURN_AFTER_S": "1"})
    link_masters(service, masters)
    with service:
        yield service


async def test_service_killed_and_back(browser: Browser, own: Service) -> None:
    async with Desk.at(browser, own.url) as desk:
        await desk.live()
        desk.tolerates_outage = True
        own.kill()
        await expect(desk.chain).to_have_attribute("data-fresh", "false")
        await expect(desk.at_test_id("not-live")).to_be_visible()
        await expect(desk.at_test_id("feed-badge")).to_have_attribute("data-feed", "down")
        own.start()
        await desk.live()
        await expect(desk.at_test_id("not-live")).to_have_count(0)


async def test_service_frozen_and_back(browser: Browser, own: Service) -> None:
    """Its connections stand and say nothing: an answer is overdue at once, then silence counts as down."""
    async with Desk.at(browser, own.url) as desk:
        await desk.live()
        desk.tolerates_outage = True
        badge = desk.at_test_id("feed-badge")
        own.freeze()
        await expect(badge).to_have_attribute("data-feed", "delayed")
        await expect(desk.chain).to_have_attribute("data-fresh", "false")
        await expect(badge).to_have_attribute("data-feed", "down")
        own.thaw()
        await desk.live()
        await expect(desk.at_test_id("not-live")).to_have_count(0)


async def test_a_slow_line_is_told_for_what_comes_over_it_is_old(browser: Browser, own: Service) -> None:
    async with SlowLine.to(own.port) as line, Desk.at(browser, line.url) as desk:
        await desk.live()
        line.bytes_a_second = 4_000
        badge = desk.at_test_id("feed-badge")
        await expect(badge).to_contain_text(re.compile(r"DELAYED [3-9] s"))
        line.bytes_a_second = None
        await expect(badge).to_have_attribute("data-feed", "live", timeout=LIVE_MS)


async def test_feed_cut_and_back(browser: Browser, own: Service) -> None:
    async with Desk.at(browser, own.url) as desk:
        await desk.live()
        inject(own, {"kind": "refuse", "value": 503, "seconds": 600}, {"kind": "cut"})
        badge = desk.at_test_id("feed-badge")
        await expect(badge).to_have_attribute("data-feed", "feed-down", timeout=LIVE_MS)
        await expect(desk.at_test_id("degraded")).to_be_visible()
        await desk.note("Upstream connections 1, 2, 3, 4 and 5 are down")
        await expect(desk.atm_row).to_have_attribute("data-ce-state", "GAP", timeout=LIVE_MS)
        await expect(desk.atm_row).to_have_class(_word("ce-old"))
        heal(own)
        await expect(desk.atm_row).to_have_attribute("data-ce-state", "LIVE", timeout=2 * LIVE_MS)
        await expect(badge).to_have_attribute("data-feed", "live", timeout=LIVE_MS)


async def test_a_price_that_stays_away_is_dimmed_and_tells_its_age(
    browser: Browser, built_page: Path, new_service: Callable[..., Service]
) -> None:
    with new_service(BT_WATCHDOG_S="300") as service:  # which would replace the connection before
        await _watch_a_price_stay_away(browser, service)


async def _watch_a_price_stay_away(browser: Browser, service: Service) -> None:
    async with Desk.at(browser, service.url) as desk:
        await desk.live()
        token = silence_line_of_atm(service, "NIFTY")
        row = desk.page.locator(f'.row[data-strike="{token[-7:-2]}"]')
        await expect(row).to_have_attribute("data-ce-state", "STALE", timeout=2 * LIVE_MS)
        await expect(row).to_have_class(_word("ce-old"))
        await expect(row.locator("[data-note]")).to_have_attribute("data-note", re.compile(r"^[3-9]\d s$"))
        for made_of_it in ("summary-straddle", "summary-atm-iv"):
            await expect(desk.at_test_id(made_of_it).locator("xpath=..")).to_contain_text("old")
        heal(service)
        await expect(row).to_have_attribute("data-ce-state", "LIVE", timeout=LIVE_MS)


async def test_spot_that_runs_away_never_moves_the_table_under_the_pointer(browser: Browser, own: Service) -> None:
    async with Desk.at(browser, own.url) as desk:
        await desk.live()
        grid = desk.at_test_id("chain-grid")
        await grid.hover()
        top = await grid.evaluate("grid => grid.scrollTop")
        await desk.page.mouse.wheel(0, 48)
        await grid.evaluate(SCROLLED, top)
        before = await grid.evaluate(STRIKE_IN_THE_MIDDLE)
        inject(own, {"kind": "jump", "symbol": "NIFTY", "value": 0.01})
        await expect(desk.at_test_id("moved-chip")).to_be_visible(timeout=LIVE_MS)
        assert await grid.evaluate(STRIKE_IN_THE_MIDDLE) == before  # also where the window has moved by then
        await desk.press("a")
        await expect(desk.at_test_id("moved-chip")).to_have_count(0)
        await expect(desk.atm_row).to_be_in_viewport()


async def test_eviction_and_return_are_seen_by_their_owner(browser: Browser, own: Service) -> None:
    async with Desk.at(browser, own.url) as desk:
        await desk.live()
        await desk.search("reliance")
        await desk.press("Shift+Enter")
        await expect(desk.entry("RELIANCE")).to_be_visible()
        await desk.go("#/chain/NIFTY")
        await desk.live()
        await desk.page.evaluate(KEEP_NOTES)
        fill_to_eviction(own)
        await desk.note("was evicted to make room")
        last_stock = {"user_id": 2, "symbol": "ZYDUSLIFE", "instrument_type": "STOCK_OPTION"}
        other, *_ = own.post("/api/v2/watchlist/add", last_stock).raise_for_status().json()["evicted"]
        entry = desk.entry("RELIANCE")
        await expect(entry).to_have_attribute("data-state", "EVICTED")
        await expect(entry.get_by_test_id("watch-state")).to_contain_text(" to make room for ")
        await entry.locator(".entry").click()
        await expect(desk.page.locator(".body > .row").first).to_have_attribute(
            "data-ce-state", re.compile("EVICTED|NOT_SUBSCRIBED"), timeout=LIVE_MS
        )
        own.post("/api/v2/admin/clear-watchlists", {"user_id": 2}).raise_for_status()
        await desk.note(" is back")
        await expect(entry).to_have_attribute("data-state", "ACTIVE")
        await expect(entry.get_by_test_id("watch-state")).to_contain_text("BACK since ")
        await desk.live()
        told = await desk.page.evaluate("notes.join()")
        assert "RELIANCE" in told
        assert f"{other['symbol']} {other['expiry']} was evicted" not in told, "another user's is no news here"


async def test_a_page_left_open_overnight_goes_on_with_the_next_expiry(
    browser: Browser, built_page: Path, new_service: Callable[..., Service]
) -> None:
    service = new_service()
    with service:
        async with Desk.at(browser, service.url, "#/chain/NIFTY") as desk:
            await desk.live()
            tabs = desk.at_test_id("expiry-tab")
            await expect(tabs.first).to_have_attribute("data-expiry", "03FEB2026")
            desk.tolerates_outage = True
            service.stop()
            service.settings["BT_SIM_DATE"] = "2026-02-04"
            service.start()
            await expect(tabs.first).to_have_attribute("data-expiry", "10FEB2026", timeout=LIVE_MS)
            await expect(desk.chain).to_have_attribute("data-expiry", "10FEB2026")
            await desk.live()


async def test_closed_market_is_not_called_stale(
    browser: Browser, built_page: Path, new_service: Callable[..., Service]
) -> None:
    with new_service(BT_SIM_HOURS="market", BT_SIM_DATE="2026-02-08") as service:
        async with Desk.at(browser, service.url) as desk:
            await expect(desk.at_test_id("market-NSE")).to_contain_text("CLOSED", timeout=LIVE_MS)
            await expect(desk.at_test_id("feed-badge")).to_have_text("CONNECTED", timeout=LIVE_MS)
            await expect(desk.atm_row).to_have_attribute("data-ce-state", "CLOSED", timeout=LIVE_MS)
            await expect(desk.at_test_id("coverage")).to_have_text("0 of 202 live, 202 closed")


@pytest.mark.slow
async def test_end_of_day_is_announced_and_clears_the_list(
    browser: Browser, built_page: Path, new_service: Callable[..., Service]
) -> None:
    now = datetime.now(ZoneInfo("Asia/Kolkata"))
    if now.hour == 23 and now.minute > 55:
        pytest.skip("too near midnight for an end of day today")
    soon = now + timedelta(minutes=2)
    with new_service(BT_EOD_TIME=f"{soon:%H:%M}") as service:
        async with Desk.at(browser, service.url) as desk:
            await desk.live()
            await expect(desk.at_test_id("eod-warning")).to_be_visible()
            await desk.search("reliance")
            await desk.press("Shift+Enter")
            await expect(desk.entry("RELIANCE")).to_be_visible()
            await expect(desk.entry("RELIANCE")).to_have_count(0, timeout=SOON_MS)
            assert service.status()["tier_a_count"] == 0


def _word(name: str) -> re.Pattern[str]:
    return re.compile(rf"(^|\s){re.escape(name)}(\s|$)")
