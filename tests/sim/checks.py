"""What must hold at every moment, and what must come true once nothing goes wrong any more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from app.core.errors import InstrumentUnknown
from app.core.ids import InstrumentKey
from app.core.instruments import Instrument
from app.market.facts import Standing
from app.market.live_prices import BOARD_FIELDS, Slots
from app.market.states import STATES, InstrumentState
from app.market.wishes import TIER_B_OWNER
from app.stream.outbox import CONTROL_MAX
from app.stream.stream_log import KEEP_BYTES, KEEP_STEPS
from tests.sim.pace import QUIET_S
from tests.sim.people import Screen
from tests.sim.stage import Stage

TWICE_MAX_S = 9.0  # a move is over after 5 s, proved or not; then the old socket is told
LATE_TIMERS = 3  # of a move in a quiet stretch: the next prices, the look that sees them, the word to the old socket
SLOW_TIME = 2.0  # while the service's clock waits for one that was set back
WHOLE_EVERY = 5  # looks
UNTOLD_LOOKS = 3
SHOWN = ("ltp", "bid", "ask", "volume", "oi")
LIVELY = (InstrumentState.LIVE, InstrumentState.QUIET)
ASKED_FOR = [state.code for state in (*LIVELY, InstrumentState.SENT, InstrumentState.STALE)]


@dataclass(frozen=True, slots=True)
class Population:
    """What is owned as of one state of the books, as columns: gathered instrument by instrument."""

    as_of: object
    owned: list[Instrument]
    standing: Standing
    slots: Slots  # on the board
    told: Slots  # at the exchange

    @classmethod
    def gathered(cls, stage: Stage, as_of: object) -> Population:
        states = stage.runtime.market.states
        owned = [wish.instrument for wish in stage.runtime.subscriptions.wishes()]
        told = stage.exchange.slots(each.key for each in owned)
        return cls(as_of, owned, states.standing(owned), states.slots(owned), told)


class Safety:
    """Looks once a virtual second, between two steps of the exchange, when nothing is under way. Books that have not
    changed are gone through every fifth time."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._twice_since: dict[tuple[InstrumentKey, tuple[int, ...]], float] = {}
        self._asked: object = None
        self._owners_seen: object = None
        self._population: Population | None = None
        self._untold_looks: dict[str, int] = {}
        self._looks = 0
        self.prices_compared = self.most_owned = 0

    def look(self) -> Iterator[str]:
        """Everything that is wrong now."""
        self._looks += 1
        wrong, self._stage.exchange.wrong = self._stage.exchange.wrong, []
        yield from wrong
        yield from self._places()
        yield from self._twice()
        yield from self._owners()
        yield from self._states()
        yield from self._boxes()

    def _is_due(self) -> bool:
        return self._looks % WHOLE_EVERY == 0

    def _places(self) -> Iterator[str]:
        limits, book = self._stage.shape.limits, self._stage.runtime.ws_manager._book
        for line in book.lines:
            if max(len(line.homes), len(line.carried)) > limits.instruments_per_connection:
                yield f"connection {line.index}: {len(line.homes)} at home, {len(line.carried)} carried"
            asked = (line.carried.keys() - line.drops.keys()) | line.adds.keys() | book._held.keys()
            forgotten = line.homes.keys() - asked if line.is_open else set()
            if forgotten:
                yield f"connection {line.index}: {len(forgotten)} at home and not asked for, first {min(forgotten)}"
        self.most_owned = max(self.most_owned, self._stage.runtime.subscriptions.total)
        if self._stage.runtime.subscriptions.total > limits.capacity:
            yield f"{self._stage.runtime.subscriptions.total} instruments owned"

    def _twice(self) -> Iterator[str]:
        exchange, now = self._stage.exchange, self._stage.loop.time()
        if self._asked == exchange.messages and not self._twice_since:
            return
        self._asked = exchange.messages
        carriers: dict[InstrumentKey, list[int]] = {}
        for number, asked in exchange.asked.items():
            for key in asked:
                carriers.setdefault(key, []).append(number)
        # by who carries it: two moves in a row are two
        twice = {(key, tuple(numbers)) for key, numbers in carriers.items() if len(numbers) > 1}
        self._twice_since = {each: self._twice_since.get(each, now) for each in sorted(twice, key=str)}
        for (key, numbers), since in self._twice_since.items():
            if now - since > self._twice_max_s():
                yield f"{key} on {len(numbers)} connections for {now - since:.0f} s"

    def _twice_max_s(self) -> float:
        if self._stage.pace.is_uneven:
            return TWICE_MAX_S + LATE_TIMERS * QUIET_S
        return TWICE_MAX_S * (SLOW_TIME if self._stage.shape.sets_clock else 1.0)

    def _owners(self) -> Iterator[str]:
        runtime = self._stage.runtime
        wishes, lists = runtime.subscriptions, runtime.watchlists
        if lists._turn.locked() or wishes._swept:
            return
        seen = (runtime, wishes.revision, self._stage.acts)
        if seen == self._owners_seen and not self._is_due():
            return
        self._owners_seen = seen
        expected: dict[InstrumentKey, set[int]] = {}
        for entry in lists.book:
            for leg in entry.legs if entry.is_active else ():
                expected.setdefault(leg.key, set()).add(entry.id)
        for claim in wishes.taken_by_token():
            for key in wishes.held_by(claim.owner):
                expected.setdefault(key, set()).add(claim.owner)
        tier_b = runtime.control._tier_b
        for key in [
            *tier_b._singles,
            *(key for kept in tier_b._kept.values() if kept.window for key in kept.window.keys),
        ]:
            expected.setdefault(key, set()).add(TIER_B_OWNER)
        held = {wish.instrument.key: set(wish.owners) for wish in wishes.wishes()}
        if held != expected:
            odd = sorted(str(key) for key in held.keys() | expected.keys() if held.get(key) != expected.get(key))
            yield f"owners of {len(odd)} instruments disagree, first {odd[0]}"
        if wishes.tier_b_count != sum(TIER_B_OWNER in owners for owners in expected.values()):
            yield f"{wishes.tier_b_count} counted in Tier B"
        if wishes.total != len(expected):
            yield f"{wishes.total} counted, {len(expected)} owned"

    def _states(self) -> Iterator[str]:
        """The status counts the states right, and whatever is live shows the last price that was told."""
        runtime, exchange = self._stage.runtime, self._stage.exchange
        known = self._gathered()
        owned, codes = known.owned, runtime.market.states.codes_at(known.standing, known.slots)
        told = runtime.outbound.teller.states()
        counted = {str(STATES[code]): int(count) for code, count in enumerate(np.bincount(codes)) if count}
        if told != counted:
            yield f"status tells {told}, one by one there are {counted}"
        yield from self._untold([owned[place] for place in np.flatnonzero(np.isin(codes, ASKED_FOR))])
        yield from self._false_alarms([owned[place] for place in np.flatnonzero(codes == InstrumentState.STALE.code)])
        live = np.flatnonzero((codes == InstrumentState.LIVE.code) & (known.told >= 0))
        if not live.size:
            return
        sent = exchange.told()[known.told[live]]
        shown = runtime.board.buffers.table["ltp"][known.slots[live]]
        self.prices_compared += int(np.count_nonzero(~np.isnan(sent)))
        for place in np.flatnonzero((sent != shown) & ~np.isnan(sent)):
            yield f"{owned[live[place]].token} shows {shown[place]}, the exchange told {sent[place]}"

    def _untold(self, asked_for: list[Instrument]) -> Iterator[str]:
        """What is said to be on the wire, the exchange was asked for; two messages may be under way at two looks."""
        told = set().union(*self._stage.exchange.asked.values())
        untold = (each.token for each in asked_for if each.key not in told)
        self._untold_looks = {token: 1 + self._untold_looks.get(token, 0) for token in untold}
        if lasting := sorted(token for token, looks in self._untold_looks.items() if looks >= UNTOLD_LOOKS):
            yield f"{len(lasting)} instruments were not asked for, though their state says so, first {lasting[0]}"

    def _gathered(self) -> Population:
        runtime, exchange = self._stage.runtime, self._stage.exchange
        today = self._stage.clock.now().date()
        as_of = (runtime, runtime.subscriptions.revision, runtime.board.revision, len(exchange.market.keys), today)
        if self._population is None or self._population.as_of != as_of or self._is_due():
            self._population = Population.gathered(self._stage, as_of)
        return self._population

    def _false_alarms(self, stale: list[Instrument]) -> Iterator[str]:
        """While a market is closed, not yet open or in its closing auction, silence means nothing."""
        now, calendar = self._stage.clock.now(), self._stage.calendar
        for each in stale:
            if calendar.judged_from(each.key.segment, now) is None:
                yield f"{each.token} is STALE while its market does not trade"

    def _boxes(self) -> Iterator[str]:
        outbound = self._stage.runtime.outbound
        hub = outbound.hub
        for client in hub._clients:
            if len(client.outbox._control) > CONTROL_MAX or len(client.outbox) > len(client.topics):
                yield f"an outbox holds {len(client.outbox._control)} messages, {len(client.outbox)} cursors"
        for stream in hub._streams.values():
            if len(stream.log._steps) > KEEP_STEPS or (len(stream.log._steps) > 1 and stream.log._bytes > KEEP_BYTES):
                yield f"{stream.key} keeps {len(stream.log._steps)} steps"
        if outbound.bus.dropped:
            yield f"the bus dropped {outbound.bus.dropped} messages"


