"""What is looked at becomes bars: of underlyings by their packets, of chains by the numbers of the screens."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pytest

from app.core.ids import Segment
from app.core.sessions import Calendar, Phase
from app.stream.bar_recorder import BarRecorder
from app.stream.minute_bars import AGGREGATES, MINUTE_MS, BarBook, ChainName
from tests.stream_world import IST, NIFTY, RELIANCE, World

CHAIN = ChainName("NIFTY", "26FEB2026", "NSE")
STRIKES = (24_900, 24_950, 25_000, 25_050, 25_100)


class ClosedCalendar(Calendar):
    def sessions(self, segment: object, day: object) -> tuple[()]:  # type: ignore[override]
        return ()


class RungCalendar(Calendar):
    """In session until the bell."""

    def __init__(self, bell: datetime) -> None:
        super().__init__([], IST, always_open=True)
        self._bell = bell

    def phase(self, segment: Segment, at: datetime) -> Phase:
        return Phase.OPEN if at < self._bell else Phase.CLOSED


@pytest.fixture
async def world() -> World:
    return await World.opened()


def recorder_of(world: World, book: BarBook, calendar: Calendar | None = None) -> BarRecorder:
    legs = [world.leg(strike, side) for strike in STRIKES for side in ("CE", "PE")]
    owned = [NIFTY, RELIANCE, *legs]
    world.books.subscribe(*owned)
    world.tick(NIFTY, 25_020.35)
    for leg in legs:
        assert leg.strike is not None
        inner = max(0.0, (25_020 - leg.strike) * (1 if leg.option_type == "CE" else -1))
        world.tick(leg, inner + 80.0, oi=2_000 if leg.option_type == "PE" else 1_000)
    return BarRecorder(book, world.prices, world.desk, lambda: owned, calendar or world.calendar, world.clock)


def minute_of(world: World) -> int:
    return world.clock.now_ms() // MINUTE_MS * MINUTE_MS


async def test_a_driver_with_a_packet_in_the_minute_has_a_price_in_it(world: World) -> None:
    book = BarBook()
    recorder = recorder_of(world, book)
    await recorder.look_around()
    recorder.see_prices(minute_of(world))
    assert set(book.spots) == {NIFTY.token}, "RELIANCE had no packet: nothing is invented"
    recorder.see_prices(minute_of(world) + MINUTE_MS)
    assert book.spots[NIFTY.token].count == 1, "the price of the minute before is not seen again in the next"


async def test_a_price_of_the_day_before_is_no_bar_of_today(world: World) -> None:
    """What has not traded yet has packets too: its book moves, and its last price is yesterday's."""
    book = BarBook()
    recorder = recorder_of(world, book)
    await recorder.look_around()
    world.clock.at_ms -= 86_400_000
    world.tick(RELIANCE, 2_640.0)
    world.clock.at_ms += 86_400_000
    world.prices.buffers.table["last_ms"][world.prices.slot(RELIANCE.key)] = world.clock.now_ms()
    recorder.see_prices(minute_of(world))
    assert set(book.spots) == {NIFTY.token}
    world.tick(RELIANCE, 2_641.5)
    recorder.see_prices(minute_of(world))
    assert book.spots[RELIANCE.token].row(minute_of(world)).tolist() == [2_641.5] * 4


async def test_a_chain_says_in_bars_what_it_says_on_screens(world: World) -> None:
    book = BarBook()
    recorder = recorder_of(world, book)
    await recorder.look_around()
    await recorder.close_minute(minute_of(world))
    reader = world.join()
    reader.watch("chain:NIFTY:26FEB2026")
    summary = reader.read()[0]["data"]["summary"]
    _, cells = book.chains[CHAIN].since(None)
    told = dict(zip(AGGREGATES, cells[0].tolist(), strict=True))
    shown = [summary[name] for name in ("straddle", "atm_iv", "total_ce_oi", "total_pe_oi", "pcr")]
    assert list(told.values()) == pytest.approx(shown, rel=1e-6)
    assert told["ce_oi"] == 5_000


async def test_a_closed_market_makes_no_bars(world: World) -> None:
    book = BarBook()
    recorder = recorder_of(world, book, ClosedCalendar([], IST, always_open=True))
    await recorder.look_around()
    recorder.see_prices(minute_of(world))
    await recorder.close_minute(minute_of(world))
    assert (book.spots, book.chains) == ({}, {})
    assert not np.isnan(world.prices.last_price(NIFTY.key) or np.nan)


async def test_the_last_minute_of_a_session_is_closed_with_it(world: World) -> None:
    book = BarBook()
    last_minute = world.clock.now_ms() // MINUTE_MS * MINUTE_MS
    bell = datetime.fromtimestamp(last_minute / 1000 + 60, IST)
    recorder = recorder_of(world, book, RungCalendar(bell))
    await recorder.look_around()
    world.clock.at_ms = last_minute + MINUTE_MS
    await recorder.close_minute(last_minute)
    assert book.chains[CHAIN].start_ms == last_minute
    await recorder.close_minute(last_minute + MINUTE_MS)
    assert book.chains[CHAIN].count == 1, "no session, no minute"
