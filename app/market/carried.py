"""What each upstream connection is meant to carry, carries, and must still be told. Synchronous; sends nothing.

Part of the owner ``ws_manager``. Every wished key has one home connection (or none while sockets are short of room).
``adds`` and ``drops`` of a line are the difference between its homes and what it carries, kept up to date by every
change, so that nothing ever rescans 25,000 keys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import islice
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from app.core.ids import InstrumentKey, Mode
from app.core.instruments import Instrument
from app.market.clock_steps import StepBack
from app.market.reconcile import Command, difference, level, next_command, place
from app.ports.feed import NO_SOCKET, FeedLimits, TickBuffers

MOVE_TIMEOUT_MS = 5_000  # a silent instrument sends nothing on its new socket: the move is completed without proof


class Precedence(IntEnum):
    """Whose keys keep a place while sockets are short of room; the lowest first (contract, rule 5.5)."""

    ALWAYS_ON = 0
    ON_SCREEN = 1
    OTHER = 2


class Board(Protocol):
    """The part of ``LivePrices`` that the wire needs: a slot for each key it carries."""

    @property
    def buffers(self) -> TickBuffers: ...
    def track(self, instrument: Instrument) -> int: ...
    def untrack(self, key: InstrumentKey) -> None: ...
    def slot(self, key: InstrumentKey) -> int | None: ...
    def turn_back(self, step: StepBack) -> None: ...


class Move(NamedTuple):
    """One key on its way between two connections (0-based); ``sent_ms`` 0 means not yet asked for on the new one."""

    key: InstrumentKey
    token: str
    source: int
    target: int
    sent_ms: int = 0


@dataclass(slots=True)
class Line:
    """One connection in the book. ``carried`` is what was sent on the present socket and not yet taken back."""

    index: int
    is_open: bool = False
    homes: dict[InstrumentKey, Mode] = field(default_factory=dict)
    carried: dict[InstrumentKey, Mode] = field(default_factory=dict)
    adds: dict[InstrumentKey, Mode] = field(default_factory=dict)
    drops: dict[InstrumentKey, Mode] = field(default_factory=dict)
    leaving: set[InstrumentKey] = field(default_factory=set)  # carried still; the unsubscribe is under way
    again: dict[InstrumentKey, Mode] = field(default_factory=dict)  # carried without a packet: to be asked for again
    ghosts: set[InstrumentKey] = field(default_factory=set)  # unsubscribed, though Dhan may go on sending them

    @property
    def has_work(self) -> bool:
        return self.is_open and bool(self.adds or self.drops)


class CarriedBook:
    """OWNS homes, carried keys, moves and when each slot was sent.

    ``sent_ms[slot]`` is when the key was subscribed on its socket, 0 while it is not on the wire; ``asked_ms[slot]``
    when it was last asked for there, ``repeats[slot]`` how often since the first time; ``slot_lost_ms[slot]`` when a
    connection that carried it was last cut; ``lost_ms[index]`` the same per connection.
    """

    def __init__(self, board: Board, limits: FeedLimits, now_ms: Callable[[], int]) -> None:
        self._board = board
        self._buffers = board.buffers
        self._limits = limits
        self._now_ms = now_ms
        self.lines = tuple(Line(index) for index in range(limits.connections))
        self.open_to = set(range(limits.connections))  # connections that may be given keys
        self.sent_ms: npt.NDArray[np.int64] = np.zeros(self._buffers.slots, dtype=np.int64)
        self.asked_ms: npt.NDArray[np.int64] = np.zeros(self._buffers.slots, dtype=np.int64)
        self.repeats: npt.NDArray[np.int64] = np.zeros(self._buffers.slots, dtype=np.int64)
        self.slot_lost_ms: npt.NDArray[np.int64] = np.zeros(self._buffers.slots, dtype=np.int64)
        self.segments: npt.NDArray[np.uint8] = np.zeros(self._buffers.slots, dtype=np.uint8)
        self.lost_ms = [0] * limits.connections
        self.asked_again = 0  # instruments asked for more than once, since the start
        self.moves: dict[InstrumentKey, Move] = {}
        self.rehomed: set[InstrumentKey] = set()  # keys whose stored socket number is out of date
        self._instruments: dict[InstrumentKey, Instrument] = {}
        self._key_at: dict[int, InstrumentKey] = {}
        self._home: dict[InstrumentKey, int] = {}
        self._unplaced: dict[InstrumentKey, None] = {}
        self._held: dict[InstrumentKey, int] = {}  # waits until another socket has let go of the key
        self._precedence: Callable[[InstrumentKey], Precedence] = lambda key: Precedence.OTHER
        self._wake: Callable[[int], None] = lambda index: None

    def on_work(self, wake: Callable[[int], None]) -> None:
        """``wake(index)`` is called when a line has something new to send."""
        self._wake = wake

    def rank_by(self, precedence: Callable[[InstrumentKey], Precedence]) -> None:
        """Which keys keep their place when sockets are short of room."""
        self._precedence = precedence

    def __len__(self) -> int:
        return len(self._instruments)

    @property
    def unplaced(self) -> int:
        return len(self._unplaced)

    def loads(self) -> list[int]:
        return [len(line.homes) for line in self.lines]

    def home(self, key: InstrumentKey) -> int | None:
        """The connection that the key belongs to (0-based)."""
        return self._home.get(key)

    def key_at(self, slot: int) -> InstrumentKey:
        """The key that has the slot."""
        return self._key_at[slot]

    def is_carried(self, key: InstrumentKey) -> bool:
        home = self._home.get(key)
        return home is not None and (key in self.lines[home].carried or key in self.moves)

    def carry(self, instrument: Instrument) -> int | None:
        """Give the key a slot and a home; None while no open connection has room.

        Affects: the board's slots, one line's pending adds.
        """
        key = instrument.key
        assert key not in self._instruments, f"{key} has a place already"
        slot = self._board.track(instrument)
        self.sent_ms[slot] = self.slot_lost_ms[slot] = 0
        self.segments[slot] = int(key.segment)
        self._key_at[slot] = key
        self._instruments[key] = instrument
        return self._settle_down(key)

    def uncarry(self, key: InstrumentKey) -> None:
        """Take the key off the wire and free its slot; what still comes for it is dropped by the decoder."""
        slot = self._board.slot(key)
        if slot is not None:
            del self._key_at[slot]
            self.sent_ms[slot] = self.slot_lost_ms[slot] = 0
            self._buffers.socket_of[slot] = self._buffers.moving_to[slot] = NO_SOCKET
        self._board.untrack(key)
        del self._instruments[key]
        self.moves.pop(key, None)
        self._leave_home(key)
        for line in self.lines:
            self._drop_from(line, key)

    def settle(self) -> None:
        """Finish moves that are proved or timed out; find room for keys that had none."""
        now = self._now_ms()
        for move in [move for move in self.moves.values() if move.sent_ms]:
            slot = self._slot(move.key)
            if self._buffers.socket_of[slot] == move.target or now - move.sent_ms >= MOVE_TIMEOUT_MS:
                self._finish(move, slot)
        if self._unplaced and place(self.loads(), self.open_to, self._limits.instruments_per_connection) is not None:
            for key in sorted(self._unplaced, key=self._precedence):
                del self._unplaced[key]
                if self._settle_down(key) is None:
                    break
                self.rehomed.add(key)

    def take(self, index: int) -> Command | None:
        """The next message for an open line; what it subscribes counts as carried from now on.

        Caller: sends it, then calls :meth:`done`; if sending fails, :meth:`lost`.
        """
        line = self.lines[index]
        if not line.is_open:
            return None
        room, batch = self._limits.instruments_per_connection, self._limits.instruments_per_message
        command = next_command(len(line.carried), line.adds, line.drops, room, batch, line.again)
        if command is None:
            return None
        if command.subscribe:
            self._mark_sent(line, command)
        else:
            for key in command.keys:
                del line.drops[key]
            line.leaving.update(command.keys)
        return command

    def done(self, index: int, command: Command) -> None:
        """The message went out."""
        if command.subscribe:
            return
        line = self.lines[index]
        for key in command.keys:
            line.carried.pop(key, None)
            line.leaving.discard(key)
            line.ghosts.add(key)
            self._let_go(key)
        if line.adds:
            self._wake(index)

    def ask_again(self, index: int, keys: Iterable[InstrumentKey]) -> None:
        """Say once more what was sent there, for keys of which nothing has come; those on the move are left alone."""
        line = self.lines[index]
        for key in keys:
            is_settled = self._home.get(key) == index and key not in self._held and key not in self.moves
            if is_settled and key in line.carried:
                line.again[key] = line.carried[key]
        self._wake(index)

    def opened(self, index: int) -> None:
        """A fresh socket: it carries nothing, everything at home here is to be sent."""
        line = self.lines[index]
        assert not line.carried, f"connection {index} still carries {len(line.carried)} keys of its last socket"
        line.is_open = True
        line.adds, line.drops = difference(line.homes, line.carried)
        for other in self.lines:  # what a connection has yet to let go of waits for that
            self._held.update((key, index) for key in other.carried.keys() & line.adds.keys() if key not in self.moves)
        for key, target in self._held.items():
            if target == index:
                line.adds.pop(key, None)
        self._wake(index)

    def lost(self, index: int) -> None:
        """The socket is gone: nothing is carried on it any more."""
        line = self.lines[index]
        if not line.is_open:
            return
        now = self.lost_ms[index] = self._now_ms()
        line.is_open = False
        for move in [move for move in self.moves.values() if index in (move.source, move.target)]:
            self._cut_short(move, index)
        carried, line.carried = line.carried, {}
        line.adds.clear()
        line.drops.clear()
        line.leaving.clear()
        line.again.clear()
        line.ghosts.clear()
        for key in carried:
            if key in self._instruments and self._home.get(key) == index:
                slot = self._slot(key)
                self.slot_lost_ms[slot] = now
                self.sent_ms[slot] = 0
            self._let_go(key)

    def bar(self, *indices: int) -> None:
        """Take connections out of use: their keys find new homes where there is room, by precedence."""
        self.open_to.difference_update(indices)
        homeless: list[InstrumentKey] = []
        for index in indices:
            self.lost(index)
            homeless += self.lines[index].homes
            self.lines[index].homes.clear()
        evictable = self._evictable()
        for key in sorted(homeless, key=self._precedence):
            self._home.pop(key)
            self._held.pop(key, None)
            if self._settle_down(key) is None:
                self._displace(evictable, key)
            self.rehomed.add(key)

    def unbar(self, index: int) -> None:
        """Use the connection again."""
        self.open_to.add(index)
        self.settle()

    def rebalance(self) -> list[Move]:
        """Level the open connections, make before break; keys not yet on the wire simply change their home."""
        started: list[Move] = []
        are_open = {index for index in self.open_to if self.lines[index].is_open}
        for shift in level(self.loads(), are_open or self.open_to):
            source, target = self.lines[shift.source], self.lines[shift.target]
            free = islice((key for key in reversed(source.homes) if self._may_move(key, source)), shift.number)
            started += [self._start_move(key, source, target) for key in list(free)]
        return started

    def turn_back(self, step: StepBack) -> None:
        """The clock was set back: when things were sent, asked for and lost moves with it."""
        for column in (self.sent_ms, self.asked_ms, self.slot_lost_ms):
            step.column(column)
        self.lost_ms = [step.time(at_ms) for at_ms in self.lost_ms]
        self.moves = {key: move._replace(sent_ms=step.time(move.sent_ms)) for key, move in self.moves.items()}

    def _settle_down(self, key: InstrumentKey) -> int | None:
        """Choose a home; where a socket has not yet been told to drop the key, it simply stays there."""
        limit = self._limits.instruments_per_connection
        still_on = [line for line in self.lines if key in line.carried]
        for line in still_on:
            if key in line.drops and line.index in self.open_to and len(line.homes) < limit and len(still_on) == 1:
                mode = line.drops.pop(key)
                line.homes[key] = mode
                self._home[key] = line.index
                self._mark_on_wire(key, line.index)
                return line.index
        target = place(self.loads(), self.open_to, limit)
        if target is None:
            self._unplaced[key] = None
            return None
        self._move_in(key, self.lines[target], waits=bool(still_on))
        return target

    def _move_in(self, key: InstrumentKey, line: Line, *, waits: bool) -> None:
        mode = self._instruments[key].mode
        self._home[key] = line.index
        line.homes[key] = mode
        if waits:
            self._held[key] = line.index
        elif line.is_open:
            line.adds[key] = mode
            self._wake(line.index)

    def _leave_home(self, key: InstrumentKey) -> None:
        self._unplaced.pop(key, None)
        self._held.pop(key, None)
        self.rehomed.discard(key)
        home = self._home.pop(key, None)
        if home is not None:
            del self.lines[home].homes[key]

    def _drop_from(self, line: Line, key: InstrumentKey) -> None:
        line.adds.pop(key, None)
        line.again.pop(key, None)
        mode = line.carried.get(key)
        if mode is not None and key not in line.leaving:
            line.drops[key] = mode
            self._wake(line.index)

    def _let_go(self, key: InstrumentKey) -> None:
        """Send a key that waited for this, unless yet another socket still has it."""
        target = self._held.get(key)
        if target is None or any(key in line.carried for line in self.lines):
            return
        del self._held[key]
        line = self.lines[target]
        if line.is_open:
            line.adds[key] = line.homes[key]
            self._wake(target)

    def _mark_sent(self, line: Line, command: Command) -> None:
        now = self._now_ms()
        for key in command.keys:
            if line.again.pop(key, None) is not None:
                self._mark_repeated(self._slot(key))
                continue
            line.carried[key] = line.adds.pop(key)
            line.ghosts.discard(key)
            move = self.moves.get(key)
            if move is None:
                self._mark_on_wire(key, line.index)
            else:
                self._buffers.moving_to[self._slot(key)] = line.index
                self.moves[key] = move._replace(sent_ms=now)

    def _mark_on_wire(self, key: InstrumentKey, index: int) -> None:
        slot = self._slot(key)
        self._buffers.socket_of[slot] = index
        self._buffers.moving_to[slot] = NO_SOCKET
        self._mark_sent_at(slot, self._now_ms())

    def _mark_sent_at(self, slot: int, sent_ms: int) -> None:
        self.sent_ms[slot] = self.asked_ms[slot] = sent_ms
        self.repeats[slot] = 0

    def _mark_repeated(self, slot: int) -> None:
        self.asked_ms[slot] = self._now_ms()
        self.repeats[slot] += 1
        self.asked_again += 1

    def _may_move(self, key: InstrumentKey, source: Line) -> bool:
        """What another connection has yet to let go of, from a move a moment ago, must not be asked for there again."""
        is_elsewhere = any(key in line.carried for line in self.lines if line is not source)
        return key not in self.moves and key not in self._held and not is_elsewhere

    def _start_move(self, key: InstrumentKey, source: Line, target: Line) -> Move:
        move = Move(key, self._instruments[key].token, source.index, target.index)
        mode = source.homes.pop(key)
        target.homes[key] = mode
        self._home[key] = target.index
        self.rehomed.add(key)
        source.adds.pop(key, None)
        if key in source.carried:
            self.moves[key] = move
        if target.is_open:
            target.adds[key] = mode
            self._wake(target.index)
        return move

    def _finish(self, move: Move, slot: int) -> None:
        del self.moves[move.key]
        self._buffers.moving_to[slot] = NO_SOCKET
        self._arrive(move, slot)
        self._drop_from(self.lines[move.source], move.key)

    def _arrive(self, move: Move, slot: int) -> None:
        """From here on the key is its new connection's.

        Without a packet from there, what the old one sent meanwhile must not pass for it: Dhan may have ignored the
        subscribe, and only what has not been heard since it was sent is asked for again.
        """
        is_proved = self._buffers.socket_of[slot] == move.target
        self._buffers.socket_of[slot] = move.target
        self._mark_sent_at(slot, move.sent_ms if is_proved else self._now_ms() + 1)

    def _cut_short(self, move: Move, lost_index: int) -> None:
        """One end of a move is gone: the key stays on, or goes over to, the other end."""
        slot = self._slot(move.key)
        del self.moves[move.key]
        self._buffers.moving_to[slot] = NO_SOCKET
        if lost_index == move.target:
            self._go_back(move)
        elif move.sent_ms:
            self._arrive(move, slot)
        else:
            self.sent_ms[slot] = 0
            self.slot_lost_ms[slot] = self.lost_ms[lost_index]

    def _go_back(self, move: Move) -> None:
        source, slot = self.lines[move.source], self._slot(move.key)
        mode = self.lines[move.target].homes.pop(move.key)
        if len(source.homes) < self._limits.instruments_per_connection:
            source.homes[move.key] = mode
            self._home[move.key] = move.source
            self._buffers.socket_of[slot] = move.source  # the first packet of the other had taken the slot over
        else:  # its old place was given away meanwhile
            del self._home[move.key]
            self._unplaced[move.key] = None
            self.sent_ms[slot] = 0
            self._drop_from(source, move.key)

    def _evictable(self) -> Iterator[InstrumentKey]:
        """Keys that may lose their place, those of the least precedence first, of these the last to come."""
        homes = [key for line in self.lines if line.index in self.open_to for key in reversed(line.homes)]
        yield from sorted((key for key in homes if key not in self.moves), key=self._precedence, reverse=True)

    def _displace(self, evictable: Iterator[InstrumentKey], key: InstrumentKey) -> None:
        victim = next(evictable, None)
        if victim is None or self._precedence(victim) <= self._precedence(key):
            return
        index = self._home[victim]
        self._leave_home(victim)
        self._unplaced[victim] = None
        self.sent_ms[self._slot(victim)] = 0
        self._drop_from(self.lines[index], victim)
        self.rehomed.add(victim)
        del self._unplaced[key]
        self._settle_down(key)

    def _slot(self, key: InstrumentKey) -> int:
        slot = self._board.slot(key)
        assert slot is not None, f"{key} has no slot"
        return slot
