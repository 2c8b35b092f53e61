"""The control loop: Tier B fills in, windows follow, rows are written behind, evicted chains return."""

from __future__ import annotations

import asyncio
from datetime import date, datetime, time, timedelta

import pytest

from app.core.errors import StoreUnavailable
from app.core.ids import Exchange, Tier
from app.market.atm_engine import ChainId
from app.market.events import Event
from app.market.tiers import AlwaysOn, ChainRule, FutureRule, Universe, always_on
from app.ports.feed import FeedLimits
from app.ports.store import InstrumentType
from tests.tiny_market import IST, MORNING, HandClock, Market, PausingStore, tiny_registry

STOCK = InstrumentType.STOCK_OPTION
FEB, NEAR = date(2026, 2, 24), date(2026, 2, 10)
RULES = Universe((ChainRule("NIFTY", nearest=2),), (FutureRule("CRUDEOIL"),), fo_stocks=True)
NIFTY_NEAR = ChainId("NIFTY", NEAR, Exchange.NSE)


def universe() -> AlwaysOn:
    return always_on(RULES, tiny_registry(), MORNING.date())


async def passes(market: Market, seconds: float, *, step: float = 1.0) -> None:
    """Let time pass with the loop looking in each step."""
    for _ in range(round(seconds / step)):
        market.clock.advance(step)
        await market.control.step()


