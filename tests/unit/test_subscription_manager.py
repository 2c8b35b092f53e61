"""The books of the wishes: counts, tiers, linger, admission, eviction, moves, wishes by token."""

from __future__ import annotations

import random
from collections.abc import Iterable
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.errors import CapacityExceeded
from app.core.ids import InstrumentKey, Segment
from app.core.instruments import Instrument
from app.core.sessions import Calendar
from app.market.eviction import Candidate, ChainKey, choose_victims
from app.market.live_prices import LivePrices
from app.market.subscription_manager import TIER_B_OWNER, SubscriptionManager
from app.market.ws_manager import PoolHooks, PoolPolicy, WebSocketManager
from app.ports.feed import FeedLimits
from app.ports.store import InstrumentType
from tests.tiny_market import DHAN, IST, HandClock, share, tiny_registry

FEB = date(2026, 2, 24)
SMALL = FeedLimits(connections=2, instruments_per_connection=10, instruments_per_message=5)


class Books:
    """Wishes over a wire that never opens a socket: placement is real, sending is not needed."""

    def __init__(self, limits: FeedLimits = SMALL) -> None:
        self.clock = HandClock()
        self.board = LivePrices(limits.capacity, limits.connections)
        self.wire = WebSocketManager(
            self.board, None, limits, Calendar((), IST, always_open=True), self.clock, random.Random(1),
            policy=PoolPolicy(), hooks=PoolHooks(),
        )  # fmt: skip
        self.wishes = SubscriptionManager(tiny_registry(), self.wire, limits, self.clock)
        self.wire.bind(self.wishes)

    def take(self, owner: int, numbers: Iterable[int], name: str = "") -> list[str]:
        """One owner wishes shares by number; returns the names of the chains that gave way."""
        chain = named(name or f"C{owner}")
        admission = self.wishes.admit(shares(numbers), chain)
        self.wishes.want(admission, owner)
        self.clock.advance(1)
        return [victim.chain.symbol for victim in admission.victims]

    @property
    def placed(self) -> int:
        return sum(self.wire.ws_usage().values())


def shares(numbers: Iterable[int]) -> list[Instrument]:
    return [share(number) for number in numbers]


def named(symbol: str) -> ChainKey:
    return ChainKey("NSE", symbol, FEB, InstrumentType.STOCK_OPTION)


@pytest.fixture
def books() -> Books:
    return Books()


class TestCounts:
    def test_shared_legs_count_once_and_stay_until_the_last_owner(self, books: Books) -> None:
        books.take(1, range(1, 6))
        books.take(2, range(4, 9))
        assert (books.wishes.total, books.wishes.tier_a_count) == (8, 8)
        assert [each.key.security_id for each in books.wishes.release(1)] == [1, 2, 3]
        assert books.wishes.total == 5

    def test_what_tier_b_owns_counts_as_b_only(self, books: Books) -> None:
        books.wishes.add_tier_b(shares(range(1, 4)))
        books.take(1, range(3, 6))
        assert (books.wishes.tier_b_count, books.wishes.tier_a_count) == (3, 2)
        books.wishes.move(TIER_B_OWNER, [], [share(3).key])
        assert (books.wishes.tier_b_count, books.wishes.tier_a_count) == (2, 3)

    def test_stats_are_of_owned_instruments(self, books: Books) -> None:
        books.take(1, range(1, 6))
        books.wishes.release(1)
        books.take(2, range(1, 3))
        stats = books.wishes.get_ws_stats()
        assert (stats["total_subscriptions"], stats["lingering"]) == (2, 3)
        assert stats["utilization_percent"] == 10.0
        assert stats["max_capacity"] == 20


class TestLinger:
    def test_the_books_change_at_once_and_the_wire_after_the_linger(self, books: Books) -> None:
        books.take(1, range(1, 6))
        books.wishes.release(1)
        assert (books.wishes.total, books.placed) == (0, 5)
        books.clock.advance(29.9)
        assert books.wishes.expire_lingering() == 0
        books.clock.advance(0.2)
        assert books.wishes.expire_lingering() == 5
        assert (books.placed, len(books.board.buffers.slot_of)) == (0, 0)

    def test_a_changed_mind_costs_nothing_on_the_wire(self, books: Books) -> None:
        books.take(1, range(1, 6))
        slot, home = books.board.slot(share(1).key), books.wire.ws_id(share(1).key)
        books.wishes.release(1)
        books.take(2, range(1, 6))
        books.clock.advance(60)
        assert books.wishes.expire_lingering() == 0
        assert (books.board.slot(share(1).key), books.wire.ws_id(share(1).key)) == (slot, home)

    def test_lingering_places_are_given_up_first(self, books: Books) -> None:
        books.take(1, range(1, 11))
        books.take(2, range(11, 21))
        books.wishes.release(1)
        assert books.take(3, range(21, 26)) == []
        assert (books.placed, books.wishes.lingering) == (20, 5)
        assert books.wishes.held_by(2) == tuple(share(number).key for number in range(11, 21))

    def test_a_request_takes_its_own_lingering_legs_back_even_when_full(self, books: Books) -> None:
        books.take(1, range(1, 11))
        books.take(2, range(11, 21))
        books.wishes.release(1)
        slots = {number: books.board.slot(share(number).key) for number in range(1, 6)}
        books.take(3, range(5, 0, -1))
        books.take(4, range(21, 26))
        assert {number: books.board.slot(share(number).key) for number in range(1, 6)} == slots


