"""The health board: connections, capacity, every subscription, the audit log, admin actions."""

from __future__ import annotations

import csv
import re

from playwright.async_api import expect

from tests.e2e.desk import Desk
from tests.service import Service


async def test_board_tells_what_the_api_tells(desk: Desk, service: Service) -> None:
    await desk.live()
    await desk.press("h")
    await expect(desk.at_test_id("connection")).to_have_count(5)
    counts = service.status()
    await expect(desk.at_test_id("tier-b")).to_have_text(_indian(counts["tier_b_count"]))
    await expect(desk.at_test_id("tier-a")).to_have_text(_indian(counts["tier_a_count"]))
    await expect(desk.at_test_id("states")).to_contain_text("LIVE")


async def test_all_subscriptions_are_searched_in_place(desk: Desk, service: Service) -> None:
    await desk.live()
    await desk.press("h")
    total = service.status()["total_subscriptions"]
    await expect(desk.at_test_id("subs-count")).to_have_text(f"{_indian(total)} of {_indian(total)}")
    rows = desk.at_test_id("subs-table").locator("[aria-rowindex]")
    assert await rows.count() < 60  # windowed: thousands in the table, a screenful in the page
    await desk.at_test_id("subs-search").fill("banknifty_idx")
    await expect(desk.at_test_id("subs-count")).to_have_text(f"1 of {_indian(total)}")
    await expect(rows.first).to_contain_text("BANKNIFTY_IDX")


async def test_csv_holds_what_the_search_leaves(desk: Desk) -> None:
    await desk.live()
    await desk.press("h")
    count = desk.at_test_id("subs-count")
    await expect(count).to_contain_text(" of ")
    await desk.at_test_id("subs-search").fill("gold_")
    await expect(count).to_have_text(re.compile("^[0-9] of "))
    async with desk.page.expect_download() as started:
        await desk.at_test_id("subs-csv").click()
    with (await (await started.value).path()).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == int((await count.text_content() or "0")[0]) > 1
    assert all(row["token"].startswith("GOLD_") and row["tier"] == "TIER_B" for row in rows)


async def test_admin_action_says_what_will_happen_and_waits_for_a_yes(desk: Desk) -> None:
    await desk.live()
    await desk.press("h")
    await desk.at_test_id("admin-rebalance").click()
    await expect(desk.at_test_id("confirm")).to_contain_text("no price is missed")
    await expect(desk.at_test_id("confirm-no")).to_be_focused()
    await desk.at_test_id("confirm-no").click()
    await expect(desk.at_test_id("confirm")).to_have_count(0)
    await desk.at_test_id("admin-rebalance").click()
    await desk.at_test_id("confirm-yes").click()
    await desk.note("instruments moved")


async def test_audit_log_can_be_narrowed(desk: Desk) -> None:
    await desk.live()
    await desk.press("h")
    lines = desk.at_test_id("audit-log").locator("tbody tr")
    await expect(lines.first).to_be_visible()
    await desk.at_test_id("log-action").select_option("SUBSCRIBE")
    await expect(lines.first).to_contain_text("SUBSCRIBE")


def _indian(number: int) -> str:
    text, rest = str(number)[-3:], str(number)[:-3]
    while rest:
        text, rest = f"{rest[-2:]},{text}", rest[:-2]
    return text


async def test_older_rows_of_the_log_come_once_however_fast_it_is_pressed(desk: Desk) -> None:
    await desk.live()
    await desk.press("h")
    rows = desk.at_test_id("audit-log").locator("tbody tr")
    await expect(rows).to_have_count(50)
    await desk.page.get_by_role("button", name="Older").dblclick()
    await expect(rows).to_have_count(100)
