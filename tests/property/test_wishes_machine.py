"""Users add, remove, share, evict, return and end their day while sockets come and go and the store fails: at every
moment counts are the sum of owners and nothing is over capacity; in the end store, audit, books and wire agree."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Coroutine
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from app.core.errors import CapacityExceeded, ExpiryUnknown, InstrumentUnknown, StoreUnavailable, TerminalError
from app.core.ids import Exchange, InstrumentKey
from app.market.atm_engine import ChainId
from app.market.instrument_master.registry import InstrumentRegistry
from app.market.instrument_master.scrip_csv import build_snapshot
from app.market.tiers import AlwaysOn
from app.market.wishes import TIER_B_OWNER
from app.ports.feed import FeedLimits
from app.ports.store import EntryState, InstrumentType
from tests.tiny_market import HandClock, Market, write_tiny_master

LIMITS = FeedLimits(connections=3, instruments_per_connection=60, instruments_per_message=20)
USERS = st.integers(1, 3)
SYMBOLS = st.sampled_from(["RELIANCE", "TCS", "INFY", "ONGC", "SBIN"])
EXPIRIES = st.sampled_from([date(2026, 2, 24), date(2026, 3, 30)])
SPOTS = {"RELIANCE": 2640.0, "TCS": 3100.0, "INFY": 1500.0, "ONGC": 240.0, "SBIN": 800.0}
ADDS = {"SUBSCRIBE", "RESTORE"}
STOCK = InstrumentType.STOCK_OPTION


@cache
def masters() -> tuple[TemporaryDirectory[str], list[Path]]:
    """Snapshots of a day's master and of a later morning's, and the folder that holds them."""
    folder = TemporaryDirectory()
    snapshots = []
    for is_renewed in (False, True):
        source = Path(folder.name) / f"{is_renewed}.csv"
        write_tiny_master(source, is_renewed=is_renewed)
        snapshots.append(source.with_suffix(".snapshot"))
        build_snapshot(source, snapshots[-1])
    return folder, snapshots


class WishesMachine(RuleBasedStateMachine):
    """Drives the real use cases over the real books; sockets are opened and cut by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.market = self.new_market(keep=False)
        self.days = 0
        self.moves = dict(SPOTS)

    def new_market(self, *, keep: bool) -> Market:
        clock = HandClock()
        registry = InstrumentRegistry(lambda: clock.now().date())
        registry.load(masters()[1][False])
        return Market(limits=LIMITS, registry=registry, clock=clock, keep=keep)

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    @initialize(keep=st.booleans())
    def begin(self, keep: bool) -> None:
        self.market = self.new_market(keep=keep)
        self.run(self.market.start(self.universe()))
        for symbol, price in SPOTS.items():
            self.market.quote(symbol, price)

    def universe(self) -> AlwaysOn:
        return AlwaysOn(drivers=(self.market.registry.by_token("NIFTY_IDX"),))

    # -- users

    @rule(user=USERS, symbol=SYMBOLS, expiry=EXPIRIES)
    def add(self, user: int, symbol: str, expiry: date) -> None:
        others = self._legs_of_others(user)
        try:
            result = self.run(self.market.lists.add(user, symbol, expiry, STOCK))
        except (TerminalError, StoreUnavailable):
            return
        assert len(result.legs) + len(result.missing) in (50, 24)
        assert all(self.market.wishes.is_owned(each.key) for each in result.legs)
        if not result.evicted:
            assert self._legs_of_others(user) == others

    @rule(wanted=st.lists(st.tuples(USERS, SYMBOLS, EXPIRIES), min_size=3, max_size=6))
    def everybody_adds(self, wanted: list[tuple[int, str, date]]) -> None:
        for user, symbol, expiry in wanted:
            self.add(user, symbol, expiry)

    @rule(
        user=USERS,
        symbol=SYMBOLS,
        expiry=EXPIRIES,
        moving=SYMBOLS,
        shift=st.integers(-4, 4),
        tier=st.sampled_from("AB"),
        master=st.sampled_from([None, None, False, True]),
    )
    def add_while_other_things_happen(
        self, user: int, symbol: str, expiry: date, moving: str, shift: int, tier: str, master: bool | None
    ) -> None:
        """The commit is under way: spots move, lingers end, somebody wishes by token, another master comes."""

        async def meanwhile() -> None:
            store = self.market.store
            store.gate, store.waiting = asyncio.Event(), asyncio.Event()
            adding = asyncio.ensure_future(self.market.lists.add(user, symbol, expiry, STOCK))
            waiting = asyncio.ensure_future(store.waiting.wait())
            await asyncio.wait([adding, waiting], return_when=asyncio.FIRST_COMPLETED)
            try:
                self.spot_moves(moving, shift)
                self.market.clock.advance(31)
                await self.market.control.step()
                self.market.wishes.subscribe(f"{moving}_EQ", tier=f"TIER_{tier}")
                self.market.wishes.subscribe(f"{moving}_24FEB2026_FUT", tier="TIER_A")
                self.counts_are_the_sum_of_owners()
                self.nothing_is_over_capacity_and_every_wish_has_a_home()
            finally:
                following = None if master is None else asyncio.ensure_future(self.follow(is_renewed=master))
                await asyncio.sleep(0)
                store.gate.set()
                waiting.cancel()
                await asyncio.gather(adding, waiting, return_exceptions=True)
                store.gate = None
                if following is not None:
                    await following
            assert adding.exception() is None or isinstance(adding.exception(), TerminalError)

        self.run(meanwhile())

    @rule(user=USERS, symbol=SYMBOLS, expiry=EXPIRIES, shift=st.integers(-6, 6))
    def take_explicitly(self, user: int, symbol: str, expiry: date, shift: int) -> None:
        with contextlib.suppress(CapacityExceeded, ExpiryUnknown, InstrumentUnknown, StoreUnavailable):
            self.run(self.market.lists.subscribe_chain(user, symbol, expiry, SPOTS[symbol] * (1 + shift / 100)))

    @rule(user=USERS, symbol=SYMBOLS)
    def remove(self, user: int, symbol: str) -> None:
        others = self._legs_of_others(user)
        try:
            self.run(self.market.lists.remove(user, symbol))
        except TerminalError:
            return
        assert self._legs_of_others(user) == others

    @rule(token=st.sampled_from(["TCS_EQ", "INFY_EQ", "RELIANCE_24FEB2026_2640CE"]), tier=st.sampled_from("AB"))
    def take_by_token(self, token: str, tier: str) -> None:
        self.market.wishes.subscribe(token, tier=f"TIER_{tier}")

    @rule(symbol=SYMBOLS, expiry=EXPIRIES)
    def look_at(self, symbol: str, expiry: date) -> None:
        self.market.lists.touch_shown([ChainId(symbol, expiry, Exchange.NSE)])

    # -- time and the market

    @rule(seconds=st.sampled_from([1, 6, 31, 61]))
    def time_passes(self, seconds: int) -> None:
        self.market.clock.advance(seconds)
        self.run(self.market.control.step())

    @rule(symbol=SYMBOLS, shift=st.integers(-4, 4))
    def spot_moves(self, symbol: str, shift: int) -> None:
        self.moves[symbol] = SPOTS[symbol] * (1 + shift / 100)
        self.spot_is(symbol, self.moves[symbol])

    def spot_is(self, symbol: str, price: float) -> None:
        if self.market.registry.spot_of(symbol, None) is not None:
            self.market.quote(symbol, price)

    @rule(is_renewed=st.booleans())
    def another_master_comes(self, is_renewed: bool) -> None:
        self.run(self.follow(is_renewed=is_renewed))

    async def follow(self, *, is_renewed: bool) -> None:
        await self.market.follow(masters()[1][is_renewed], self.universe)

    @rule(days=st.sampled_from([1, 1, 7, 21]))
    def nights_pass(self, days: int) -> None:
        self.market.clock.advance(days * 86_400)
        for symbol, price in self.moves.items():
            self.spot_is(symbol, price)
        self.run(self.market.control.step())
        self.evicted_return()

    @rule()
    def evicted_return(self) -> None:
        while (chain := self.market.lists.due_back(has_room=True)) is not None:
            try:
                if not self.run(self.market.lists.bring_back(chain)):
                    break
            except StoreUnavailable:
                break

    @precondition(lambda self: self.market.wishes.total > 100)
    @rule(late_s=st.sampled_from([0, 0, 31]))
    def day_ends(self, late_s: int) -> None:
        """A late one leaves what was added since its moment."""
        self.days += 1
        self.market.clock.advance(1)
        mark, moment = f"EOD:NSE:{self.days}", self.market.clock.now() - timedelta(seconds=late_s)
        try:
            assert self.run(self.market.lists.end_of_day(mark, moment, {Exchange.NSE})) is not None
        except StoreUnavailable:
            return
        assert late_s or self.market.wishes.tier_a_count == 0

    @rule(is_away=st.sampled_from([False, False, True]))
    def store_goes_or_comes(self, is_away: bool) -> None:
        self.market.store.is_away = is_away

    @rule()
    def rows_are_written_behind(self) -> None:
        with contextlib.suppress(StoreUnavailable):
            self.run(self.market.control.flush())

    # -- sockets

    @rule(index=st.integers(0, 2), is_up=st.booleans())
    def socket_comes_or_goes(self, index: int, is_up: bool) -> None:
        book = self.market.wire._book
        if is_up and not book.lines[index].is_open:
            book.opened(index)
        elif not is_up:
            book.lost(index)

    @rule(index=st.integers(0, 2))
    def a_message_leaves(self, index: int) -> None:
        self._send(index)

    @precondition(lambda self: not self.market.wire._book.moves)
    @rule()
    def rebalance(self) -> None:
        self.market.wire.rebalance()

    # -- what holds at every moment

    @invariant()
    def counts_are_the_sum_of_owners(self) -> None:
        wishes, lists = self.market.wishes, self.market.lists
        owners: dict[InstrumentKey, set[int]] = {}
        for wish in wishes.wishes():
            owners[wish.instrument.key] = set(wish.owners)
        held: dict[InstrumentKey, set[int]] = {}
        for claim in wishes.claims():
            for key in wishes.held_by(claim):
                held.setdefault(key, set()).add(claim)
        for key, each in owners.items():
            assert each - {TIER_B_OWNER} == held.get(key, set())
        assert set(held) <= set(owners)
        assert wishes.total == len(owners)
        assert wishes.tier_b_count == sum(TIER_B_OWNER in each for each in owners.values())
        assert wishes.tier_a_count == wishes.total - wishes.tier_b_count
        for entry in lists.book:
            if wishes.has_claim(entry.id):
                assert set(wishes.held_by(entry.id)) == {each.key for each in entry.legs}

    @invariant()
    def whatever_is_wished_is_what_its_id_stands_for(self) -> None:
        held = [wish.instrument for wish in self.market.wishes.wishes()]
        listed = self.market.registry.get_all([each.key for each in held])
        assert [each.token for each in held] == [None if now is None else now.token for now in listed]

    @invariant()
    def nothing_is_over_capacity_and_every_wish_has_a_home(self) -> None:
        wishes, wire = self.market.wishes, self.market.wire
        assert wishes.total <= LIMITS.capacity
        assert wishes.free >= 0
        assert sum(wire.ws_usage().values()) == wishes.total + wishes.lingering <= LIMITS.capacity
        assert all(load <= LIMITS.instruments_per_connection for load in wire.ws_usage().values())
        assert all(wire.ws_id(wish.instrument.key) for wish in wishes.wishes())

    def teardown(self) -> None:
        """Faults stop: within moments store, audit, lists, books and wire agree, and then there is quiet."""
        try:
            self._settle_and_compare()
        finally:
            self.loop.close()

    def _settle_and_compare(self) -> None:
        self.market.store.is_away = False
        self.time_passes(31)
        self.run(self.market.control.flush())
        self.run(self._agree())
        for index in range(LIMITS.connections):
            self.socket_comes_or_goes(index, True)
        for _ in range(40):
            self.market.clock.advance(6)
            self.market.wire.reconcile()
            for index in range(LIMITS.connections):
                self._send(index)
        carried = [key for line in self.market.wire._book.lines for key in line.carried]
        wished = {wish.instrument.key for wish in self.market.wishes.wishes()}
        assert sorted(carried) == sorted(wished | set(self.market.wishes._lingering))
        assert self.market.wire.is_settled

    async def _agree(self) -> None:
        stored = await self.market.stored()
        wished = {wish.instrument.token for wish in self.market.wishes.wishes()}
        assert {leg.token for leg in stored.legs} == wished
        balance: Counter[str] = Counter()
        for action, token in await self.market.audit():
            balance[token] += 1 if action in ADDS else -1
        assert {token for token, count in balance.items() if token != "*" and count} == wished
        assert all(balance[token] == 1 for token in wished)
        rows = {row.id: row for row in stored.entries}
        assert set(rows) == {entry.id for entry in self.market.lists.book}
        for entry in self.market.lists.book:
            assert rows[entry.id].state is entry.row.state
            assert (entry.row.state is EntryState.ACTIVE) is self.market.wishes.has_claim(entry.id)
        assert not self.market.journal.has_work

    def _send(self, index: int) -> None:
        book = self.market.wire._book
        if command := book.take(index):
            book.done(index, command)

    def _legs_of_others(self, user: int) -> dict[int, set[InstrumentKey]]:
        return {
            entry.id: set(self.market.wishes.held_by(entry.id))
            for entry in self.market.lists.book
            if entry.row.user_id != user
        }


TestWishesMachine = WishesMachine.TestCase
TestWishesMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