def unkept(stage: Stage) -> Iterator[str]:
    """Where lists and store differ as a request is answered and none is under way: what is answered is stored."""
    lists = stage.runtime.watchlists
    if lists._turn.locked():
        return
    held, stored = {entry.id for entry in lists.book}, stage.store.entry_ids
    if held != stored:
        yield f"answered, though entries {sorted(held ^ stored)} are not alike in lists and store"


async def unsettled(stage: Stage) -> list[str]:
    """What is not yet as it should be once nothing goes wrong; empty when all has come true."""
    runtime, exchange = stage.runtime, stage.exchange
    wishes, book = runtime.subscriptions, runtime.ws_manager._book
    found: list[str] = []
    if runtime.ws_manager.connected != stage.shape.limits.connections or not runtime.ws_manager.is_settled:
        lines = [str(line.state) for line in runtime.ws_manager._pool.lines]
        found.append(f"connections are {lines}, settled: {runtime.ws_manager.is_settled}")
    owned = {wish.instrument.key: wish.instrument for wish in wishes.wishes()}
    on_wire = Counter(key for number in exchange.lines for key in _sent_on(stage, number))
    if lacking := sorted(str(key) for key in owned if on_wire[key] != 1 and not _can_wait(stage, key)):
        found.append(f"{len(lacking)} wished instruments are not on one connection, first {lacking[0]}")
    if extra := sorted(str(key) for key in on_wire if key not in owned):
        found.append(f"{len(extra)} instruments on the wire that nobody wishes, first {extra[0]}")
    if sorted(map(sorted, exchange.asked.values())) != sorted(sorted(line.carried) for line in book.lines):
        found.append("what the service holds to be carried is not what the exchange was asked for")
    shown = runtime.market.states.states(list(owned.values()))
    dead = [
        f"{each.token} {state}"
        for each, state in zip(owned.values(), shown, strict=True)
        if not _is_well(stage, each, state)
    ]
    if dead:
        found.append(f"{len(dead)} instruments are not live, first {dead[0]}")
    if runtime.control._tier_b.waiting:
        found.append(f"Tier B waits for {runtime.control._tier_b.waiting}")
    return found + await _unstored(stage)