class TestTierB:
    async def test_drivers_first_and_chains_as_spots_come(self) -> None:
        market = await Market().start(universe())
        singles = len(universe().singles)
        assert market.wishes.tier_b_count == singles == 7
        await passes(market, 5)
        assert market.wishes.tier_b_count == singles
        assert market.control.tier_b_report()["waiting"] == ["NIFTY 10FEB2026", "NIFTY 24FEB2026"]
        market.quote("NIFTY", 25_010.0)
        await passes(market, 1)
        assert market.wishes.tier_b_count == singles + 404
        report = market.control.tier_b_report()
        assert (report["waiting"], report["subscribed"]) == ([], report["listed"])

    async def test_its_room_is_kept_until_the_spots_are_known(self) -> None:
        market = await Market(limits=FeedLimits(1, 450, 10)).start(universe())
        market.quote("TCS", 3100.0)
        assert market.wishes.free == 450 - 7 - 404
        market.quote("NIFTY", 25_010.0)
        await passes(market, 1)
        assert (market.wishes.free, market.wishes.tier_b_count) == (39, 411)

    async def test_a_stock_added_counts_50_and_its_driver_stays_b(self) -> None:
        market = await Market().start(universe())
        market.quote("TCS", 3100.0)
        before = market.wishes.tier_a_count
        await market.lists.add(1, "TCS", FEB, STOCK)
        await market.lists.add(1, "TCS", None, InstrumentType.EQUITY)
        assert market.wishes.tier_a_count - before == 50
        await market.lists.remove(1, "TCS")
        assert market.wishes.tier_a_count == before

    async def test_windows_follow_after_a_step_and_a_cool_down(self) -> None:
        market = await Market().start(universe())
        market.quote("NIFTY", 25_010.0)
        await passes(market, 6)
        market.quote("NIFTY", 25_049.0)
        await passes(market, 6)
        assert market.events("window_moved") == []
        market.quote("NIFTY", 25_110.0)
        await passes(market, 1)
        moved = market.events("window_moved")
        assert {event.data["atm_strike"] for event in moved} == {25_100.0}
        assert {event.user_id for event in moved} == {None}
        assert market.wishes.tier_b_count == 7 + 404
        assert market.wishes.lingering == 8  # two strikes of two chains, still on the wire
        shown = market.engine.window(NIFTY_NEAR)
        assert shown is not None
        assert all(market.wishes.is_tier_b(key) for key in shown.keys)
        market.quote("NIFTY", 25_210.0)
        await passes(market, 2)
        assert len(market.events("window_moved")) == len(moved)
        await passes(market, 4)
        assert len(market.events("window_moved")) == len(moved) + 2

    async def test_a_new_day_changes_only_what_differs(self) -> None:
        market = await Market().start(universe())
        market.quote("NIFTY", 25_010.0)
        await passes(market, 1)
        market.control.use_universe(always_on(RULES, tiny_registry(), NEAR + timedelta(days=1)))
        assert market.wishes.tier_b_count == 7 + 202
        assert market.wishes.lingering == 202

    async def test_the_night_after_an_expiry_it_goes_on_until_the_new_universe(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        evening = datetime.combine(NEAR, time(23, 59), IST)
        market = await Market(clock=HandClock(evening)).start(universe())
        monkeypatch.setattr(market.registry, "_today", lambda: market.clock.now().date())
        market.quote("NIFTY", 25_010.0)
        await passes(market, 6)
        await passes(market, 60, step=6)
        market.quote("NIFTY", 25_110.0)
        await passes(market, 1)
        assert {event.data["expiry"] for event in market.events("window_moved")} == {"24FEB2026"}
        assert market.wishes.tier_b_count == 7 + 404

    async def test_it_is_stored_within_a_second_and_windows_with_it(self) -> None:
        market = await Market().start(universe())
        market.quote("NIFTY", 25_010.0)
        await passes(market, 1)
        await market.control.flush()
        stored = await market.stored()
        assert len(stored.legs) == 411
        assert {leg.tier for leg in stored.legs} == {Tier.B}
        assert {leg.ws_id for leg in stored.legs} == {1, 2, 3, 4, 5}
        assert {(row.expiry, row.atm_strike, len(row.strikes)) for row in stored.atm} == {
            (NEAR, 25_000.0, 101),
            (FEB, 25_000.0, 101),
        }


class TestWindowsOfEntries:
    async def market(self) -> Market:
        market = await Market().start()
        market.quote("TCS", 3100.0)
        await market.lists.add(1, "TCS", FEB, STOCK)
        return market

    async def test_they_follow_and_tell_their_owner(self) -> None:
        market = await self.market()
        await passes(market, 6)
        market.quote("TCS", 3141.0)
        await passes(market, 1)
        (event,) = market.events("window_moved")
        assert (event.user_id, event.data["symbol"], event.data["atm_strike"]) == (1, "TCS", 3140.0)
        assert (market.wishes.tier_a_count, market.wishes.lingering) == (50, 4)
        await market.control.flush()
        stored = await market.stored()
        assert stored.entries[0].centre == 3140.0
        assert {leg.key for leg in stored.legs} == set(market.lists.entries(1)[0].legs)
        assert {wish.instrument.key for wish in market.wishes.wishes()} == set(market.lists.entries(1)[0].legs)

    async def test_the_window_people_see_is_the_one_subscribed(self) -> None:
        market = await self.market()
        await passes(market, 6)
        market.quote("TCS", 3141.0)
        await passes(market, 1)
        shown = market.engine.window(ChainId("TCS", FEB, Exchange.NSE))
        assert shown is not None
        assert set(shown.keys) == set(market.lists.entries(1)[0].legs)
        await market.lists.remove(1, "TCS")
        assert market.engine.window(ChainId("TCS", FEB, Exchange.NSE)) is None

    async def test_a_given_price_holds_until_the_live_one_has_moved(self) -> None:
        market = await self.market()
        result = await market.lists.subscribe_chain(2, "TCS", FEB, 3300.0)
        await passes(market, 60)
        assert market.events("window_moved") == []
        own = market.lists.book.of_list(2, "@explicit")[0]
        assert {each.key for each in own.legs} == {each.key for each in result.subscribed}
        market.quote("TCS", 3121.0)
        await passes(market, 1)
        assert {event.user_id for event in market.events("window_moved")} == {1, 2}

    async def test_without_room_the_old_legs_leave_first(self) -> None:
        market = await Market(limits=FeedLimits(1, 50, 10)).start()
        market.quote("TCS", 3100.0)
        await market.lists.add(1, "TCS", FEB, STOCK)
        await passes(market, 6)
        market.quote("TCS", 3121.0)
        await passes(market, 1)
        assert (market.wishes.total, market.wishes.lingering) == (50, 0)
        assert len(market.events("window_moved")) == 1


class TestWriteBehind:
    async def test_a_store_that_is_away_loses_nothing(self) -> None:
        market = await Market().start(universe())
        market.store.is_away = True
        with pytest.raises(StoreUnavailable):
            await market.control.flush()
        market.quote("NIFTY", 25_010.0)
        await passes(market, 1)
        market.store.is_away = False
        await market.control.flush()
        assert len((await market.stored()).legs) == market.wishes.total
        assert not market.journal.has_work

    async def test_rows_without_an_owner_go_once_tier_b_is_whole(self) -> None:
        first = await Market().start(universe())
        first.quote("NIFTY", 26_500.0)
        await passes(first, 1)
        await first.control.flush()
        second = await Market(store=first.store, clock=first.clock).start(universe())
        await second.control.flush()
        assert len((await second.stored()).legs) == 411
        second.quote("NIFTY", 25_010.0)
        await passes(second, 1)
        await second.control.flush()
        assert {leg.key for leg in (await second.stored()).legs} == {
            wish.instrument.key for wish in second.wishes.wishes()
        }

    async def test_last_use_is_stored_now_and_then(self) -> None:
        market = await Market().start()
        market.quote("TCS", 3100.0)
        await market.lists.add(1, "TCS", FEB, STOCK)
        await market.control.flush()
        for _ in range(40):
            market.clock.advance(1)
            market.lists.touch_shown([ChainId("TCS", FEB, Exchange.NSE)])
            await market.control.flush()
        assert market.store.commits == 4  # the add, its socket numbers, and two times of use
        assert (market.clock.now() - (await market.stored()).entries[0].last_used_at).total_seconds() <= 15

    async def test_a_wish_by_token_is_stored_and_ends_in_the_lists_too(self) -> None:
        market = await Market(limits=FeedLimits(1, 50, 10)).start()
        market.quote("TCS", 3100.0)
        await market.lists.add(1, "TCS", FEB, STOCK)
        assert market.wishes.subscribe("INFY_EQ")[0]
        await passes(market, 1)
        await market.control.flush()
        assert market.lists.entries(1)[0].state == "EVICTED"
        assert [event.user_id for event in market.events("evicted")] == [1]
        assert [leg.token for leg in (await market.stored()).legs] == ["INFY_EQ"]
        assert (await market.stored()).entries[0].state.value == "EVICTED"


class TestReturns:
    LIMITS = FeedLimits(1, 810, 100)

    async def full(self) -> Market:
        """810 places: 202 + 202 + 202 of NIFTY and crude, 100 of TCS, 50 of INFY; then one more chain."""
        market = await Market(limits=self.LIMITS).start()
        for symbol, price in (("TCS", 3100.0), ("INFY", 1500.0), ("ONGC", 240.0), ("NIFTY", 25_000.0)):
            market.quote(symbol, price)
        market.quote("CRUDEOIL", 6_000.0)
        await market.lists.add(1, "TCS", FEB, STOCK)
        market.clock.advance(1)
        for expiry in (NEAR, FEB):
            await market.lists.add(2, "NIFTY", expiry, InstrumentType.INDEX_OPTION)
        await market.lists.add(2, "CRUDEOIL", None, InstrumentType.COMMODITY_OPTION)
        for symbol in ("INFY", "ONGC"):
            await market.lists.add(2, symbol, FEB, STOCK)
            await market.lists.add(2, symbol, date(2026, 3, 30), STOCK)
        return market

    async def test_500_free_for_a_minute_and_not_before(self) -> None:
        market = await self.full()
        assert market.lists.entries(1)[0].state == "EVICTED"
        await market.lists.remove(2, "NIFTY")
        for _ in range(120):
            market.clock.advance(1)
            assert await market.control.return_evicted() == 0  # 408 are free
        await market.lists.remove(2, "INFY")
        assert market.wishes.free >= 500
        assert await market.control.return_evicted() == 0
        market.clock.advance(59)
        assert await market.control.return_evicted() == 0
        market.clock.advance(1.5)
        assert await market.control.return_evicted() == 1
        assert market.lists.entries(1)[0].state == "ACTIVE"
        assert len(market.events("restored")) == 1

    async def test_a_dip_starts_the_minute_anew(self) -> None:
        market = await self.full()
        for symbol in ("NIFTY", "INFY"):
            await market.lists.remove(2, symbol)
        assert await market.control.return_evicted() == 0
        market.clock.advance(50)
        await market.lists.add(3, "NIFTY", NEAR, InstrumentType.INDEX_OPTION)
        assert await market.control.return_evicted() == 0
        await market.lists.remove(3, "NIFTY")
        market.clock.advance(20)
        assert await market.control.return_evicted() == 0

    async def test_a_failed_commit_returns_nothing(self) -> None:
        market = await self.full()
        for symbol in ("NIFTY", "INFY"):
            await market.lists.remove(2, symbol)
        await market.control.return_evicted()
        market.clock.advance(61)
        market.store.is_away = True
        total = market.wishes.total
        with pytest.raises(StoreUnavailable):
            await market.control.return_evicted()
        assert market.wishes.total == total
        assert market.lists.entries(1)[0].state == "EVICTED"


async def test_the_running_loop_does_it_all_and_stops_clean() -> None:
    """Real time, a fraction of a second: what the loop does by itself."""
    clock = HandClock()
    market = await Market(clock=clock, store=PausingStore(clock)).start(universe())
    async with asyncio.TaskGroup() as group:
        running = group.create_task(market.control.run())
        market.quote("NIFTY", 25_010.0)
        market.control.wake()
        async with asyncio.timeout(20):
            while len((await market.stored()).legs) < 411:  # noqa: ASYNC110 - the store tells nobody
                await asyncio.sleep(0.01)
        running.cancel()
    assert market.control.tier_b_report()["waiting"] == []


async def test_a_store_that_failed_is_tried_again_where_nothing_is_due() -> None:
    """Else the service would stay degraded until somebody changes something."""
    market = await Market().start(universe())
    await market.control.flush()
    market.store.is_away = True
    with pytest.raises(StoreUnavailable):
        await market.lists.add(1, "TCS", None, InstrumentType.EQUITY)
    market.store.is_away = False
    assert market.store.trouble
    assert not market.journal.has_work
    async with asyncio.TaskGroup() as group:
        running = group.create_task(market.control.run())
        async with asyncio.timeout(20):
            while market.store.trouble:  # noqa: ASYNC110 - the store tells nobody
                await asyncio.sleep(0.01)
        running.cancel()


def test_events_are_values() -> None:
    assert Event("feed", 1, None) == Event("feed", 1, None, {})
