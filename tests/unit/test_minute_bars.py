"""Minutes are kept as they were seen: unknown where nothing was, bounded, and back after a restart."""

from __future__ import annotations

import asyncio
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.runtime.bar_file import FILE, BarFile
from app.stream.minute_bars import (
    AGGREGATES,
    CHAINS_MAX,
    MINUTE_MS,
    MINUTES_MAX,
    SPOTS_MAX,
    BarBook,
    ChainName,
    MinuteSeries,
)

DAY = date(2026, 2, 3)
NINE_MS = 1_770_089_400_000
CHAIN = ChainName("NIFTY", "10FEB2026", "NSE")


def told(series: MinuteSeries, since_ms: int | None = None) -> list[list[float | None]]:
    _, cells = series.since(since_ms)
    return [[None if np.isnan(cell) else round(float(cell), 2) for cell in row] for row in cells]


def test_a_minute_has_the_prices_that_were_seen_in_it() -> None:
    book = BarBook()
    for at, price in enumerate((100.0, 103.0, 99.0, 101.0)):
        book.see_price("TCS_EQ", DAY, NINE_MS, price)
        assert told(book.spots["TCS_EQ"])[0][3] == price, at
    book.see_price("TCS_EQ", DAY, NINE_MS + 3 * MINUTE_MS, 105.0)
    gap: list[float | None] = [None] * 4
    assert told(book.spots["TCS_EQ"]) == [[100.0, 103.0, 99.0, 101.0], gap, gap, [105.0] * 4]
    start_ms, cells = book.spots["TCS_EQ"].since(NINE_MS + 2 * MINUTE_MS)
    assert (start_ms, len(cells)) == (NINE_MS + 2 * MINUTE_MS, 2)
    assert len(book.spots["TCS_EQ"].since(NINE_MS + 99 * MINUTE_MS)[1]) == 0


def test_what_a_chain_does_not_tell_stays_unknown() -> None:
    book = BarBook()
    book.close_minute(CHAIN, DAY, NINE_MS, {"straddle": 120.5, "pcr": None})
    assert told(book.chains[CHAIN]) == [[120.5, None, None, None, None]]


def test_a_new_day_begins_anew() -> None:
    book = BarBook()
    book.see_price("TCS_EQ", DAY, NINE_MS, 100.0)
    tomorrow_ms = NINE_MS + 24 * 60 * MINUTE_MS
    book.see_price("TCS_EQ", date(2026, 2, 4), tomorrow_ms, 90.0)
    assert book.spots["TCS_EQ"].since(None)[0] == tomorrow_ms
    assert told(book.spots["TCS_EQ"]) == [[90.0] * 4]


@given(st.lists(st.integers(0, 3_000), min_size=1, max_size=60).map(sorted))
def test_the_newest_minutes_are_kept_in_bounds(minutes: list[int]) -> None:
    book = BarBook()
    for minute in minutes:
        book.see_price("TCS_EQ", DAY, NINE_MS + minute * MINUTE_MS, float(minute + 1))
    series = book.spots["TCS_EQ"]
    start_ms, cells = series.since(None)
    assert len(cells) <= MINUTES_MAX
    last = (start_ms - NINE_MS) // MINUTE_MS + len(cells) - 1
    assert last == minutes[-1]
    first = last - len(cells) + 1
    seen = {minute for minute in minutes if minute >= first}
    known = {first + place for place in np.flatnonzero(~np.isnan(cells[:, 0])).tolist()}
    assert known == seen


def test_a_clock_set_back_to_before_the_first_minute_begins_anew() -> None:
    """What was seen under the wrong clock was never at those times."""
    book = BarBook()
    book.see_price("TCS_EQ", DAY, NINE_MS, 100.0)
    book.see_price("TCS_EQ", DAY, NINE_MS - 60 * MINUTE_MS, 90.0)
    assert book.spots["TCS_EQ"].since(None)[0] == NINE_MS - 60 * MINUTE_MS
    assert told(book.spots["TCS_EQ"]) == [[90.0] * 4]


def test_there_are_bounds_on_names_too() -> None:
    book = BarBook()
    for number in range(max(SPOTS_MAX, CHAINS_MAX) + 1):
        book.see_price(f"S{number}_EQ", DAY, NINE_MS, 1.0)
        book.close_minute(ChainName(f"S{number}", "24FEB2026", "NSE"), DAY, NINE_MS, {})
    assert (len(book.spots), len(book.chains)) == (SPOTS_MAX, CHAINS_MAX)
    book.forget_expired({CHAIN})
    assert book.chains == {}


def test_a_restart_has_what_was_written(tmp_path: Path) -> None:
    book = BarBook()
    book.see_price("TCS_EQ", DAY, NINE_MS, 100.0)
    book.see_price("TCS_EQ", DAY, NINE_MS + 2 * MINUTE_MS, 101.0)
    book.close_minute(CHAIN, DAY, NINE_MS, dict.fromkeys(AGGREGATES, 5.0))
    asyncio.run(BarFile(tmp_path, book).save())
    back = BarBook()
    BarFile(tmp_path, back).load(DAY)
    assert told(back.spots["TCS_EQ"]) == told(book.spots["TCS_EQ"])
    assert told(back.chains[CHAIN]) == [[5.0] * 5]
    back.see_price("TCS_EQ", DAY, NINE_MS + 3 * MINUTE_MS, 102.0)
    assert len(told(back.spots["TCS_EQ"])) == 4
    old = BarBook()
    BarFile(tmp_path, old).load(date(2026, 3, 3))
    assert old.spots == {}
    asyncio.run(BarFile(tmp_path, BarBook()).save())


@pytest.mark.parametrize("damage", ["cut", "flipped", "text", "empty"])
def test_a_damaged_file_is_left_alone(tmp_path: Path, damage: str) -> None:
    book = BarBook()
    book.see_price("TCS_EQ", DAY, NINE_MS, 100.0)
    asyncio.run(BarFile(tmp_path, book).save())
    path = tmp_path / FILE
    whole = path.read_bytes()
    broken = {
        "cut": whole[: len(whole) // 2],
        "flipped": whole[:60] + bytes([whole[60] ^ 0xFF]) + whole[61:],
        "text": b"not bars",
        "empty": b"",
    }[damage]
    path.write_bytes(broken)
    back = BarBook()
    BarFile(tmp_path, back).load(DAY)
    assert back.spots == {}