def _trades(stage: Stage, key: InstrumentKey) -> bool:
    """By the exchange's clock too: the service's may have been set."""
    is_open = stage.exchange._in_session(key.segment, stage.server.now_s())
    return is_open and stage.calendar.judged_from(key.segment, stage.clock.now()) is not None


def _can_wait(stage: Stage, key: InstrumentKey) -> bool:
    """The exchange ignored its subscribe while its market is closed: it is asked for again when that opens."""
    return not _trades(stage, key) and sum(key in asked for asked in stage.exchange.asked.values()) == 1


def _is_well(stage: Stage, instrument: Instrument, state: InstrumentState) -> bool:
    """Live; or it cannot be, because it never trades or its market does not trade now."""
    if state in LIVELY or (state is InstrumentState.SENT and stage.exchange.is_silent(instrument.key)):
        return True
    return not _trades(stage, instrument.key) and state in (
        InstrumentState.CLOSED,
        InstrumentState.SENT,
        InstrumentState.GAP,
    )


def _sent_on(stage: Stage, number: int) -> list[InstrumentKey]:
    line, ghosts = stage.exchange.lines[number], stage.exchange.ghosts[number]
    keys = stage.exchange.market.keys
    return [key for slot in np.flatnonzero(line.modes) if (key := keys[slot]) not in ghosts]


async def _unstored(stage: Stage) -> list[str]:
    runtime = stage.runtime
    if runtime.market.journal.has_work:
        return ["rows are still to be written"]
    stored = await stage.store.load()
    found = []
    entries = {(row.id, row.symbol, row.state, row.centre) for row in stored.entries}
    if entries != {(each.id, each.row.symbol, each.row.state, each.row.centre) for each in runtime.watchlists.book}:
        found.append("stored entries are not the lists")
    if {leg.token for leg in stored.legs} != {wish.instrument.token for wish in runtime.subscriptions.wishes()}:
        found.append("stored rows are not the wishes")
    return found


def unlike(stage: Stage, screen: Screen) -> Iterator[str]:
    """Where a screen differs from the board; call it while the exchange stands still."""
    board, states = stage.runtime.board, stage.runtime.market.states
    for topic, mirror in sorted(screen.topics.items()):
        if not mirror.seq:
            yield f"{topic} was never told"
            continue
        rows, over = _told_apart(stage, mirror.data.get("rows", {}))
        yield from (f"{topic}: {token} is over and shows {row}" for token, row in over.items() if not _is_blank(row))
        instruments = [stage.runtime.registry.by_token(token) for token in rows]
        columns = board.columns(states.slots(instruments))
        are_over = [state is InstrumentState.EXPIRED for state in states.states(instruments)]
        for place, (token, row) in enumerate(rows.items()):
            if (row["state"] == InstrumentState.EXPIRED) is not are_over[place]:
                yield f"{topic}: {token} is told to be {row['state']}"
            for name in SHOWN:
                value = float(columns.matrix[place, BOARD_FIELDS.index(name)])
                if row[name] != (None if np.isnan(value) else value):
                    yield f"{topic}: {token} shows {name} {row[name]}, the board has {value}"


def _told_apart(stage: Stage, rows: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is listed, and what was over before the master in use."""
    listed, over = {}, {}
    for token, row in rows.items():
        try:
            stage.runtime.registry.by_token(token)
            listed[token] = row
        except InstrumentUnknown:
            over[token] = row
    return listed, over


def _is_blank(row: Mapping[str, Any]) -> bool:
    """Its id may be another contract's now: nothing is known of it."""
    return all(row[name] is None for name in SHOWN)
