"""Which chain gives way when all places are taken, who is told, and how it comes back."""

from __future__ import annotations

import asyncio
from datetime import date

import pytest

from app.core.errors import (
    CapacityExceeded,
    StoreUnavailable,
)
from app.core.ids import Exchange
from app.market.atm_engine import ChainId
from app.ports.feed import FeedLimits
from app.ports.store import EntryState, InstrumentType
from tests.tiny_market import Market
from tests.unit.spotted_market import FEB, INDEX, MAR, SMALL, STOCK, full_market, spotted


@pytest.fixture
async def market() -> Market:
    return await spotted(Market())


@pytest.fixture
async def full() -> Market:
    return await full_market()


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
