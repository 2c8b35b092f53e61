"""Use cases on lists: every answer, what it changed, and what a refusal left alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest

from app.core.errors import (
    AlreadyInWatchlist,
    ExpiryUnknown,
    InstrumentUnknown,
    InvalidRequest,
    NotInWatchlist,
    SpotUnknown,
    StoreUnavailable,
)
from app.core.ids import Exchange, OptionType
from app.market.entries import RemoveResult
from app.ports.feed import FeedLimits
from app.ports.store import Changes, InstrumentType
from tests.tiny_market import IST, NO_PUT_AT, HandClock, Market, PausingStore
from tests.unit.spotted_market import FEB, INDEX, MAR, STOCK, full_market, spotted


@pytest.fixture
async def market() -> Market:
    return await spotted(Market())


@pytest.fixture
async def full() -> Market:
    return await full_market()


CHANGES: dict[str, Callable[[Market], Coroutine[Any, Any, object]]] = {
    "add": lambda market: market.lists.add(1, "INFY", FEB, STOCK),
    "remove": lambda market: market.lists.remove(1, "TCS", FEB),
    "subscribe": lambda market: market.lists.subscribe_chain(1, "ONGC", FEB),
    "release": lambda market: market.lists.release_chain(1, "RELIANCE", FEB),
    "clear": lambda market: market.lists.clear(1),
    "unsubscribe all": lambda market: market.lists.unsubscribe_all_tier_a(),
    "create list": lambda market: market.lists.create_list(1, "another"),
    "rename list": lambda market: market.lists.rename_list(1, "swing", "long"),
    "delete list": lambda market: market.lists.delete_list(1, "swing"),
    "order lists": lambda market: market.lists.order_lists(1, ["swing"]),
    "order entries": lambda market: market.lists.order_entries(1, "default", [2, 1]),
    "move entry": lambda market: market.lists.move_entry(1, 1, "swing"),
    "copy entry": lambda market: market.lists.copy_entry(1, 1, "swing"),
}


@pytest.mark.parametrize("name", CHANGES)
async def test_no_change_is_answered_before_it_is_stored(market: Market, name: str) -> None:
    await market.lists.create_list(1, "swing")
    await market.lists.add(1, "TCS", FEB, STOCK)
    await market.lists.add(1, "TCS", MAR, STOCK)
    await market.lists.subscribe_chain(1, "RELIANCE", FEB)
    market.store.gate = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        changing = group.create_task(CHANGES[name](market))
        await market.store.waiting.wait()
        for _ in range(20):
            await asyncio.sleep(0)
        assert not changing.done(), "success may be told only of what a crash cannot take back"
        market.store.gate.set()


class TestAdd:
    async def test_a_stock_chain_is_50_legs_and_raises_tier_a_by_50(self, market: Market) -> None:
        result = await market.lists.add(1, "reliance", "24FEB2026", STOCK)
        assert result.strikes_subscribed == 50
        assert result.missing == ()
        assert market.wishes.tier_a_count == 50
        assert {each.token for each in result.legs} >= {"RELIANCE_24FEB2026_3000CE", "RELIANCE_24FEB2026_3000PE"}
        assert result.window is not None
        assert result.window.atm_strike == 3000.0
        assert all(market.wire.ws_id(each.key) for each in result.legs)

    async def test_it_is_stored_with_its_legs_before_it_is_answered(self, market: Market) -> None:
        result = await market.lists.add(1, "RELIANCE", FEB, STOCK)
        stored = await market.stored()
        assert [(row.symbol, row.expiry, row.centre) for row in stored.entries] == [("RELIANCE", FEB, 3000.0)]
        assert {leg.token for leg in stored.legs} == {each.token for each in result.legs}
        assert (await market.audit()) == [("SUBSCRIBE", each.token) for each in result.legs]

    async def test_legs_that_are_not_listed_are_named(self, market: Market) -> None:
        result = await market.lists.add(1, "RELIANCE", FEB, STOCK, 2640.0)
        assert result.strikes_subscribed == 49
        assert [(leg.strike, leg.option_type) for leg in result.missing] == [(NO_PUT_AT, OptionType.PE)]

    async def test_a_short_ladder_gives_what_is_listed(self, market: Market) -> None:
        assert (await market.lists.add(1, "SBIN", FEB, STOCK)).strikes_subscribed == 24

    @pytest.mark.parametrize(
        ("symbol", "kind", "expiry", "legs"),
        [
            ("NIFTY 50", INDEX, date(2026, 2, 10), 202),
            ("CRUDEOIL", InstrumentType.COMMODITY_OPTION, date(2026, 2, 17), 202),
            ("TCS", InstrumentType.FUTURE, FEB, 1),
            ("TCS", InstrumentType.EQUITY, None, 1),
        ],
    )
    async def test_without_an_expiry_the_nearest_is_meant(
        self, market: Market, symbol: str, kind: InstrumentType, expiry: date | None, legs: int
    ) -> None:
        market.quote("CRUDEOIL", 6_000.0)
        result = await market.lists.add(1, symbol, None, kind)
        assert (result.entry.expiry, result.strikes_subscribed) == (expiry, legs)

    @pytest.mark.parametrize(
        ("symbol", "expiry", "kind", "ltp", "error"),
        [
            ("NOSUCH", None, STOCK, None, InstrumentUnknown),
            ("RELIANCE", "25FEB2026", STOCK, None, ExpiryUnknown),
            ("RELIANCE", "soon", STOCK, None, ExpiryUnknown),
            ("RELIANCE", "25FEB2026", InstrumentType.FUTURE, None, ExpiryUnknown),
            ("RELIANCE", None, INDEX, None, InvalidRequest),
            ("NIFTY", None, STOCK, None, InvalidRequest),
            ("NIFTY", None, InstrumentType.EQUITY, None, InstrumentUnknown),
            ("CRUDEOIL", None, InstrumentType.COMMODITY_OPTION, None, SpotUnknown),
            ("RELIANCE", None, STOCK, 0.0, InvalidRequest),
            ("RELIANCE", None, STOCK, -5.0, InvalidRequest),
            ("RELIANCE", None, STOCK, float("nan"), InvalidRequest),
        ],
    )
    async def test_a_refusal_changes_nothing(
        self,
        market: Market,
        symbol: str,
        expiry: str | None,
        kind: InstrumentType,
        ltp: float | None,
        error: type[Exception],
    ) -> None:
        revision = market.wishes.revision
        with pytest.raises(error):
            await market.lists.add(1, symbol, expiry, kind, ltp)
        assert market.wishes.revision == revision
        assert (await market.stored()).entries == ()
        assert market.lists.entries(1) == []

    async def test_twice_is_refused_as_such_while_there_is_no_price(self, market: Market) -> None:
        await market.lists.add(1, "CRUDEOIL", None, InstrumentType.COMMODITY_OPTION, 5_700.0)
        with pytest.raises(AlreadyInWatchlist):
            await market.lists.add(1, "CRUDEOIL", None, InstrumentType.COMMODITY_OPTION)

    async def test_twice_is_refused_and_changes_nothing(self, market: Market) -> None:
        await market.lists.add(1, "TCS", FEB, STOCK)
        with pytest.raises(AlreadyInWatchlist):
            await market.lists.add(1, "tcs", "2026-02-24", STOCK, 2900.0)
        assert market.wishes.tier_a_count == 50
        assert len((await market.stored()).entries) == 1

    async def test_a_store_that_is_away_leaves_everything_as_it_was(self, market: Market) -> None:
        market.store.is_away = True
        with pytest.raises(StoreUnavailable):
            await market.lists.add(1, "TCS", FEB, STOCK)
        assert market.wishes.total == 0
        assert market.wishes.free == market.wishes.capacity
        market.store.is_away = False
        assert (await market.lists.add(1, "TCS", FEB, STOCK)).strikes_subscribed == 50

    async def test_a_caller_that_goes_away_mid_commit_leaves_store_and_books_agreed(self, market: Market) -> None:
        market.store.gate = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            adding = group.create_task(market.lists.add(1, "TCS", FEB, STOCK))
            await market.store.waiting.wait()
            adding.cancel()
            await asyncio.sleep(0)
            market.store.gate.set()
        assert adding.cancelled()
        assert len((await market.stored()).entries) == len(market.lists.entries(1)) == 1
        assert market.wishes.total == 50

    async def test_many_at_once_take_turns(self, market: Market) -> None:
        async with asyncio.TaskGroup() as group:
            for user in range(1, 9):
                group.create_task(market.lists.add(user, "TCS", FEB, STOCK))
        assert market.wishes.total == 50
        assert market.store.commits == 8
        assert len((await market.stored()).legs) == 50


class TestSharing:
    async def test_one_users_remove_never_touches_another(self, market: Market) -> None:
        await market.lists.add(1, "TCS", FEB, STOCK)
        await market.lists.add(2, "TCS", FEB, STOCK)
        assert market.wishes.tier_a_count == 50
        assert (await market.lists.remove(1, "TCS")).unsubscribed == 0
        assert market.wishes.tier_a_count == 50
        assert len((await market.stored()).legs) == 50
        assert (await market.lists.remove(2, "TCS")).unsubscribed == 50
        assert market.wishes.tier_a_count == 0
        assert (await market.stored()).legs == ()

    async def test_another_centre_moves_only_its_own_legs(self, market: Market) -> None:
        first = await market.lists.add(1, "TCS", FEB, STOCK)
        other = await market.lists.subscribe_chain(2, "TCS", "24FEB2026", 3300.0)
        assert market.wishes.total == len({*first.legs, *other.subscribed}) > 50
        again = await market.lists.subscribe_chain(2, "TCS", "24FEB2026", 2900.0)
        held = set(market.wishes.held_by(market.lists.book.of_user(1)[0].id))
        assert held == {each.key for each in first.legs}
        assert market.wishes.total == len({*first.legs, *again.subscribed})
        assert {leg.token for leg in (await market.stored()).legs} == {
            each.token for each in {*first.legs, *again.subscribed}
        }

    async def test_an_explicit_chain_is_released_by_its_caller_only(self, market: Market) -> None:
        result = await market.lists.subscribe_chain(1, "NIFTY", "10FEB2026")
        assert len(result.subscribed) == 202
        assert market.lists.entries(1) == []
        with pytest.raises(NotInWatchlist):
            await market.lists.release_chain(2, "NIFTY", "10FEB2026")
        assert (await market.lists.release_chain(1, "NIFTY", "10FEB2026")).released == 202
        assert market.wishes.total == 0


class TestRemove:
    async def test_without_an_expiry_all_entries_of_the_symbol_go(self, market: Market) -> None:
        for expiry in (FEB, MAR):
            await market.lists.add(1, "TCS", expiry, STOCK)
        await market.lists.add(1, "INFY", FEB, STOCK)
        result = await market.lists.remove(1, "TCS")
        assert (len(result.removed), result.unsubscribed) == (2, 100)
        assert [entry.symbol for entry in market.lists.entries(1)] == ["INFY"]

    async def test_what_is_not_there_cannot_be_removed(self, market: Market) -> None:
        await market.lists.add(1, "TCS", FEB, STOCK)
        for user, expiry in ((2, None), (1, "30MAR2026")):
            with pytest.raises(NotInWatchlist):
                await market.lists.remove(user, "TCS", expiry)
        assert market.wishes.total == 50

    async def test_a_removal_that_cannot_be_stored_did_not_happen(self, market: Market) -> None:
        await market.lists.add(1, "TCS", FEB, STOCK)
        market.store.is_away = True
        with pytest.raises(StoreUnavailable):
            await market.lists.remove(1, "TCS")
        assert market.wishes.total == 50
        assert len(market.lists.entries(1)) == 1

    async def test_clearing_one_user_leaves_the_others(self, market: Market) -> None:
        for user in (1, 2):
            await market.lists.add(user, "TCS", FEB, STOCK)
        await market.lists.add(1, "INFY", FEB, STOCK)
        assert await market.lists.clear(1) == 2
        assert market.wishes.total == 50
        assert await market.lists.clear(None) == 1
        assert market.wishes.total == 0

    async def test_all_tier_a_leaves_and_the_lists_say_why(self, market: Market) -> None:
        await market.lists.add(1, "TCS", FEB, STOCK)
        await market.lists.subscribe_chain(1, "INFY", FEB)
        market.wishes.subscribe("RELIANCE_EQ")
        assert await market.lists.unsubscribe_all_tier_a("kill switch") == 101
        assert market.wishes.total == 0
        (entry,) = market.lists.entries(1)
        assert (entry.state, entry.state_reason) == ("EVICTED", "kill switch")
        market.clock.advance(3600)
        assert market.lists.due_back(has_room=True) is None
        assert (await market.lists.add(1, "TCS", FEB, STOCK)).entry.state == "ACTIVE"


async def test_a_change_waits_for_the_one_under_way(market: Market) -> None:
    """Two that take the same entry away: only one of them did."""
    await market.lists.add(1, "TCS", FEB, STOCK)
    market.store.gate = asyncio.Event()
    removals = [asyncio.ensure_future(market.lists.remove(1, "TCS", FEB)) for _ in range(2)]
    await market.store.waiting.wait()
    for _ in range(10):
        await asyncio.sleep(0)
    market.store.gate.set()
    first, second = await asyncio.gather(*removals, return_exceptions=True)
    assert isinstance(first, RemoveResult)
    assert isinstance(second, NotInWatchlist)


class TestEndOfDay:
    NIGHT = "EOD:NSE:2026-02-03"

    async def test_it_clears_once_what_was_added_before(self, market: Market) -> None:
        await market.lists.add(1, "TCS", FEB, STOCK)
        await market.lists.subscribe_chain(1, "INFY", FEB)
        market.wishes.subscribe("RELIANCE_EQ")
        moment = market.clock.now() + timedelta(seconds=1)
        market.clock.advance(2)
        await market.lists.add(2, "ONGC", FEB, STOCK)
        assert await market.lists.end_of_day(self.NIGHT, moment, {Exchange.NSE}) == 101
        assert [entry.symbol for entry in market.lists.entries(2)] == ["ONGC"]
        assert market.lists.entries(1) == []
        assert market.wishes.total == 50
        assert await market.lists.end_of_day(self.NIGHT, moment, {Exchange.NSE}) is None
        actions = [action for action, _ in await market.audit()]
        assert actions.count("EOD_CLEANUP") == 101

    async def test_only_the_exchanges_whose_day_ends(self, market: Market) -> None:
        market.quote("CRUDEOIL", 6_000.0)
        await market.lists.add(1, "CRUDEOIL", None, InstrumentType.COMMODITY_OPTION)
        await market.lists.add(1, "TCS", FEB, STOCK)
        later = market.clock.now() + timedelta(hours=1)
        await market.lists.end_of_day(self.NIGHT, later, {Exchange.NSE, Exchange.BSE})
        assert [entry.symbol for entry in market.lists.entries(1)] == ["CRUDEOIL"]

    async def test_evicted_entries_are_cleared_too(self, full: Market) -> None:
        await full.lists.add(9, "RELIANCE", FEB, STOCK)
        await full.lists.end_of_day(self.NIGHT, full.clock.now() + timedelta(hours=1), {Exchange.NSE})
        assert (await full.stored()).entries == ()
        assert full.wishes.total == 0

    async def test_a_store_that_is_away_clears_nothing(self, market: Market) -> None:
        await market.lists.add(1, "TCS", FEB, STOCK)
        market.store.is_away = True
        with pytest.raises(StoreUnavailable):
            await market.lists.end_of_day(self.NIGHT, market.clock.now() + timedelta(hours=1), {Exchange.NSE})
        assert market.wishes.total == 50
        market.store.is_away = False
        assert await market.lists.end_of_day(self.NIGHT, market.clock.now() + timedelta(hours=1), {"NSE"}) == 50

    async def test_kept_lists_sleep_and_return_with_the_next_session(self) -> None:
        market = await spotted(Market(keep=True))
        await market.lists.add(1, "TCS", FEB, STOCK)
        market.clock.advance(5.5 * 3600)
        await market.lists.end_of_day(self.NIGHT, market.clock.now(), {Exchange.NSE})
        assert market.wishes.total == 0
        assert market.lists.due_back(has_room=True) is None
        market.clock.advance(9 * 3600)
        assert await market.control.return_evicted() == 1
        assert market.lists.entries(1)[0].state == "ACTIVE"
        assert market.wishes.tier_a_count == 50

    async def test_dead_expiries_roll_on_and_it_is_said(self) -> None:
        start = HandClock().now().replace(day=10)
        market = await spotted(Market(keep=True, clock=HandClock(start)))
        await market.lists.add(1, "NIFTY", "10FEB2026", INDEX)
        await market.lists.add(2, "NIFTY", "10FEB2026", INDEX)
        await market.lists.add(2, "TCS", FEB, STOCK)
        market.clock.advance(5.5 * 3600)
        await market.lists.end_of_day("EOD:NSE:2026-02-10", market.clock.now(), {Exchange.NSE})
        (entry,) = market.lists.entries(1)
        assert entry.expiry == FEB
        assert entry.state_reason == "rolled on from 10FEB2026 at end of day; returns with the next session"
        to_all, *to_users = market.events("eod")
        assert (to_all.user_id, to_all.data["kept"]) == (None, 3)
        assert "NIFTY" not in str(to_all.data), "nobody learns what others have on their lists"
        rolled = [{"symbol": "NIFTY", "from": "10FEB2026", "to": "24FEB2026"}]
        assert [(event.user_id, event.data) for event in to_users] == [
            (user, {"phase": "rolled", "rolled": rolled}) for user in (1, 2)
        ]
        again = await Market(store=market.store, clock=market.clock, keep=True).start()
        again.clock.advance(18 * 3600)
        assert again.lists.due_back(has_room=False) is not None, "it still sleeps after a restart"

    async def test_a_kept_chain_without_room_says_so_and_holds_no_other_up(self) -> None:
        market = await spotted(Market(keep=True, limits=FeedLimits(3, 80, 10)))
        await market.lists.add(1, "TCS", FEB, STOCK)
        market.clock.advance(1)
        await market.lists.add(2, "NIFTY", FEB, INDEX)
        market.clock.advance(5.5 * 3600)
        await market.lists.end_of_day(self.NIGHT, market.clock.now(), {Exchange.NSE})
        market.clock.advance(1)
        await market.lists.add(3, "INFY", FEB, STOCK)
        market.clock.advance(18 * 3600)
        await market.control.return_evicted()
        await market.control.return_evicted()
        (small,), (large,) = market.lists.entries(1), market.lists.entries(2)
        assert (small.state, large.state) == ("ACTIVE", "EVICTED")
        assert large.state_reason == "no room when its session began"
        await market.lists.clear(3)
        await market.lists.clear(1)
        assert market.lists.due_back(has_room=True) is not None, "it waits for room like any that was evicted"

    async def test_a_chain_that_many_kept_returns_in_a_few_commits(self) -> None:
        market = await spotted(Market(keep=True))
        for user in range(1, 51):
            await market.lists.add(user, "TCS", FEB, STOCK)
        market.clock.advance(5.5 * 3600)
        await market.lists.end_of_day(self.NIGHT, market.clock.now(), {Exchange.NSE})
        market.clock.advance(18 * 3600)
        market.store.is_away = True
        with pytest.raises(StoreUnavailable):
            await market.control.return_evicted()
        assert market.wishes.total == 0
        market.store.is_away, before = False, market.store.commits
        await market.control.return_evicted()
        assert market.store.commits - before == 3, "20 entries of 50 legs in each"
        assert [event.user_id for event in market.events("restored")] == list(range(1, 51))
        assert {row.state for row in (await market.stored()).entries} == {"ACTIVE"}
        assert (market.wishes.total, len((await market.stored()).legs)) == (50, 50)

    async def test_what_rolls_onto_an_entry_added_since_gives_way_to_it(self) -> None:
        market = await spotted(Market(keep=True, clock=HandClock(HandClock().now().replace(day=10))))
        await market.lists.add(1, "NIFTY", "10FEB2026", INDEX)
        await market.lists.add(2, "TCS", FEB, STOCK)
        market.clock.advance(5.5 * 3600)
        moment = market.clock.now()
        market.clock.advance(1)
        await market.lists.add(1, "NIFTY", FEB, INDEX)
        assert await market.lists.end_of_day("EOD:NSE:2026-02-10", moment, {Exchange.NSE}) is not None
        assert [(entry.symbol, entry.expiry, entry.state) for entry in market.lists.entries(1)] == [
            ("NIFTY", FEB, "ACTIVE")
        ]
        assert market.lists.entries(2)[0].state == "EVICTED"

    async def test_made_up_for_the_next_morning_it_returns_with_the_session_that_runs(self) -> None:
        market = await spotted(Market(keep=True))
        await market.lists.add(1, "TCS", FEB, STOCK)
        missed = market.clock.now() + timedelta(hours=5.5)
        market.clock.advance(24 * 3600)
        await market.lists.end_of_day(self.NIGHT, missed, {Exchange.NSE})
        assert await market.control.return_evicted() == 1
        assert market.lists.entries(1)[0].state == "ACTIVE"

    async def test_made_up_for_on_the_day_of_expiry_it_does_not_roll_on(self) -> None:
        market = await spotted(Market(keep=True, clock=HandClock(HandClock().now().replace(day=9))))
        await market.lists.add(1, "NIFTY", "10FEB2026", INDEX)
        missed = market.clock.now() + timedelta(hours=5.5)
        market.clock.advance(23 * 3600)
        await market.lists.end_of_day("EOD:NSE:2026-02-09", missed, {Exchange.NSE})
        assert [entry.expiry for entry in market.lists.entries(1)] == [date(2026, 2, 10)]


async def test_a_chain_that_a_new_master_does_not_list_stops_following(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    await market.lists.add(1, "TCS", FEB, STOCK)

    def gone(*_: object) -> None:
        raise ExpiryUnknown("TCS has no options that expire on 24FEB2026", valid=[])

    monkeypatch.setattr(type(market.registry), "ladder", gone)
    market.clock.advance(60)
    market.quote("TCS", 3300.0)
    await market.control.step()
    assert market.wishes.tier_a_count == 50


class TestRestart:
    async def again(self, old: Market) -> Market:
        """A new process on the same store, without a single tick."""
        old.clock.advance(5)
        return await Market(store=old.store, clock=old.clock, limits=FeedLimits(3, 50, 10)).start()

    async def test_legs_come_back_without_a_spot(self, full: Market) -> None:
        before = {key for user in (1, 2, 3) for entry in full.lists.entries(user) for key in entry.legs}
        new = await self.again(full)
        assert {wish.instrument.key for wish in new.wishes.wishes()} == before
        assert new.lists.entries(2)[0].id == full.lists.entries(2)[0].id

    async def test_evicted_stays_evicted_and_order_of_use_survives(self, full: Market) -> None:
        await full.lists.add(9, "RELIANCE", FEB, STOCK)
        new = await spotted_again(await self.again(full))
        assert new.lists.entries(1)[0].state == "EVICTED"
        (leg, *_) = new.lists.entries(1)[0].legs
        assert new.wishes.is_evicted(leg)
        assert (await new.lists.add(8, "TCS", MAR, STOCK)).evicted[0].symbol == "INFY"

    async def test_stored_times_of_subscription_are_kept(self, full: Market) -> None:
        new = await self.again(full)
        first = new.wishes.wishes()[0]
        stored = {leg.token: leg.subscribed_at for leg in (await full.stored()).legs}
        assert first.since == stored[first.instrument.token]

    async def test_an_entry_that_is_no_longer_listed_is_shown_so(self, market: Market) -> None:
        await market.lists.add(1, "TCS", FEB, STOCK)
        row = (await market.stored()).entries[0]
        store = PausingStore(market.clock)
        await store.start()
        await store.commit(Changes(entries_added=[replace(row, symbol="GONE"), replace(row, expiry=date(2026, 1, 27))]))
        new = await Market(store=store, clock=market.clock).start()
        assert {entry.state for entry in new.lists.entries(1)} == {"EVICTED", "EXPIRED"}
        assert new.wishes.total == 0
        with pytest.raises(InstrumentUnknown):
            await new.lists.remove(2, "GONE")
        assert len((await new.lists.remove(1, " gone")).removed) == 1, "what is listed no more can still be taken off"
        assert [entry.symbol for entry in new.lists.entries(1)] == ["TCS"]


async def spotted_again(market: Market) -> Market:
    for symbol, price in (("RELIANCE", 3003.0), ("TCS", 3100.0), ("INFY", 1500.0), ("ONGC", 240.0)):
        market.quote(symbol, price)
    return market


async def test_views_tell_the_order_of_adding(market: Market) -> None:
    for symbol in ("TCS", "INFY", "ONGC"):
        await market.lists.add(1, symbol, FEB, STOCK)
    views = market.lists.entries(1)
    assert [(view.symbol, view.added_order) for view in views] == [("TCS", 1), ("INFY", 2), ("ONGC", 3)]
    assert {view.added_at.tzinfo for view in views} == {IST}
