"""The chain: live at open, its columns, its keys, its details."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

from playwright.async_api import WebSocketRoute, expect

from tests.e2e.desk import Desk
from tests.service import Service

DASH = "–"


async def test_nifty_is_live_at_open_and_says_that_it_is_simulated(desk: Desk) -> None:
    await desk.live()
    await expect(desk.chain).to_have_attribute("data-symbol", "NIFTY")
    await expect(desk.at_test_id("simulated")).to_be_visible()
    await expect(desk.at_test_id("coverage")).to_contain_text("of 202 live")
    seq = await desk.chain.get_attribute("data-seq")
    ltp = desk.atm_row.locator(".c-ltp.ce")
    await expect(ltp).not_to_have_text(DASH)
    before = await ltp.text_content()
    await expect(ltp).not_to_have_text(before or "", timeout=10_000)
    await expect(desk.chain).not_to_have_attribute("data-seq", seq or "")
    assert DASH not in (before or DASH)


async def test_summary_names_the_source_of_the_spot(desk: Desk) -> None:
    await desk.live()
    for name in ("spot", "straddle", "pcr", "max-pain", "atm-iv", "lot", "ce-oi", "pe-oi"):
        await expect(desk.at_test_id(f"summary-{name}")).not_to_have_text(DASH)
    await expect(desk.at_test_id("summary")).to_contain_text("live")


async def test_atm_is_centred_and_the_head_stays_in_view(desk: Desk) -> None:
    await desk.live()
    grid = await desk.at_test_id("chain-grid").bounding_box()
    row = await desk.atm_row.bounding_box()
    assert grid is not None
    assert row is not None
    middle = grid["y"] + grid["height"] / 2
    assert abs(row["y"] - middle) < grid["height"] / 4
    await desk.at_test_id("chain-grid").hover()
    await desk.page.mouse.wheel(0, -4000)
    await expect(desk.atm_row).not_to_be_in_viewport()
    await expect(desk.at_test_id("chain-head")).to_be_in_viewport(ratio=1)
    await desk.press("a")
    await expect(desk.atm_row).to_be_in_viewport()


async def test_column_sets_strikes_shown_and_lots(desk: Desk) -> None:
    await desk.live()
    head = desk.at_test_id("chain-head")
    await desk.press("3")
    await expect(head).to_contain_text("Gamma")
    await desk.press("2")
    await expect(head).to_contain_text("Build-up")
    await desk.press("1")
    await expect(head).to_contain_text("Bid")
    await desk.at_test_id("reach-10").click()
    await expect(desk.page.locator(".body > .row:visible")).to_have_count(21)
    oi = desk.atm_row.locator(".c-oi.ce")
    whole = await oi.text_content()
    await desk.at_test_id("lots").click()
    await expect(oi).not_to_have_text(whole or "")


async def test_expiry_tabs_show_days_left_and_turn_by_key(desk: Desk) -> None:
    await desk.live()
    tabs = desk.at_test_id("expiry-tab")
    await expect(tabs.first).to_have_attribute("aria-selected", "true")
    await expect(tabs.nth(1)).to_contain_text("d ·")
    await desk.press("]")
    await expect(tabs.nth(1)).to_have_attribute("aria-selected", "true")
    await desk.live()
    await tabs.nth(1).focus()
    await desk.press("ArrowLeft")
    await expect(tabs.first).to_have_attribute("aria-selected", "true")
    await expect(tabs.first).to_be_focused()


async def test_details_by_keyboard_with_depth_and_the_reason_in_words(desk: Desk) -> None:
    await desk.live()
    await desk.at_test_id("chain-grid").focus()
    await desk.press("ArrowRight", "ArrowDown", "Enter")
    detail = desk.at_test_id("detail")
    await expect(detail).to_be_visible()
    assert (await detail.get_attribute("data-token") or "").endswith("PE")
    await expect(desk.at_test_id("depth").locator("tbody tr")).to_have_count(10)
    await expect(desk.at_test_id("depth").locator("tbody td").nth(2)).not_to_have_text(DASH)
    await expect(desk.at_test_id("why")).to_contain_text("socket", timeout=10_000)
    await desk.press("Escape")
    await expect(detail).to_have_count(0)
    await expect(desk.at_test_id("chain-grid")).to_be_focused()


async def test_csv_holds_every_strike_with_its_state(desk: Desk) -> None:
    await desk.live()
    async with desk.page.expect_download() as started:
        await desk.at_test_id("csv").click()
    path = await (await started.value).path()
    rows = _read_csv(path)
    assert len(rows) == 101
    assert {row["live_stream"] for row in rows} == {"yes"}
    middle = rows[50]
    assert float(middle["ce_ltp"]) > 0
    assert middle["ce_state"] in {"LIVE", "QUIET"}
    assert middle["pe_token"].endswith("PE")


async def test_a_cell_and_a_row_are_copied(desk: Desk) -> None:
    await desk.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await desk.live()
    await desk.at_test_id("chain-grid").focus()
    await desk.press("Control+c")
    strike = await desk.atm_row.get_attribute("data-strike")
    await desk.note(f"Copied {strike}")
    await desk.press("Control+Shift+C")
    await desk.note("Copied row")
    copied = await desk.page.evaluate("navigator.clipboard.readText()")
    assert copied.split("\t")[8] == strike
    assert len(copied.split("\t")) == 17


# How many pixels of a plot have exactly the colour of each of these custom properties.
COLOURED = """(node, names) => {
    const canvas = node.querySelector('canvas');
    const {data} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    const style = getComputedStyle(document.documentElement);
    return names.map(name => {
        const probe = new OffscreenCanvas(1, 1).getContext('2d');
        probe.fillStyle = style.getPropertyValue(name).trim();
        probe.fillRect(0, 0, 1, 1);
        const [r, g, b] = probe.getImageData(0, 0, 1, 1).data;
        let count = 0;
        for (let i = 0; i < data.length; i += 4) count += data[i] === r && data[i + 1] === g && data[i + 2] === b;
        return count;
    });
}"""


async def test_charts_draw_what_is_known(desk: Desk) -> None:
    await desk.live()
    await desk.at_test_id("charts").click()
    await expect(desk.at_test_id("chart-panel").locator("canvas")).to_have_count(4)
    for plot, colours in (("oi", ["--down", "--up"]), ("iv", ["--accent"]), ("session", ["--warn"])):
        node = desk.at_test_id(f"plot-{plot}")
        await expect(node).not_to_have_class(re.compile("blank"))
        counts = await node.evaluate(COLOURED, colours)
        assert min(counts) > 0, f"{plot} shows {counts} pixels of {colours}"
    await desk.at_test_id("session-view").select_option("Total OI")
    await expect(desk.at_test_id("plot-session").locator(".u-legend")).to_contain_text("Put")


async def test_the_sessions_minutes_are_asked_for_once_and_drawn(desk: Desk, service: Service) -> None:
    await desk.live()
    asked: list[str] = []
    desk.page.on("request", lambda request: asked.append(request.url) if "/bars/" in request.url else None)
    await desk.at_test_id("charts").click()
    note = desk.at_test_id("session-note")
    await expect(note).to_contain_text(service.get("/api/v2/bars/NIFTY")["day"])
    await desk.page.wait_for_timeout(1_000)
    assert len(asked) == 1, "once, and then every quarter of a minute"


async def test_hidden_page_asks_for_no_prices_and_comes_back_with_a_snapshot(desk: Desk) -> None:
    await desk.live()
    hide = "Object.defineProperty(document, 'hidden', {configurable: true, get: () => %s});"
    tell = "document.dispatchEvent(new Event('visibilitychange'))"
    await desk.page.evaluate(hide % "true" + tell)
    await expect(desk.chain).to_have_attribute("data-fresh", "false", timeout=10_000)
    await desk.page.evaluate(hide % "false" + tell)
    await desk.live()


def _read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


async def test_another_size_of_the_table_keeps_its_middle_and_all_its_strikes(desk: Desk) -> None:
    await desk.page.set_viewport_size({"width": 1280, "height": 800})
    await desk.live()
    await desk.press("c")
    await expect(desk.at_test_id("chart-panel")).to_be_visible()
    await expect(desk.atm_row).to_be_in_viewport()
    await desk.atm_row.locator(".c-ltp.ce").click()  # the drawer makes the table narrow, and its rows taller
    await expect(desk.at_test_id("detail")).to_be_visible()
    await expect(desk.atm_row).to_be_in_viewport()
    strikes = await desk.at_test_id("chain-grid").evaluate(
        "grid => { grid.scrollTop = 1e6; return grid.ariaRowCount - 1; }"
    )
    last = desk.page.locator(f'.row[aria-rowindex="{strikes + 1}"]')
    await expect(last).to_be_in_viewport(ratio=0.9)


async def test_a_table_may_be_left_while_it_scrolls(desk: Desk) -> None:
    await desk.live()
    await desk.page.evaluate("""() => {
      document.querySelector('[data-testid=chain-grid]').scrollTop += 300;
      document.body.dispatchEvent(new KeyboardEvent('keydown', { key: 'h', bubbles: true }));
      return new Promise((told) => requestAnimationFrame(() => requestAnimationFrame(told)));
    }""")
    await expect(desk.at_test_id("health")).to_be_visible()


async def test_an_address_with_another_name_of_the_symbol_opens_its_chain(desk: Desk) -> None:
    await desk.go("#/chain/Nifty50")
    await desk.live()
    await expect(desk.chain).to_have_attribute("data-symbol", "NIFTY")


async def _refuse(desk: Desk, is_refused: Callable[[str, int], bool]) -> list[WebSocketRoute]:
    """From the next load on, refuse topics by name and number of the connection; returns the connections."""
    lines: list[WebSocketRoute] = []

    def between(line: WebSocketRoute) -> None:
        server = line.connect_to_server()
        lines.append(line)
        number = len(lines)

        def said(message: str | bytes) -> None:
            asked = json.loads(message)
            topic = asked.get("topic") or (asked.get("topics") or [""])[0]
            if asked["op"] in ("subscribe", "resume") and is_refused(topic, number):
                line.send(json.dumps({"type": "error", "code": "TOO_MANY_TOPICS", "detail": "no room", "topic": topic}))
            else:
                server.send(message)

        line.on_message(said)

    await desk.page.route_web_socket("**/api/v2/stream", between)
    await desk.page.reload()
    await desk.live()
    return lines


async def test_details_that_were_refused_say_so_only_until_they_come(desk: Desk) -> None:
    lines = await _refuse(desk, lambda topic, line: line == 1 and topic.endswith("CE"))
    await desk.atm_row.locator(".c-ltp.ce").click()
    await expect(desk.at_test_id("why")).to_have_text("no room")
    await expect(desk.at_test_id("depth-refused")).to_have_text("No depth: no room")
    await lines[0].close()
    await expect(desk.at_test_id("detail")).to_have_attribute("data-state", "LIVE")
    await expect(desk.at_test_id("why")).not_to_have_text("no room")
    await expect(desk.at_test_id("depth-refused")).to_have_count(0)


async def test_a_spot_that_is_refused_leaves_no_change_of_the_day_behind(desk: Desk) -> None:
    lines = await _refuse(desk, lambda topic, line: line > 1 and topic == "quotes:NIFTY_IDX")
    await expect(desk.at_test_id("spot-change")).to_be_visible()
    await lines[0].close()
    await expect(desk.at_test_id("spot-change")).to_have_count(0)
    await desk.live()
    await expect(desk.at_test_id("spot")).not_to_have_text("–")
