"""Signing in, two people at two screens, and what is not theirs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from tests.e2e.crowd import LONG_NAME, PASSWORD, add_people
from tests.e2e.desk import LIVE_MS, PHONE, Desk
from tests.service import Service, link_masters


@pytest.fixture(scope="module")
def guarded(built_page: Path, tmp_path_factory: pytest.TempPathFactory, masters: Path) -> Iterator[Service]:
    """A service that asks everybody for a sign-in, with an admin and some users."""
    service = Service(tmp_path_factory.mktemp("guarded"), {"BT_AUTH": "required"})
    link_masters(service, masters)
    with service:
        add_people(service)
        yield service


async def test_sign_in_is_asked_for_and_the_screen_stays_behind_it(browser: Browser, guarded: Service) -> None:
    async with Desk.at(browser, guarded.url, "#/chain/BANKNIFTY") as desk:
        await expect(desk.at_test_id("sign-in")).to_be_visible()
        await expect(desk.at_test_id("sign-in-name")).to_be_focused()
        await desk.at_test_id("sign-in-name").fill("asha")
        await desk.at_test_id("sign-in-password").fill("wrong")
        await desk.at_test_id("sign-in-go").click()
        await expect(desk.at_test_id("sign-in").get_by_role("alert")).to_be_visible()
        await desk.sign_in("asha", PASSWORD)
        await desk.live()
        await expect(desk.chain).to_have_attribute("data-symbol", "BANKNIFTY")
        await desk.at_test_id("sign-out").click()
        await expect(desk.at_test_id("sign-in")).to_be_visible()


async def test_a_long_name_of_a_user_leaves_the_page_its_width(browser: Browser, guarded: Service) -> None:
    async with Desk.at(browser, guarded.url, screen=PHONE) as phone:
        await expect(phone.at_test_id("sign-in")).to_be_visible()
        await phone.sign_in(LONG_NAME, PASSWORD)
        await phone.live()
        assert await phone.overhang() <= 0
        for name in ("search", "sign-out"):
            await expect(phone.at_test_id(name)).to_be_in_viewport(ratio=1)


async def test_an_expired_session_is_told_and_the_screen_is_kept(browser: Browser, guarded: Service) -> None:
    spoil = """() => { const held = JSON.parse(sessionStorage.getItem('bt.session.v1'));
        held.token = 'expired'; sessionStorage.setItem('bt.session.v1', JSON.stringify(held)) }"""
    async with Desk.at(browser, guarded.url, "#/chain/SENSEX") as desk:
        await expect(desk.at_test_id("sign-in")).to_be_visible()
        await desk.sign_in("asha", PASSWORD)
        await desk.live()
        await desk.page.evaluate(spoil)
        await desk.page.reload()
        await expect(desk.at_test_id("sign-in")).to_contain_text("Your session has ended")
        await desk.sign_in("asha", PASSWORD)
        await desk.live()
        await expect(desk.chain).to_have_attribute("data-symbol", "SENSEX")


async def test_a_sign_in_ended_elsewhere_is_told_while_the_screen_stays(browser: Browser, guarded: Service) -> None:
    async with Desk.at(browser, guarded.url, "#/chain/FINNIFTY") as desk:
        await expect(desk.at_test_id("sign-in")).to_be_visible()
        await desk.sign_in("vikram", PASSWORD)
        await desk.live()
        await desk.press("2")
        await desk.page.evaluate(
            """() => fetch('/api/v2/auth/sign-out', {method: 'POST', headers: {Authorization:
                `Bearer ${JSON.parse(sessionStorage.getItem('bt.session.v1')).token}`}})"""
        )
        await desk.press("/")
        await desk.page.keyboard.type("rel")  # a request that is refused, long before the stream's own look
        await expect(desk.at_test_id("sign-in")).to_contain_text("Your session has ended", timeout=LIVE_MS)
        assert await desk.at_test_id("feed-badge").get_attribute("data-feed") == "signed-out"
        assert await desk.chain.get_attribute("data-fresh") == "false"
        await desk.press("Escape")
        await expect(desk.at_test_id("sign-in")).to_have_count(0)
        await expect(desk.at_test_id("feed-badge")).to_have_text("SIGNED OUT")
        await desk.at_test_id("sign-in-open").click()
        await expect(desk.atm_row.locator(".c-ltp.ce")).not_to_have_text("–")
        await desk.sign_in("vikram", PASSWORD)
        await desk.live()
        await expect(desk.chain).to_have_attribute("data-symbol", "FINNIFTY")
        await expect(desk.at_test_id("chain-head")).to_contain_text("Build-up")


async def test_two_users_in_two_browsers_have_lists_of_their_own(browser: Browser, guarded: Service) -> None:
    async with Desk.at(browser, guarded.url) as asha, Desk.at(browser, guarded.url) as vikram:
        for desk, name in ((asha, "asha"), (vikram, "vikram")):
            await expect(desk.at_test_id("sign-in")).to_be_visible()
            await desk.sign_in(name, PASSWORD)
            await desk.live()
            await desk.search("reliance")
            await desk.press("Shift+Enter")
            await expect(desk.entry("RELIANCE")).to_be_visible()
        await asha.entry("RELIANCE").get_by_test_id("watch-remove").click()
        await expect(asha.entry("RELIANCE")).to_have_count(0)
        await expect(vikram.entry("RELIANCE")).to_be_visible()
        await expect(vikram.atm_row).to_have_attribute("data-ce-state", "LIVE")
        await vikram.entry("RELIANCE").get_by_test_id("watch-remove").click()


async def test_admin_action_is_refused_to_a_user(browser: Browser, guarded: Service) -> None:
    async with Desk.at(browser, guarded.url, "#/health") as desk:
        await expect(desk.at_test_id("sign-in")).to_be_visible()
        await desk.sign_in("asha", PASSWORD)
        await expect(desk.at_test_id("admin-clear")).to_be_disabled()
        await expect(desk.at_test_id("no-admin")).to_contain_text("signed in as asha")
        answer = await desk.page.evaluate(
            """fetch('/api/v2/admin/clear-watchlists', {method: 'POST'}).then((answer) => answer.status)"""
        )
        assert answer == 401, "nothing but the page's own token signs a request"


async def test_lists_leave_the_screen_with_their_user(browser: Browser, guarded: Service) -> None:
    async with Desk.at(browser, guarded.url) as desk:
        await expect(desk.at_test_id("sign-in")).to_be_visible()
        await desk.sign_in("asha", PASSWORD)
        await desk.live()
        await desk.search("reliance")
        await desk.press("Shift+Enter")
        await expect(desk.entry("RELIANCE")).to_be_visible()
        await desk.at_test_id("sign-out").click()
        await expect(desk.at_test_id("sign-in")).to_be_visible()
        await expect(desk.at_test_id("watch-entry")).to_have_count(0)
        await desk.sign_in("asha", PASSWORD)
        await desk.entry("RELIANCE").get_by_test_id("watch-remove").click()
        await expect(desk.entry("RELIANCE")).to_have_count(0)


async def test_a_sign_out_that_the_service_did_not_hear_says_so(browser: Browser, guarded: Service) -> None:
    async with Desk.at(browser, guarded.url) as desk:
        await expect(desk.at_test_id("sign-in")).to_be_visible()
        await desk.sign_in("asha", PASSWORD)
        await desk.live()
        desk.tolerates_outage = True
        await desk.page.route("**/api/v2/auth/sign-out", lambda route: route.abort())
        await desk.at_test_id("sign-out").click()
        await desk.note("Signed out on this page only")
        await expect(desk.at_test_id("sign-in")).to_be_visible()


async def test_the_board_of_one_user_is_not_shown_to_the_next(browser: Browser, guarded: Service) -> None:
    async with Desk.at(browser, guarded.url, "#/health") as desk:
        await expect(desk.at_test_id("sign-in")).to_be_visible()
        await desk.sign_in("asha", PASSWORD)
        await expect(desk.at_test_id("subs-count")).to_contain_text(" of ")
        await desk.at_test_id("subs-search").fill("gold")
        desk.tolerates_outage = True
        await desk.page.route("**/api/v2/subscriptions/*", lambda route: route.abort())  # the next one's are late
        await desk.at_test_id("sign-out").click()
        await expect(desk.at_test_id("sign-in")).to_be_visible()
        await expect(desk.at_test_id("subs-count")).not_to_contain_text(" of ")
        await desk.sign_in("vikram", PASSWORD)
        await expect(desk.at_test_id("subs-search")).to_have_value("")
        await expect(desk.at_test_id("audit-log").locator("tbody tr")).to_have_text("Asking the service…")
