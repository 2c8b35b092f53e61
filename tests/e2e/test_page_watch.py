"""Search, add, remove; what the lists say of their entries."""

from __future__ import annotations

from playwright.async_api import expect

from tests.e2e.crowd import kept
from tests.e2e.desk import Desk
from tests.service import Service


async def test_search_add_live_remove(desk: Desk, service: Service) -> None:
    await desk.live()
    before = service.status()["tier_a_count"]
    hits = await desk.search("reliance")
    await expect(hits.first).to_contain_text("RELIANCE")
    await desk.press("Shift+Enter")
    await expect(desk.entry("RELIANCE")).to_be_visible()
    await desk.note("50 legs")
    await expect(desk.chain).to_have_attribute("data-symbol", "RELIANCE")
    await desk.live()
    await expect(desk.atm_row).to_have_attribute("data-ce-state", "LIVE")
    assert service.status()["tier_a_count"] == before + 50
    await desk.entry("RELIANCE").get_by_test_id("watch-remove").click()
    await expect(desk.entry("RELIANCE")).to_have_count(0)
    assert service.status()["tier_a_count"] == before


async def test_a_chain_nobody_subscribes_says_so_and_can_be_added(desk: Desk) -> None:
    await desk.live()
    await desk.go("#/chain/TCS")
    add = desk.at_test_id("add-chain")
    await expect(add).to_be_visible()
    await expect(desk.page.locator(".body > .row").first).to_have_attribute("data-ce-state", "NOT_SUBSCRIBED")
    await desk.atm_row.locator(".c-ltp.ce").click()
    await expect(desk.at_test_id("why")).to_contain_text("nobody has it on a list")
    await add.click()
    await expect(desk.at_test_id("detail")).to_have_attribute("data-state", "LIVE")
    await expect(desk.at_test_id("why")).to_contain_text("sent on socket")
    await desk.press("Escape")
    await expect(desk.entry("TCS")).to_be_visible()
    await expect(desk.atm_row).to_have_attribute("data-ce-state", "LIVE")
    await desk.entry("TCS").get_by_test_id("watch-remove").click()
    await expect(desk.entry("TCS")).to_have_count(0)


async def test_free_text_finds_one_contract_and_opens_it(desk: Desk, service: Service) -> None:
    await desk.live()
    strike = await desk.atm_row.get_attribute("data-strike")
    hits = await desk.search(f"nifty {strike} ce")
    await expect(hits.first).to_contain_text(f"{strike} CE")
    await desk.press("Enter")
    token = await desk.at_test_id("detail").get_attribute("data-token")
    assert token is not None
    assert service.get(f"/api/v2/subscriptions/{token}")["token"] == token


async def test_a_typo_still_finds_and_the_arrows_choose(desk: Desk) -> None:
    await desk.live()
    hits = await desk.search("relianse")
    await expect(hits.filter(has_text="RELIANCE").first).to_be_visible()
    await desk.press("Escape")
    hits = await desk.search("bank")
    await desk.press("ArrowDown")
    await expect(hits.nth(1)).to_have_attribute("aria-selected", "true")


async def test_leaving_the_search_and_coming_back_at_once_keeps_the_list_open(desk: Desk) -> None:
    await desk.live()
    await desk.search("relianse")
    await desk.press("Escape", "/")
    await desk.page.keyboard.type("bank")
    await expect(desk.at_test_id("search-hit").first).to_be_visible()
    await desk.page.wait_for_timeout(400)  # longer than a leave takes to close the list
    await expect(desk.at_test_id("search-hit").first).to_be_visible()


async def test_a_future_and_a_cash_line_can_be_watched(desk: Desk) -> None:
    await desk.live()
    await desk.search("gold fut")
    await desk.press("Shift+Enter")
    await expect(desk.entry("GOLD")).to_be_visible()
    await desk.entry("GOLD").locator(".entry").click()
    await expect(desk.at_test_id("detail")).to_have_attribute("data-state", "LIVE")
    await desk.at_test_id("detail-close").click()
    await desk.entry("GOLD").get_by_test_id("watch-remove").click()
    await expect(desk.entry("GOLD")).to_have_count(0)


async def test_adding_twice_is_told_and_changes_nothing(desk: Desk) -> None:
    await desk.live()
    await desk.go("#/chain/INFY")
    await desk.at_test_id("watch-chain").click()
    await expect(desk.entry("INFY")).to_have_count(1)
    await desk.at_test_id("watch-chain").click()
    await desk.note("already")
    await expect(desk.entry("INFY")).to_have_count(1)
    await desk.entry("INFY").get_by_test_id("watch-remove").click()
    await expect(desk.entry("INFY")).to_have_count(0)


async def test_entries_move_by_keyboard_and_stay_where_they_were_put(desk: Desk, service: Service) -> None:
    await desk.live()
    for symbol in ("HDFCBANK", "SBIN"):
        await desk.go(f"#/chain/{symbol}")
        await expect(desk.chain).to_have_attribute("data-symbol", symbol)
        await desk.at_test_id("watch-chain").click()
        await expect(desk.entry(symbol)).to_be_visible()
    entries = desk.at_test_id("watch-entry")
    await desk.entry("SBIN").locator(".entry").focus()
    await desk.press("Alt+ArrowUp")
    await expect(entries.first).to_have_attribute("data-symbol", "SBIN")
    await expect(desk.entry("SBIN").locator(".entry")).to_be_focused()
    kept(service, "/api/v2/watchlist/1", "watchlist", "symbol", "SBIN", "HDFCBANK")
    await desk.page.reload()
    await expect(entries.first).to_have_attribute("data-symbol", "SBIN")
    for symbol in ("HDFCBANK", "SBIN"):
        await desk.entry(symbol).get_by_test_id("watch-remove").click()
        await expect(desk.entry(symbol)).to_have_count(0)


async def test_an_unknown_symbol_in_the_address_is_told_in_words(desk: Desk) -> None:
    await desk.go("#/chain/NOSUCHNAME")
    await expect(desk.at_test_id("chain-problem")).to_be_visible()


async def test_a_line_that_is_listed_no_more_takes_no_other_price_with_it(desk: Desk) -> None:
    well_known = ("TCS", "INFY", "HDFCBANK", "ICICIBANK", "SBIN", "ITC", "AXISBANK", "LT", "MARUTI", "WIPRO", "TITAN")
    entries = [
        {"id": 900 + place, "list": "default", "symbol": symbol, "expiry_date": None, "instrument_type": "EQUITY",
         "added_at": "", "added_order": place, "state": "ACTIVE"}
        for place, symbol in enumerate((*well_known, "ONGC", "GONE", "RELIANCE"))
    ]  # fmt: skip
    await desk.page.route("**/api/v2/watchlist/1", lambda route: route.fulfill(json={"watchlist": entries}))
    await desk.page.reload()
    await desk.live()
    await expect(desk.entry("RELIANCE").locator(".num").first).not_to_have_text("–")
    await expect(desk.at_test_id("index-NIFTY").locator(".num").first).not_to_have_text("–")
    await expect(desk.entry("GONE").locator(".num").first).to_have_text("–")
