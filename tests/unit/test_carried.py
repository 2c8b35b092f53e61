"""What becomes of a move whose new connection is lost, and of keys wished anew in mid-message, at the book itself."""

from __future__ import annotations

import pytest

from app.core.ids import InstrumentKey
from app.market.carried import CarriedBook
from app.market.live_prices import LivePrices
from app.ports.feed import FeedLimits
from tests.tiny_market import HandClock, share

LIMITS = FeedLimits(connections=2, instruments_per_connection=4, instruments_per_message=4)


class Wire:
    """Two connections that take every message at once; four instruments on the first, none on the second."""

    def __init__(self) -> None:
        clock = HandClock()
        self.board = LivePrices(LIMITS.capacity, LIMITS.connections)
        self.book = CarriedBook(self.board, LIMITS, clock.now_ms)
        self.book.opened(0)
        self.book.open_to = {0}
        for number in range(1, 5):
            self.book.carry(share(number))
        self.send()
        self.book.open_to = {0, 1}
        self.book.opened(1)

    def send(self) -> None:
        for index in range(LIMITS.connections):
            while command := self.book.take(index):
                self.book.done(index, command)

    def slot(self, key: InstrumentKey) -> int:
        slot = self.board.slot(key)
        assert slot is not None
        return slot

    def packet_on_the_new_connection(self, key: InstrumentKey) -> None:
        buffers, slot = self.board.buffers, self.slot(key)
        buffers.socket_of[slot] = buffers.moving_to[slot]


@pytest.mark.parametrize("is_proved", [True, False])
def test_the_old_connection_is_heard_again(is_proved: bool) -> None:
    wire = Wire()
    moved = [move.key for move in wire.book.rebalance()]
    wire.send()
    for key in moved if is_proved else []:
        wire.packet_on_the_new_connection(key)
    wire.book.lost(1)
    assert len(moved) == 2
    assert [wire.book.home(key) for key in moved] == [0, 0]
    assert [int(wire.board.buffers.socket_of[wire.slot(key)]) for key in moved] == [0, 0]
    assert all(wire.book.sent_ms[wire.slot(key)] for key in moved)


def test_what_finds_its_old_place_taken_is_not_said_to_be_on_the_wire() -> None:
    wire = Wire()
    moved = [move.key for move in wire.book.rebalance()]
    wire.send()
    wire.book.open_to = {0}
    for number in (5, 6):
        wire.book.carry(share(number))
    wire.book.lost(1)
    assert wire.book.unplaced == len(moved) == 2
    assert not any(wire.book.sent_ms[wire.slot(key)] for key in moved)


def test_wished_anew_while_its_unsubscribe_is_under_way_it_is_asked_for_again() -> None:
    wire = Wire()
    wire.book.open_to = {0}
    wire.book.uncarry(share(1).key)
    under_way = wire.book.take(0)
    assert under_way is not None
    for _ in range(2):  # minds change faster than the message leaves
        wire.book.carry(share(1))
        wire.book.uncarry(share(1).key)
    wire.book.carry(share(1))
    wire.book.done(0, under_way)
    asked = wire.book.take(0)
    assert asked is not None
    assert asked.subscribe
    assert list(asked.keys) == [share(1).key]
