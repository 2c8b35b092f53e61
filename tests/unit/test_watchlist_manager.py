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
    CapacityExceeded,
    ExpiryUnknown,
    InstrumentUnknown,
    InvalidRequest,
    NotInWatchlist,
    SpotUnknown,
    StoreUnavailable,
)
from app.core.ids import Exchange, OptionType
from app.market.atm_engine import ChainId
from app.ports.feed import FeedLimits
from app.ports.store import Changes, EntryState, InstrumentType
from tests.tiny_market import IST, NO_PUT_AT, HandClock, Market, PausingStore

STOCK, INDEX = InstrumentType.STOCK_OPTION, InstrumentType.INDEX_OPTION
FEB, MAR = date(2026, 2, 24), date(2026, 3, 30)
SMALL = FeedLimits(connections=3, instruments_per_connection=50, instruments_per_message=10)  # room for three chains


@pytest.fixture
async def market() -> Market:
    return await spotted(Market())


@pytest.fixture
async def full() -> Market:
    """Three chains of 50, 50 and 50 in 150 places, TCS used longest ago."""
    market = await spotted(Market(limits=SMALL))
    for user, (symbol, expiry) in enumerate((("TCS", FEB), ("INFY", FEB), ("ONGC", FEB)), start=1):
        await market.lists.add(user, symbol, expiry, STOCK)
        market.clock.advance(1)
    return market


async def spotted(market: Market) -> Market:
    await market.start()
    for symbol, price in (("RELIANCE", 3003.0), ("TCS", 3100.0), ("INFY", 1500.0), ("ONGC", 240.0), ("SBIN", 800.0)):
        market.quote(symbol, price)
    market.quote("NIFTY", 25_010.0)
    return market


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