class TestAdmission:
    def test_it_is_all_or_nothing(self, books: Books) -> None:
        books.wishes.add_tier_b(shares(range(1, 19)))
        with pytest.raises(CapacityExceeded) as caught:
            books.take(1, range(19, 24))
        assert caught.value.extra["short"] == 3
        assert (books.wishes.total, books.wishes.free) == (18, 2)

    def test_the_least_recently_used_goes_whole_and_no_more_than_needed(self, books: Books) -> None:
        for owner, first in ((1, 1), (2, 6), (3, 11), (4, 16)):
            books.take(owner, range(first, first + 5))
        assert books.take(5, range(21, 25)) == ["C1"]
        assert books.wishes.is_evicted(share(1).key)
        books.wishes.touch(named("C2"), books.clock.now_ms())
        assert books.take(6, range(31, 36)) == ["C3"]

    def test_all_owners_of_a_chain_go_together(self, books: Books) -> None:
        books.take(1, range(1, 11), "X")
        books.take(2, range(1, 11), "X")
        books.take(3, range(11, 21), "Y")
        assert books.take(4, range(21, 26)) == ["X"]
        assert not books.wishes.has_claim(1)
        assert not books.wishes.has_claim(2)

    def test_a_chain_that_frees_nothing_is_spared(self, books: Books) -> None:
        books.wishes.add_tier_b(shares(range(1, 6)))
        books.take(1, range(1, 6), "SHARED")
        books.take(2, range(6, 21), "Y")
        assert books.take(3, range(21, 26)) == ["Y"]
        assert books.wishes.has_claim(1)

    def test_the_request_itself_never_gives_way(self, books: Books) -> None:
        books.take(1, range(1, 11), "X")
        books.take(2, range(11, 21), "Y")
        assert books.take(3, range(21, 26), "X") == ["Y"]
        assert books.wishes.held_by(1) == tuple(share(number).key for number in range(1, 11))
        assert books.wishes.total == 15

    def test_a_leg_shared_with_a_victim_keeps_its_place(self, books: Books) -> None:
        books.take(1, range(1, 11), "X")
        books.take(2, range(11, 21), "Y")
        slot = books.board.slot(share(10).key)
        assert books.take(3, [21, 10, 22], "Z") == ["X"]
        assert books.board.slot(share(10).key) == slot
        assert books.wishes.total == 13

    def test_what_is_on_a_screen_goes_last(self, books: Books) -> None:
        books.take(1, range(1, 11), "X")
        books.take(2, range(11, 21), "Y")
        books.wishes.show(named("X"), books.clock.now_ms())
        assert books.take(3, range(21, 26)) == ["Y"]
        books.clock.advance(3600)
        assert books.take(4, range(31, 46)) == ["X"]

    def test_room_promised_to_tier_b_is_not_given_away(self, books: Books) -> None:
        books.wishes.promise_tier_b(15)
        with pytest.raises(CapacityExceeded):
            books.take(1, range(1, 7))
        books.take(1, range(1, 6))
        books.wishes.promise_tier_b(0)
        assert books.wishes.add_tier_b(shares(range(10, 25)))


