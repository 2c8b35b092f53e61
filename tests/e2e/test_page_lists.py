"""Named lists: made, ordered by drag and by key, moved between, kept by the service."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Locator, expect

from tests.e2e.crowd import kept
from tests.e2e.desk import PHONE, Desk
from tests.service import Service

LISTS = ("swing", "expiry day")
CASH = ("INFY", "WIPRO", "SBIN")


@pytest.fixture
async def sorted_desk(desk: Desk, service: Service) -> AsyncIterator[Desk]:
    """Two lists beside the default one, three cash lines in the first; gone again afterwards."""
    for name in LISTS:
        service.post("/api/v2/watchlists/create", {"user_id": 1, "name": name}).raise_for_status()
    for symbol in CASH:
        entry = {"user_id": 1, "symbol": symbol, "instrument_type": "EQUITY", "list": LISTS[0]}
        service.post("/api/v2/watchlist/add", entry).raise_for_status()
    yield desk
    for one in service.get("/api/v2/watchlists/1")["lists"]:
        if not one["is_default"]:
            service.post("/api/v2/watchlists/delete", {"user_id": 1, "list": one["name"]})


def tab(desk: Desk, name: str) -> Locator:
    return desk.page.locator(f'[data-testid="list-tab"][data-list="{name}"]')


async def shown(desk: Desk, *symbols: str) -> None:
    """Wait until the entries on screen are those, in that order."""
    await expect(desk.at_test_id("watch-entry")).to_have_count(len(symbols))
    for at, symbol in enumerate(symbols):
        await expect(desk.at_test_id("watch-entry").nth(at)).to_have_attribute("data-symbol", symbol)


async def test_a_list_is_made_renamed_filled_and_deleted(desk: Desk, service: Service) -> None:
    await desk.live()
    await desk.at_test_id("list-new").click()
    await expect(desk.at_test_id("list-name")).to_be_focused()
    await desk.page.keyboard.type("intraday")
    await desk.press("Enter")
    await expect(tab(desk, "intraday")).to_have_attribute("aria-selected", "true")
    await desk.search("infosys")
    await desk.press("Shift+Enter")
    await expect(desk.entry("INFY")).to_be_visible()
    (entry,) = service.get("/api/v2/watchlist/1", list="intraday")["watchlist"]
    assert entry["symbol"] == "INFY"
    await tab(desk, "intraday").focus()
    await desk.press("F2")
    await desk.at_test_id("list-name").fill("positional")
    await desk.at_test_id("list-save").click()
    await expect(tab(desk, "positional")).to_have_attribute("aria-selected", "true")
    await tab(desk, "positional").focus()
    await desk.press("Delete")
    await expect(desk.at_test_id("list-delete-dialog")).to_contain_text("1 entries")
    await desk.at_test_id("list-delete-yes").click()
    await expect(tab(desk, "positional")).to_have_count(0)
    assert [one["name"] for one in service.get("/api/v2/watchlists/1")["lists"]] == ["default"]


async def test_a_long_name_leaves_prices_and_chain_their_place(sorted_desk: Desk, service: Service) -> None:
    desk = sorted_desk
    service.post("/api/v2/watchlists/create", {"user_id": 1, "name": "W" * 40}).raise_for_status()
    await tab(desk, LISTS[0]).click()
    await expect(tab(desk, "W" * 40)).to_be_visible()
    place = await desk.chain.bounding_box()
    assert place is not None
    assert place["x"] < 300
    await desk.page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    await desk.go("#/watch")
    await expect(desk.entry("SBIN").locator(".pct")).to_be_in_viewport(ratio=1)
    await tab(desk, "W" * 40).click()
    await desk.at_test_id("list-delete").click()
    title = desk.at_test_id("list-delete-dialog").get_by_role("heading")
    assert not await title.evaluate("title => title.scrollWidth > title.clientWidth")


async def test_entries_are_ordered_by_drag_and_by_key_and_stay_so(sorted_desk: Desk, service: Service) -> None:
    desk = sorted_desk
    await tab(desk, LISTS[0]).click()
    await shown(desk, *CASH)
    await desk.entry("SBIN").drag_to(desk.entry("INFY"))
    await shown(desk, "SBIN", "INFY", "WIPRO")
    await desk.entry("WIPRO").locator(".entry").focus()
    await desk.press("Alt+ArrowUp")
    await shown(desk, "SBIN", "WIPRO", "INFY")
    await expect(desk.entry("WIPRO").locator(".entry")).to_be_focused()
    kept(service, f"/api/v2/watchlist/1?list={LISTS[0]}", "watchlist", "symbol", "SBIN", "WIPRO", "INFY")
    await desk.page.reload()
    await expect(tab(desk, LISTS[0])).to_have_attribute("aria-selected", "true")
    await shown(desk, "SBIN", "WIPRO", "INFY")


async def test_entries_move_to_another_list_by_drag_and_by_key(sorted_desk: Desk) -> None:
    desk = sorted_desk
    await tab(desk, LISTS[0]).click()
    await shown(desk, *CASH)
    await desk.entry("INFY").drag_to(tab(desk, LISTS[1]))
    await shown(desk, "WIPRO", "SBIN")
    await desk.entry("WIPRO").locator(".entry").focus()
    await desk.press("m")
    await desk.at_test_id("move-copy").check()
    await desk.at_test_id("move-to").filter(has_text=LISTS[1]).click()
    await expect(desk.at_test_id("move-dialog")).to_have_count(0)
    await shown(desk, "WIPRO", "SBIN")
    await desk.press(".")
    await expect(tab(desk, LISTS[1])).to_have_attribute("aria-selected", "true")
    await shown(desk, "INFY", "WIPRO")


async def test_lists_are_ordered_by_drag_and_by_key(sorted_desk: Desk, service: Service) -> None:
    desk = sorted_desk
    swing, expiry_day = LISTS
    tabs = desk.at_test_id("list-tab")
    await expect(tabs).to_have_count(3)
    await tab(desk, expiry_day).drag_to(tab(desk, "default"))
    await expect(tabs.first).to_have_attribute("data-list", expiry_day)
    await tab(desk, expiry_day).click()
    await desk.press("Alt+ArrowRight")
    await expect(tabs.nth(1)).to_have_attribute("data-list", expiry_day)
    await expect(tab(desk, expiry_day)).to_be_focused()
    kept(service, "/api/v2/watchlists/1", "lists", "name", "default", expiry_day, swing)
