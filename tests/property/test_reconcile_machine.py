"""Wishes and wire under every interleaving: sockets come and go, plans are sent in part, keys move and change mind."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from app.core.ids import InstrumentKey, Mode, Segment
from app.market.carried import MOVE_TIMEOUT_MS, CarriedBook, Precedence
from app.market.live_prices import LivePrices
from app.market.reconcile import Command
from app.ports.feed import NO_SOCKET, FeedLimits
from tests.tiny_market import HandClock, share

LIMITS = FeedLimits(connections=3, instruments_per_connection=5, instruments_per_message=2)
NUMBERS = st.integers(1, 18)
LINES = st.integers(0, LIMITS.connections - 1)
ALL = {number: share(number, segment=Segment.IDX_I if number % 5 == 0 else Segment.NSE_EQ) for number in range(1, 19)}


class WireMachine(RuleBasedStateMachine):
    """The exchange's side is kept beside the book and obeys what is sent; at the end both agree."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = HandClock()
        self.board = LivePrices(LIMITS.capacity, LIMITS.connections)
        self.book = CarriedBook(self.board, LIMITS, self.clock.now_ms)
        self.book.rank_by(lambda key: Precedence(min(2, key.security_id // 5)))
        self.wished: set[InstrumentKey] = set()
        self.venue: list[dict[InstrumentKey, Mode] | None] = [None] * LIMITS.connections
        self.in_flight: dict[int, Command] = {}
        self.repeating: set[int] = set()  # lines whose message under way asks for what they carry already
        self.last_unwished = 0

    @initialize(is_busy=st.booleans())
    def begin(self, is_busy: bool) -> None:
        """Every other time all is up and nearly full: what is rare from an empty start is likely from there."""
        for index in range(LIMITS.connections if is_busy else 0):
            self.socket_opens(index)
        self.wish_many(set(range(1, LIMITS.capacity)) if is_busy else set())
        for index in range(LIMITS.connections):
            self.a_quiet_moment(index)

    @rule(number=NUMBERS)
    def wish(self, number: int) -> None:
        instrument = ALL[number]
        if instrument.key not in self.wished and len(self.wished) < LIMITS.capacity:
            self.wished.add(instrument.key)
            home = self.book.carry(instrument)
            assert home == self.book.home(instrument.key)

    @rule(numbers=st.sets(NUMBERS, min_size=3, max_size=8))
    def wish_many(self, numbers: set[int]) -> None:
        for number in sorted(numbers):
            self.wish(number)

    @precondition(lambda self: self.wished)
    @rule(data=st.data())
    def unwish(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.wished)))
        self.last_unwished = key.security_id
        self.wished.discard(key)
        self.book.uncarry(key)

    @precondition(lambda self: self.last_unwished)
    @rule()
    def change_of_mind(self) -> None:
        self.wish(self.last_unwished)

    @rule(index=LINES)
    def socket_opens(self, index: int) -> None:
        if self.venue[index] is None and index in self.book.open_to:
            self.venue[index] = {}
            self.book.opened(index)

    @rule(index=LINES)
    def socket_is_lost(self, index: int) -> None:
        self.venue[index] = None
        self.in_flight.pop(index, None)
        self.book.lost(index)

    @rule(indices=st.sets(LINES, min_size=1, max_size=2))
    def sockets_are_barred(self, indices: set[int]) -> None:
        if self.book.open_to <= indices:
            return
        for index in indices:
            self.venue[index] = None
            self.in_flight.pop(index, None)
        self.book.bar(*indices)

    @rule(index=LINES)
    def socket_is_allowed_again(self, index: int) -> None:
        self.book.unbar(index)

    @rule(index=LINES, numbers=st.sets(NUMBERS, max_size=3))
    def nothing_came(self, index: int, numbers: set[int]) -> None:
        self.book.ask_again(index, [ALL[number].key for number in sorted(numbers)])

    @rule(index=LINES)
    def message_leaves(self, index: int) -> None:
        again = set(self.book.lines[index].again)
        if index not in self.in_flight and (command := self.book.take(index)):
            self.in_flight[index] = command
            self.repeating.discard(index)
            if command.subscribe and again.issuperset(command.keys):
                self.repeating.add(index)
            elif command.subscribe:
                self._is_nowhere_else(command)

    @rule(index=LINES)
    def message_is_out(self, index: int) -> None:
        if command := self.in_flight.pop(index, None):
            self._venue_hears(index, command)
            self.book.done(index, command)

    @rule(index=LINES)
    def a_quiet_moment(self, index: int) -> None:
        for _ in range(6):
            self.message_is_out(index)
            self.message_leaves(index)

    @rule()
    def rebalance(self) -> None:
        self.book.rebalance()

    @rule(index=LINES)
    def one_connection_keeps_its_keys_and_shares_them(self, index: int) -> None:
        """Twice in a row, keys may be sent back to where they came from a moment ago."""
        for key in [key for line in self.book.lines if line.index != index for key in line.homes]:
            self.wished.discard(key)
            self.book.uncarry(key)
        self.book.rebalance()
        self.message_is_out(index)  # none takes as long as a move
        for other in range(1, LIMITS.connections):
            self.a_quiet_moment((index + other) % LIMITS.connections)

    @precondition(lambda self: self.book.moves)
    @rule(data=st.data())
    def packet_on_the_new_socket(self, data: st.DataObject) -> None:
        move = self.book.moves[data.draw(st.sampled_from(sorted(self.book.moves)))]
        slot = self.board.slot(move.key)
        if slot is not None and move.key in (self.venue[move.target] or {}):
            self.board.buffers.socket_of[slot] = move.target
            self.board.buffers.moving_to[slot] = NO_SOCKET

    @rule(passed=st.sampled_from([0, 0, MOVE_TIMEOUT_MS]))
    def a_look_at_the_moves(self, passed: int) -> None:
        self.clock.advance(passed / 1000)
        self.book.settle()

    def _is_nowhere_else(self, command: Command) -> None:
        for key in command.keys:
            elsewhere = [other for other, keys in enumerate(self.venue) if keys and key in keys]
            move = self.book.moves.get(key)
            assert not elsewhere or (move and elsewhere == [move.source]), f"{key} is on {elsewhere} too"

    def _venue_hears(self, index: int, command: Command) -> None:
        held = self.venue[index]
        assert held is not None, "a command to a socket that is not open"
        assert 1 <= len(command.keys) <= LIMITS.instruments_per_message
        for key in command.keys:
            if command.subscribe:
                if index in self.repeating:
                    assert held[key] is command.mode
                    continue
                assert key not in held, f"{key} subscribed twice on {index}"
                held[key] = command.mode
            else:
                assert held.pop(key) is command.mode
        assert len(held) <= LIMITS.instruments_per_connection

    @invariant()
    def every_wish_has_one_place(self) -> None:
        homes = [key for line in self.book.lines for key in line.homes]
        assert len(homes) == len(set(homes))
        assert set(homes) <= self.wished
        assert len(homes) + self.book.unplaced == len(self.wished) == len(self.book)
        assert all(load <= LIMITS.instruments_per_connection for load in self.book.loads())
        room = len(self.book.open_to) * LIMITS.instruments_per_connection
        assert len(homes) <= room

    @invariant()
    def pending_is_the_difference(self) -> None:
        for line in self.book.lines:
            if not line.is_open:
                assert {**line.carried, **line.adds, **line.drops, **line.again} == {}
                continue
            held = {key for key, target in self.book._held.items() if target == line.index}
            assert set(line.homes) <= set(line.carried) | set(line.adds) | held
            assert not set(line.homes) & set(line.drops) - held
            assert set(line.adds) <= set(line.homes) - set(line.carried)
            assert set(line.drops) <= set(line.carried)
            assert set(line.again) <= set(line.carried) - set(line.drops)
            assert len(line.carried) <= LIMITS.instruments_per_connection

    @invariant()
    def slots_tell_the_owner(self) -> None:
        for key in self.wished:
            slot = self.board.slot(key)
            assert slot is not None
            owner = self.board.buffers.socket_of[slot]
            if self.book.sent_ms[slot]:
                assert owner != NO_SOCKET
                assert key in self.book.lines[owner].carried

    def teardown(self) -> None:
        """Liveness: all sockets up, everything sent: the wire equals the wish, and then there is quiet."""
        for index in range(LIMITS.connections):
            self.book.unbar(index)
            if self.venue[index] is None:
                self.venue[index] = {}
                self.book.opened(index)
        for _ in range(200):
            self._one_round()
        on_wire = [key for keys in self.venue for key in keys or {}]
        assert sorted(on_wire) == sorted(self.wished)
        assert all(self.book.take(index) is None for index in range(LIMITS.connections))
        assert self.book.unplaced == 0
        assert not self.book.moves

    def _one_round(self) -> None:
        self.clock.advance(1)
        self.book.settle()
        for index in range(LIMITS.connections):
            self.message_is_out(index)
            self.message_leaves(index)


TestWireMachine = WireMachine.TestCase
TestWireMachine.settings = settings(max_examples=250, stateful_step_count=50, deadline=None)