class TestPending:
    def test_a_pending_admission_counts_for_everybody_else(self, books: Books) -> None:
        admission = books.wishes.admit(shares(range(1, 16)), named("X"))
        assert not books.wishes.add_tier_b(shares(range(21, 27)))
        assert books.wishes.add_tier_b(shares(range(21, 26)))
        books.wishes.want(admission, 1)
        assert books.wishes.total == 20

    def test_withdrawing_gives_the_room_back(self, books: Books) -> None:
        books.take(1, range(1, 21), "X")
        admission = books.wishes.admit(shares(range(21, 31)), named("Y"))
        assert books.wishes.is_doomed(1)
        books.wishes.withdraw(admission)
        assert (books.wishes.free, books.wishes.is_doomed(1), books.wishes.total) == (0, False, 20)

    def test_what_a_victim_frees_may_not_be_taken_twice(self, books: Books) -> None:
        books.take(1, range(1, 21), "X")
        admission = books.wishes.admit(shares(range(21, 41)), named("Y"))
        assert books.wishes.free == 0
        assert not books.wishes.add_tier_b([share(50)])
        assert not books.wishes.add_tier_b([share(1)])  # it is about to leave, and its place is given away
        books.wishes.want(admission, 2)
        assert books.wishes.total == 20

    def test_a_leg_released_meanwhile_is_still_paid_for(self, books: Books) -> None:
        books.take(1, range(1, 6), "X")
        admission = books.wishes.admit(shares(range(1, 11)), named("Y"))
        books.wishes.release(1)
        assert books.wishes.free == 10
        books.wishes.want(admission, 2)
        assert (books.wishes.total, books.wishes.free) == (10, 10)

    def test_doomed_windows_stand_still(self, books: Books) -> None:
        books.take(1, range(1, 21), "X")
        books.wishes.admit(shares(range(21, 41)), named("Y"))
        assert not books.wishes.move(1, [share(60)], [share(1).key])


class TestMoves:
    def test_new_legs_come_before_old_ones_leave_the_wire(self, books: Books) -> None:
        books.take(1, range(1, 6))
        assert books.wishes.move(1, shares(range(6, 8)), [share(1).key, share(2).key])
        assert (books.wishes.total, books.placed) == (5, 7)

    def test_without_room_old_legs_leave_first(self, books: Books) -> None:
        books.take(1, range(1, 21))
        assert books.wishes.move(1, [share(21)], [share(1).key])
        assert (books.wishes.total, books.placed) == (20, 20)
        assert books.board.slot(share(1).key) is None

    def test_a_shared_old_leg_makes_no_room(self, books: Books) -> None:
        books.take(1, range(1, 21), "X")
        books.take(2, range(1, 2), "Y")
        assert not books.wishes.move(1, [share(21)], [share(1).key])
        assert share(1).key in books.wishes.held_by(1)


class TestByToken:
    def test_by_position_and_by_keyword(self) -> None:
        books = Books(DHAN)
        assert books.wishes.subscribe("NIFTY_10FEB2026_25000CE", "NIFTY", "10FEB2026", 25_000.0, "CE", "TIER_B") == (
            True,
            "NIFTY_10FEB2026_25000CE subscribed in TIER_B",
            1,
        )
        ok, _, ws_id = books.wishes.subscribe(
            token="TCS_EQ", symbol="TCS", expiry=None, strike=None, option_type=None, tier="TIER_A"
        )
        assert (ok, ws_id) == (True, 2)
        assert (books.wishes.tier_a_count, books.wishes.tier_b_count) == (1, 1)

    @pytest.mark.parametrize(
        ("token", "found"),
        [
            ("CRUDEOIL_FUT", "CRUDEOIL_19FEB2026_FUT"),
            ("tcs_eq", "TCS_EQ"),
            ("ONGC_24FEB2026_242.5PE", "ONGC_24FEB2026_242.5PE"),
            ("NIFTY_IDX", "NIFTY_IDX"),
        ],
    )
    def test_aliases_and_spellings(self, token: str, found: str) -> None:
        books = Books(DHAN)
        assert books.wishes.subscribe(token)[0]
        assert [row["token"] for row in books.wishes.list_active_subscriptions()] == [found]

    @pytest.mark.parametrize("rounded", ["242CE", "240CE"])  # not listed; another strike
    def test_the_parts_name_what_a_rounded_token_does_not(self, rounded: str) -> None:
        books = Books(DHAN)
        assert books.wishes.subscribe(f"ONGC_24FEB2026_{rounded}", "ONGC", "24FEB2026", 242.5, "CE")[0]
        (row,) = books.wishes.list_active_subscriptions(tier="TIER_A", symbol="ONGC")
        assert (row["token"], row["strike"], row["owners"]) == ("ONGC_24FEB2026_242.5CE", 242.5, 1)

    def test_refusals_are_said(self) -> None:
        books = Books(DHAN)
        assert books.wishes.subscribe("NOSUCH_EQ")[0] is False
        assert books.wishes.subscribe("TCS_EQ", tier="TIER_C")[::2] == (False, None)
        for parts in (("garbage", 240.0, "CE"), ("24FEB2026", 241.0, "CE"), ("24FEB2026", 240.0, "XX")):
            assert books.wishes.subscribe("ONGC_24FEB2026_240CE", "ONGC", *parts)[::2] == (False, None)
        assert books.wishes.unsubscribe("TCS_EQ") == (False, "TCS_EQ is not subscribed")
        assert books.wishes.total == 0

    def test_again_changes_nothing_and_unsubscribing_leaves_others(self) -> None:
        books = Books(DHAN)
        tcs = books.wishes._registry.by_token("TCS_EQ")
        books.wishes.want(books.wishes.admit([tcs], named("TCS")), 1)
        for _ in range(2):
            assert books.wishes.subscribe("TCS_EQ")[0]
        assert books.wishes.unsubscribe("TCS_EQ")[0]
        assert books.wishes.unsubscribe("TCS_EQ") == (False, "TCS_EQ is held by others")
        assert books.wishes.total == 1

    def test_all_of_tier_a_leaves(self) -> None:
        books = Books(DHAN)
        books.wishes.subscribe("TCS_EQ")
        books.wishes.subscribe("NIFTY_IDX", tier="TIER_B")
        books.wishes.want(books.wishes.admit(shares(range(1, 11)), named("X")), 1)
        assert books.wishes.unsubscribe_all_tier_a() == 11
        assert (books.wishes.tier_a_count, books.wishes.tier_b_count) == (0, 1)
        assert {swept.owner for swept in books.wishes.take_swept()} == {-1, 1}
        assert books.wishes.subscribe("TCS_EQ")[0]

    def test_it_evicts_as_any_other_wish_does(self) -> None:
        books = Books()
        books.take(1, range(1, 21), "X")
        assert books.wishes.subscribe("TCS_EQ")[0]
        (swept,) = books.wishes.take_swept()
        assert (swept.owner, swept.evicted, len(swept.freed)) == (1, True, 20)
        assert books.wishes.total == 1

    def test_the_wires_doors_are_the_same_wishes(self) -> None:
        books = Books(DHAN)
        assert books.wire.add_instrument("TCS_EQ") == 1
        assert books.wishes.total == 1
        assert books.wire.remove_instrument("TCS_EQ")
        assert books.wishes.total == 0


