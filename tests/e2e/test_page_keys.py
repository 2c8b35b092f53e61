"""Every key that the page's own help names does what it says there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from playwright.async_api import expect

from tests.e2e.desk import Desk
from tests.service import Service

Try = Callable[[Desk], Awaitable[None]]


async def _search(desk: Desk) -> None:
    for key in ("/", "Control+k"):
        await desk.press(key)
        await expect(desk.at_test_id("search")).to_be_focused()
        await desk.press("Escape")
        await expect(desk.at_test_id("search")).not_to_be_focused()


async def _centre(desk: Desk) -> None:
    await desk.at_test_id("chain-grid").hover()
    await desk.page.mouse.wheel(0, -4_000)
    await expect(desk.atm_row).not_to_be_in_viewport()
    await desk.press("a")
    await expect(desk.atm_row).to_be_in_viewport()


async def _columns(desk: Desk) -> None:
    for key, column in (("3", "Gamma"), ("2", "Build-up"), ("1", "Bid")):
        await desk.press(key)
        await expect(desk.at_test_id("chain-head")).to_contain_text(column)


async def _expiry(desk: Desk) -> None:
    tabs = desk.at_test_id("expiry-tab")
    for key, at in (("]", 1), ("[", 0)):
        await desk.press(key)
        await expect(tabs.nth(at)).to_have_attribute("aria-selected", "true")
    await desk.live()


async def _health_and_back(desk: Desk) -> None:
    await desk.press("h")
    await expect(desk.at_test_id("health")).to_be_visible()
    await desk.press("g")
    await desk.live()


async def _charts(desk: Desk) -> None:
    await desk.press("c")
    await expect(desk.at_test_id("chart-panel")).to_be_visible()
    await desk.press("c")
    await expect(desk.at_test_id("chart-panel")).to_have_count(0)


async def _pane(desk: Desk) -> None:
    await desk.press("w")
    await expect(desk.at_test_id("watchlist")).to_have_count(0)
    await desk.press("w")
    await expect(desk.at_test_id("watchlist")).to_be_visible()


async def _next_list(desk: Desk) -> None:
    for key, name in ((".", "keys"), (",", "default")):
        await desk.press(key)
        await expect(desk.at_test_id("entries")).to_have_attribute("data-list", name)


async def _along_entries(desk: Desk) -> None:
    await desk.press(".")
    entries = desk.at_test_id("watch-entry")
    await expect(entries).to_have_count(2)
    await entries.first.locator(".entry").focus()
    await desk.press("ArrowDown")
    await expect(entries.nth(1).locator(".entry")).to_be_focused()
    await desk.press("Alt+ArrowUp")
    await expect(entries.first).to_have_attribute("data-symbol", "WIPRO")


async def _move_and_remove(desk: Desk) -> None:
    entry = desk.entry("INFY").locator(".entry")
    await entry.focus()
    await desk.press("m")
    await expect(desk.at_test_id("move-dialog")).to_be_visible()
    await desk.press("Escape")
    await expect(entry).to_be_focused()
    await desk.press("Delete")
    await expect(desk.entry("INFY")).to_have_count(0)


async def _on_a_tab(desk: Desk) -> None:
    tab = desk.page.locator('[data-testid="list-tab"][data-list="keys"]')
    await tab.focus()
    await desk.press("Alt+ArrowLeft")
    await expect(desk.at_test_id("list-tab").first).to_have_attribute("data-list", "keys")
    for key, dialog in (("F2", "list-dialog"), ("Delete", "list-delete-dialog")):
        await expect(tab).to_be_focused()
        await desk.press(key)
        await expect(desk.at_test_id(dialog)).to_be_visible()
        await desk.press("Escape")
        await expect(desk.at_test_id(dialog)).to_have_count(0)


async def _theme(desk: Desk) -> None:
    for theme in ("light", "dark"):
        await desk.press("l")
        await expect(desk.page.locator("html")).to_have_attribute("data-theme", theme)


async def _in_the_table(desk: Desk) -> None:
    grid = desk.at_test_id("chain-grid")
    await grid.focus()
    await desk.press("End", "PageDown", "ArrowUp")
    await expect(desk.page.locator(".cursor")).to_contain_class("cell pe c-oi cursor")
    await desk.press("Home", "PageUp", "ArrowDown")
    await expect(desk.page.locator(".cursor")).to_contain_class("cell ce c-oi cursor")
    await desk.press("a")


async def _details(desk: Desk) -> None:
    await desk.at_test_id("chain-grid").focus()
    await desk.press("End", "Enter")
    await expect(desk.at_test_id("detail")).to_be_visible()


async def _close(desk: Desk) -> None:
    await desk.press("Escape")
    await expect(desk.at_test_id("detail")).to_have_count(0)
    await expect(desk.at_test_id("chain-grid")).to_be_focused()


async def _copy(desk: Desk) -> None:
    await desk.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await desk.at_test_id("chain-grid").focus()
    for key, cells in (("Control+c", 1), ("Control+Shift+C", 17)):
        await desk.page.evaluate("navigator.clipboard.writeText('')")
        await desk.press(key)
        await desk.page.wait_for_function("navigator.clipboard.readText()")
        assert len((await desk.page.evaluate("navigator.clipboard.readText()")).split("\t")) == cells


async def _help(desk: Desk) -> None:
    await desk.press("?")
    await expect(desk.at_test_id("help")).to_be_visible()
    await desk.press("Escape")
    await expect(desk.at_test_id("help")).to_have_count(0)


KEYS: dict[str, Try] = {
    "/ or Ctrl K": _search,
    "A": _centre,
    "1 2 3": _columns,
    "[ ]": _expiry,
    "H": _health_and_back,
    "G": _health_and_back,
    "C": _charts,
    "W": _pane,
    ", .": _next_list,
    "↑ ↓, with Alt": _along_entries,
    "M, Delete": _move_and_remove,
    "F2, Delete, Alt ← →": _on_a_tab,
    "L": _theme,
    "Arrows, Page, Home, End": _in_the_table,
    "Enter": _details,
    "Esc": _close,
    "Ctrl C, Ctrl Shift C": _copy,
    "?": _help,
}


async def test_every_key_of_the_help_does_what_it_says(desk: Desk, service: Service) -> None:
    service.post("/api/v2/watchlists/create", {"user_id": 1, "name": "keys"}).raise_for_status()
    for symbol in ("INFY", "WIPRO"):
        entry = {"user_id": 1, "symbol": symbol, "instrument_type": "EQUITY", "list": "keys"}
        service.post("/api/v2/watchlist/add", entry).raise_for_status()
    try:
        await desk.live()
        await expect(desk.at_test_id("list-tab")).to_have_count(2)
        for try_key in dict.fromkeys(KEYS.values()):
            await try_key(desk)
        await desk.press("?")
        keys = desk.at_test_id("help").locator("dl").first.locator("dt")
        await expect(keys).to_have_count(len(KEYS))
        named = await keys.all_text_contents()
        assert set(named) == set(KEYS), "the help and this test name the same keys"
    finally:
        service.post("/api/v2/watchlists/delete", {"user_id": 1, "list": "keys"})


CLOSE_AND_OPEN = """() => {
  document.querySelector('[data-testid="help"] button.close').click();
  return new Promise((done) => queueMicrotask(() => {
    document.body.dispatchEvent(new KeyboardEvent('keydown', { key: '?', bubbles: true }));
    setTimeout(done, 200);
  }));
}"""


async def test_a_dialog_opened_right_after_another_was_closed_stays(desk: Desk) -> None:
    """The close event of the first comes when the second is open already."""
    await desk.press("?")
    await expect(desk.at_test_id("help")).to_be_visible()
    await desk.page.evaluate(CLOSE_AND_OPEN)
    assert await desk.at_test_id("help").is_visible()


TWICE = """key => { for (let i = 0; i < 2; i++)
  document.activeElement.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true })); }"""


async def test_two_keys_at_once_go_two_expiries_on_and_the_table_keeps_the_keyboard(desk: Desk) -> None:
    await desk.live()
    await desk.at_test_id("chain-grid").focus()
    await desk.page.evaluate(TWICE, "]")
    await expect(desk.at_test_id("expiry-tab").nth(2)).to_have_attribute("aria-selected", "true")
    await desk.live()
    await expect(desk.at_test_id("chain-grid")).to_be_focused()


async def test_a_removed_entry_leaves_the_keyboard_to_its_neighbour_and_a_dialog_keeps_its_keys(
    desk: Desk, service: Service
) -> None:
    for symbol in ("INFY", "WIPRO"):
        entry = {"user_id": 1, "symbol": symbol, "instrument_type": "EQUITY"}
        service.post("/api/v2/watchlist/add", entry).raise_for_status()
    await desk.live()
    await desk.entry("INFY").locator(".entry").focus()
    await desk.page.evaluate(TWICE, "Delete")
    await expect(desk.entry("INFY")).to_have_count(0)
    await expect(desk.entry("WIPRO").locator(".entry")).to_be_focused()
    await expect(desk.at_test_id("note")).to_have_count(1)
    await desk.press("m", "h", "l")
    await expect(desk.at_test_id("move-dialog")).to_be_visible()
    await expect(desk.page.locator("html")).to_have_attribute("data-theme", "dark")
    await desk.press("Escape", "Delete")
    await expect(desk.entry("WIPRO")).to_have_count(0)


async def test_enter_opens_no_hit_of_another_text(desk: Desk) -> None:
    await desk.live()
    await desk.search("reliance")
    await desk.page.route("**/instruments/search?*", lambda route: route.abort())
    desk.tolerates_outage = True
    await desk.page.keyboard.type("x")
    await desk.press("Enter")
    await desk.note("does not answer")
    await expect(desk.chain).to_have_attribute("data-symbol", "NIFTY")