class TestEviction:
    async def test_the_least_recently_used_chain_goes_whole_and_is_told(self, full: Market) -> None:
        result = await full.lists.add(9, "RELIANCE", FEB, STOCK)
        assert [(each.symbol, each.expiry, each.legs, each.owner) for each in result.evicted] == [
            ("TCS", FEB, 50, "other")
        ]
        (entry,) = full.lists.entries(1)
        assert entry.state == "EVICTED"
        assert entry.state_reason is not None
        assert "RELIANCE 24FEB2026" in entry.state_reason
        assert [(event.user_id, event.data["symbol"]) for event in full.events("evicted")] == [(1, "TCS")]
        stored = await full.stored()
        assert {row.symbol: row.state for row in stored.entries}["TCS"] is EntryState.EVICTED
        assert {leg.symbol for leg in stored.legs} == {"INFY", "ONGC", "RELIANCE"}
        evicted = [token for action, token in await full.audit() if action == "RATE_LIMIT_EVICT"]
        assert len(evicted) == 50

    async def test_the_owner_is_you_when_it_was_yours(self, full: Market) -> None:
        assert (await full.lists.add(1, "RELIANCE", FEB, STOCK)).evicted[0].owner == "you"

    async def test_use_decides_and_a_screen_protects(self, full: Market) -> None:
        full.lists.touch_shown([ChainId("TCS", FEB, Exchange.NSE)])
        assert (await full.lists.add(9, "RELIANCE", FEB, STOCK)).evicted[0].symbol == "INFY"
        full.clock.advance(60)
        assert (await full.lists.add(9, "RELIANCE", MAR, STOCK)).evicted[0].symbol == "ONGC"

    async def test_opening_a_chain_is_a_use_but_no_place_on_a_screen(self, full: Market) -> None:
        full.lists.touch_opened(ChainId("TCS", FEB, Exchange.NSE))
        full.lists.touch_shown([ChainId("ONGC", FEB, Exchange.NSE)])
        assert (await full.lists.add(9, "RELIANCE", FEB, STOCK)).evicted[0].symbol == "INFY"
        assert (await full.lists.add(9, "RELIANCE", MAR, STOCK)).evicted[0].symbol == "TCS"

    async def test_a_list_on_a_screen_protects_its_chains(self, full: Market) -> None:
        full.lists.touch_entries(1)
        assert (await full.lists.add(9, "RELIANCE", FEB, STOCK)).evicted[0].symbol == "INFY"

    async def test_a_long_list_on_a_screen_keeps_its_order_of_use(self) -> None:
        limits = FeedLimits(connections=4, instruments_per_connection=120, instruments_per_message=10)
        market = await spotted(Market(limits=limits))
        chains = [(symbol, day) for day in (FEB, MAR) for symbol in ("TCS", "INFY", "ONGC", "RELIANCE")]
        for symbol, day in [*chains, ("SBIN", FEB)]:
            await market.lists.add(1, symbol, day, STOCK)
            market.clock.advance(1)
        for _ in range(3):
            market.lists.touch_entries(1)
            market.clock.advance(1)
        assert (await market.lists.add(2, "SBIN", MAR, STOCK)).evicted == ()
        await market.lists.add(2, "TCS", None, InstrumentType.FUTURE)
        options = market.registry.get_option_chain("NIFTY", date(2026, 2, 10))
        assert market.wishes.add_tier_b(options[: market.wishes.free])
        result = await market.lists.add(2, "INFY", None, InstrumentType.FUTURE)
        assert [(each.symbol, each.expiry) for each in result.evicted] == [("TCS", FEB)]

    async def test_evicted_together_with_every_other_owner_of_the_chain(self, full: Market) -> None:
        await full.lists.add(7, "TCS", FEB, STOCK)
        full.lists.touch_shown([ChainId(name, FEB, Exchange.NSE) for name in ("INFY", "ONGC")])
        await full.lists.add(9, "RELIANCE", FEB, STOCK)
        assert {full.lists.entries(user)[0].state for user in (1, 7)} == {"EVICTED"}
        assert {event.user_id for event in full.events("evicted")} == {1, 7}

    async def test_what_cannot_fit_is_refused_whole(self, full: Market) -> None:
        with pytest.raises(CapacityExceeded) as caught:
            await full.lists.add(9, "NIFTY", None, INDEX)
        assert caught.value.extra["short"] == 202
        assert full.wishes.total == 150
        assert {entry.state for user in (1, 2, 3) for entry in full.lists.entries(user)} == {"ACTIVE"}

    async def test_tier_b_never_gives_way(self) -> None:
        market = await spotted(Market(limits=SMALL))
        options = market.registry.get_option_chain("TCS", FEB)
        assert market.wishes.add_tier_b(options[:110])
        with pytest.raises(CapacityExceeded) as caught:
            await market.lists.add(1, "INFY", FEB, STOCK)
        assert caught.value.extra["short"] == 10
        assert market.wishes.tier_b_count == 110

    async def test_a_failed_commit_evicts_nobody(self, full: Market) -> None:
        full.store.is_away = True
        with pytest.raises(StoreUnavailable):
            await full.lists.add(9, "RELIANCE", FEB, STOCK)
        assert full.lists.entries(1)[0].state == "ACTIVE"
        assert full.wishes.total == 150
        assert full.events("evicted") == []

    async def test_room_is_kept_while_the_commit_is_under_way(self) -> None:
        market = await spotted(Market(limits=SMALL))
        for user, symbol in enumerate(("TCS", "INFY"), start=1):
            await market.lists.add(user, symbol, FEB, STOCK)
        market.store.gate = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(market.lists.add(3, "ONGC", FEB, STOCK))
            await market.store.waiting.wait()
            assert market.wishes.free == 0
            assert not market.wishes.add_tier_b([market.registry.by_token("RELIANCE_EQ")])
            market.store.gate.set()
        assert market.wishes.total == 150

    async def test_re_adding_takes_an_evicted_entry_back_in(self, full: Market) -> None:
        await full.lists.add(9, "RELIANCE", FEB, STOCK)
        result = await full.lists.add(1, "TCS", FEB, STOCK)
        assert [each.symbol for each in result.evicted] == ["INFY"]
        assert [entry.state for entry in full.lists.entries(1)] == ["ACTIVE"]
        assert len((await full.stored()).entries) == 4