def test_listings_go_by_number_and_can_be_continued() -> None:
    books = Books(DHAN)
    books.take(1, range(1, 4))
    books.take(2, range(10, 12))
    listed = books.wishes.wishes()
    numbers = [wish.number for wish in listed]
    assert numbers == sorted(numbers)
    assert [wish.instrument.key.security_id for wish in listed] == [1, 2, 3, 10, 11]
    books.wishes.release(1)
    books.take(3, [2])  # a changed mind: it lingered, and goes to the end
    assert [wish.instrument.key.security_id for wish in books.wishes.wishes()] == [10, 11, 2]
    assert books.wishes.wish_of_token(listed[3].instrument.token) is listed[3]
    assert [wish.instrument.key.security_id for wish in books.wishes.listed("TIER_A")] == [10, 11, 2]
    assert list(books.wishes.listed("TIER_B")) == list(books.wishes.listed("TIER_C")) == []


@pytest.mark.parametrize("count", [100, 1_000, 10_000, 25_000])
def test_many_wishes_are_spread_within_one(count: int) -> None:
    books = Books(DHAN)
    books.take(1, range(1, count + 1))
    usage = books.wire.ws_usage()
    assert sum(usage.values()) == books.wishes.total == count
    assert max(usage.values()) - min(usage.values()) <= 1


KEYS = st.sets(st.integers(1, 12), max_size=6).map(
    lambda numbers: [InstrumentKey(Segment.NSE_FNO, number) for number in sorted(numbers)]
)


@given(st.lists(KEYS, max_size=6), KEYS, st.sets(st.integers(1, 12), max_size=3), st.integers(1, 8))
def test_victims_free_enough_or_there_are_none(
    held: list[list[InstrumentKey]], wanted: list[InstrumentKey], fixed: set[int], short: int
) -> None:
    candidates = [Candidate(named(f"C{number}"), {number: keys}) for number, keys in enumerate(held)]
    keepers = {InstrumentKey(Segment.NSE_FNO, number) for number in fixed}

    def holders(key: InstrumentKey) -> int:
        return sum(key in keys for keys in held) + (key in keepers)

    def freed_by(chosen: list[int]) -> set[InstrumentKey]:
        gone = {key for number in chosen for key in held[number]}
        stay = {key for number, keys in enumerate(held) if number not in chosen for key in keys} | keepers
        return gone - stay - set(wanted)

    victims = choose_victims(candidates, short, holders, set(wanted))
    chosen = [victim.owners[0] for victim in victims]
    if not victims:
        assert len(freed_by(list(range(len(held))))) < short
        return
    told = [key for victim in victims for key in victim.freed]
    assert len(told) == len(set(told)) >= short
    assert set(told) == freed_by(chosen)
    assert chosen == sorted(chosen)
    assert len(freed_by(list(range(chosen[-1])))) < short, "the last was not needed"