class TestReturn:
    async def test_it_returns_by_itself_the_most_recently_used_first(self, full: Market) -> None:
        await full.lists.add(9, "RELIANCE", FEB, STOCK)
        await full.lists.add(9, "RELIANCE", MAR, STOCK)
        assert full.lists.due_back(has_room=False) is None
        await full.lists.remove(9, "RELIANCE", FEB)
        due = full.lists.due_back(has_room=True)
        assert due is not None
        assert due.symbol == "INFY"
        assert await full.lists.bring_back(due)
        assert full.lists.entries(2)[0].state == "ACTIVE"
        assert [(event.user_id, event.data["symbol"]) for event in full.events("restored")] == [(2, "INFY")]
        assert [token for action, token in await full.audit() if action == "RESTORE"]
        later = full.lists.due_back(has_room=True)
        assert later is not None
        assert not await full.lists.bring_back(later)  # TCS: nobody is evicted for it
        assert full.wishes.total == 150

    async def test_a_return_is_no_use(self, full: Market) -> None:
        await full.lists.add(9, "RELIANCE", FEB, STOCK)
        await full.lists.remove(9, "RELIANCE")
        due = full.lists.due_back(has_room=True)
        assert due is not None
        assert await full.lists.bring_back(due)
        assert (await full.lists.add(9, "RELIANCE", FEB, STOCK)).evicted[0].symbol == "TCS"


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
        market.clock.advance(5.5 * 3600)
        await market.lists.end_of_day("EOD:NSE:2026-02-10", market.clock.now(), {Exchange.NSE})
        assert [entry.expiry for entry in market.lists.entries(1)] == [FEB]
        (event,) = market.events("eod")
        assert event.data["rolled"] == [{"user_id": 1, "symbol": "NIFTY", "from": "10FEB2026", "to": "24FEB2026"}]

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


class TestEvictedMarks:
    """An instrument is EVICTED only while an entry that lost it waits for it."""

    async def test_a_re_added_window_elsewhere_leaves_no_mark_behind(self, full: Market) -> None:
        await full.lists.add(9, "RELIANCE", FEB, STOCK)
        lost = full.lists.entries(1)[0].legs
        full.quote("TCS", 3300.0)
        await full.lists.add(1, "TCS", FEB, STOCK)
        assert not any(full.wishes.is_evicted(key) for key in lost)

    async def test_a_return_elsewhere_leaves_no_mark_behind(self, full: Market) -> None:
        await full.lists.add(9, "RELIANCE", FEB, STOCK)
        lost = full.lists.entries(1)[0].legs
        await full.lists.remove(9, "RELIANCE")
        full.quote("TCS", 3300.0)
        due = full.lists.due_back(has_room=True)
        assert due is not None
        assert await full.lists.bring_back(due)
        assert not any(full.wishes.is_evicted(key) for key in lost)

    async def test_another_owner_who_waits_keeps_the_mark(self, full: Market) -> None:
        await full.lists.add(7, "TCS", FEB, STOCK)
        full.lists.touch_shown([ChainId(name, FEB, Exchange.NSE) for name in ("INFY", "ONGC")])
        await full.lists.add(9, "RELIANCE", FEB, STOCK)
        await full.lists.remove(1, "TCS")
        assert all(full.wishes.is_evicted(key) for key in full.lists.entries(7)[0].legs)
        await full.lists.remove(7, "TCS")
        assert not any(full.wishes.is_evicted(each.key) for each in full.registry.get_option_chain("TCS", FEB))

    async def test_released_by_hand_is_not_evicted_after_a_restart_either(self, market: Market) -> None:
        await market.lists.add(1, "TCS", FEB, STOCK)
        await market.lists.unsubscribe_all_tier_a()
        new = await Market(store=market.store, clock=market.clock).start()
        for each in (market, new):
            (entry,) = each.lists.entries(1)
            assert entry.state == "EVICTED"
            assert not any(each.wishes.is_evicted(key) for key in entry.legs)


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
