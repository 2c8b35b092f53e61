"""Gathers what the state rule needs to know, for one instrument or for thousands; the rule is in ``states``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from app.core.ids import InstrumentKey, Segment
from app.core.instruments import Instrument
from app.core.sessions import Calendar, Phase
from app.market.live_prices import LivePrices, Slots
from app.market.states import (
    QUIET_AFTER_MS,
    SEGMENT_ALIVE_MS,
    STATE_NAMES,
    STATES,
    Bools,
    InstrumentState,
    Millis,
    StateFacts,
    states,
    why,
)
from app.ports.clock import Clock
from app.ports.feed import NO_SOCKET


class Wishes(Protocol):
    """Who wants what. ``revision`` rises with every change of either answer."""

    @property
    def revision(self) -> int: ...
    def is_owned(self, key: InstrumentKey) -> bool: ...
    def is_evicted(self, key: InstrumentKey) -> bool: ...


class Wires(Protocol):
    """What the connections carry, per slot: when it was sent, when last asked for again and how often, and when a
    connection that carried it was last lost."""

    @property
    def sent_ms(self) -> npt.NDArray[np.int64]: ...
    @property
    def asked_ms(self) -> npt.NDArray[np.int64]: ...
    @property
    def repeats(self) -> npt.NDArray[np.int64]: ...
    @property
    def slot_lost_ms(self) -> npt.NDArray[np.int64]: ...


@dataclass(frozen=True, slots=True)
class Standing:
    """The part of the facts that only changes with the wishes, the master or the day."""

    owned: Bools
    evicted: Bools
    expired: Bools
    segments: npt.NDArray[np.uint8]

    @classmethod
    def empty(cls, size: int) -> Standing:
        no = np.zeros(size, dtype=np.bool_)
        return cls(no, no.copy(), no.copy(), np.zeros(size, dtype=np.uint8))

    def joined(self, other: Standing) -> Standing:
        return Standing(
            owned=np.concatenate((self.owned, other.owned)),
            evicted=np.concatenate((self.evicted, other.evicted)),
            expired=np.concatenate((self.expired, other.expired)),
            segments=np.concatenate((self.segments, other.segments)),
        )

    def put(self, rows: npt.NDArray[np.intp], other: Standing) -> None:
        self.owned[rows], self.evicted[rows] = other.owned, other.evicted
        self.expired[rows], self.segments[rows] = other.expired, other.segments

    def take(self, rows: npt.NDArray[np.intp]) -> Standing:
        return Standing(self.owned[rows], self.evicted[rows], self.expired[rows], self.segments[rows])


class _Segments(NamedTuple):
    """What is known of each segment that was asked about, by its code."""

    in_session: Bools
    alive: Bools
    judged_from_ms: Millis


class StateReader:
    """Answers for REST, stream and command line alike what state an instrument is in, and why."""

    def __init__(self, prices: LivePrices, wires: Wires, wishes: Wishes, calendar: Calendar, clock: Clock) -> None:
        self._prices = prices
        self._wires = wires
        self._wishes = wishes
        self._calendar = calendar
        self._clock = clock

    @property
    def wishes_revision(self) -> int:
        return self._wishes.revision

    def slots(self, instruments: Sequence[Instrument]) -> Slots:
        """Their board slots, -1 for those without one."""
        slot_of = self._prices.buffers.slot_of
        keys = [each.key for each in instruments]
        return np.array([slot_of.get((segment << 32) | number, -1) for segment, number in keys], dtype=np.intp)

    def standing_at(self, slots: Slots) -> Standing:
        """The standing of tracked instruments that all have an owner, off the board's columns: for all at once."""
        days = self._prices.expiry_days[slots]
        return Standing(
            owned=np.ones(len(slots), dtype=np.bool_),
            evicted=np.zeros(len(slots), dtype=np.bool_),
            expired=(days > 0) & (days < self._today().toordinal()),
            segments=self._prices.segments[slots],
        )

    def standing(self, instruments: Sequence[Instrument]) -> Standing:
        today = self._today()
        keys = [each.key for each in instruments]
        over = {day for day in {each.expiry for each in instruments} if day is not None and day < today}
        return Standing(
            owned=np.array([*map(self._wishes.is_owned, keys)], dtype=np.bool_),
            evicted=np.array([*map(self._wishes.is_evicted, keys)], dtype=np.bool_),
            expired=np.array([each.expiry in over for each in instruments], dtype=np.bool_),
            segments=np.frombuffer(bytes([segment for segment, _ in keys]), dtype=np.uint8),
        )

    def _today(self) -> date:
        return self._clock.now().astimezone(self._calendar.zone).date()

    def facts(
        self, standing: Standing, slots: Slots, last_ms: Millis, usual_gap_ms: npt.NDArray[np.float64]
    ) -> StateFacts:
        """The facts of those instruments now; columns as :meth:`LivePrices.columns` gives them."""
        return self._facts(standing, slots, last_ms, usual_gap_ms, self._segments(standing.segments))

    def _facts(
        self,
        standing: Standing,
        slots: Slots,
        last_ms: Millis,
        usual_gap_ms: npt.NDArray[np.float64],
        of: _Segments,
    ) -> StateFacts:
        tracked = slots >= 0
        lost_ms = np.where(tracked, self._wires.slot_lost_ms[slots], 0)
        return StateFacts(
            expired=standing.expired,
            evicted=standing.evicted,
            owned=standing.owned,
            sent_ms=np.where(tracked, self._wires.sent_ms[slots], 0),
            last_ms=last_ms,
            usual_gap_ms=usual_gap_ms,
            normal_gap_ms=self._prices.normal_gap_ms(slots),
            lost_ms=np.maximum(lost_ms, self._prices.segment_lost_ms[standing.segments]),
            in_session=of.in_session[standing.segments],
            judged_from_ms=of.judged_from_ms[standing.segments],
            segment_alive=of.alive[standing.segments],
            now_ms=self._clock.now_ms(),
        )

    def read(self, instruments: Sequence[Instrument]) -> StateFacts:
        """The facts of any instruments, gathered from nothing."""
        slots = self.slots(instruments)
        table = self._prices.buffers.table  # its columns, not its rows: a row is many times wider than these two
        last_ms = np.where(slots >= 0, table["last_ms"][slots], 0)
        gap_ms = np.where(slots >= 0, table["usual_gap_ms"][slots], 0.0).astype(np.float64)
        return self.facts(self.standing(instruments), slots, last_ms, gap_ms)

    def states(self, instruments: Sequence[Instrument]) -> list[InstrumentState]:
        return [STATES[code] for code in states(self.read(instruments)).tolist()]

    def names(self, instruments: Sequence[Instrument]) -> list[str]:
        """The same as plain texts: an enum is slow to write."""
        return [STATE_NAMES[code] for code in states(self.read(instruments)).tolist()]

    def codes_at(self, standing: Standing, slots: Slots) -> npt.NDArray[np.uint8]:
        """State codes of tracked instruments, by their slots; for thousands at once.

        Most of a running market has had a packet within seconds and needs no other fact to be live; what silence means
        is only asked of the rest.
        """
        table = self._prices.buffers.table  # its columns, not its rows: a row is many times wider than these two
        last_ms, of = table["last_ms"].take(slots), self._segments(standing.segments)
        codes = np.full(len(slots), InstrumentState.LIVE.code, dtype=np.uint8)
        rest = np.flatnonzero(~self._has_just_come(standing, slots, last_ms, of.in_session))
        if rest.size:
            left = slots[rest]
            gap_ms = table["usual_gap_ms"][left].astype(np.float64)
            codes[rest] = states(self._facts(standing.take(rest), left, last_ms[rest], gap_ms, of))
        return codes

    def _has_just_come(self, standing: Standing, slots: Slots, last_ms: Millis, in_session: Bools) -> Bools:
        """Those of tracked instruments that are live however often they usually come."""
        earliest_ms = np.maximum(self._prices.segment_lost_ms + 1, self._clock.now_ms() - QUIET_AFTER_MS)
        earliest_ms[~in_session] = np.iinfo(np.int64).max
        has_come: Bools = last_ms >= earliest_ms.take(standing.segments)
        has_come &= last_ms > self._wires.slot_lost_ms.take(slots)
        has_come &= self._wires.sent_ms.take(slots) > 0
        has_come &= standing.owned & ~standing.expired
        return has_come

    def of(self, instrument: Instrument) -> InstrumentState:
        return self.states([instrument])[0]

    def counts(self, instruments: Sequence[Instrument]) -> dict[str, int]:
        """How many are in each state; states with none are left out."""
        counted = Counter(self.states(instruments))
        return {str(state): counted[state] for state in STATES if counted[state]}

    def why(self, instrument: Instrument, note: str = "") -> str:
        """In words, why this instrument shows what it shows; ``note`` is added as it is."""
        slot = self._prices.slot(instrument.key)
        socket = self._prices.buffers.socket_of[slot] if slot is not None else NO_SOCKET
        number = None if socket == NO_SOCKET else socket + 1
        again = (0, 0) if slot is None else (int(self._wires.repeats[slot]), int(self._wires.asked_ms[slot]))
        return why(self.read([instrument]), socket=number, tell_time=self._time_teller(), again=again, note=note)

    def _time_teller(self) -> Callable[[int], str]:
        zone, now = self._calendar.zone, self._clock.now()
        now_ms = self._clock.now_ms()

        def tell(at_ms: int) -> str:
            # Relative to the service's clock, which may be shifted: never through the machine's own.
            from_now = timedelta(milliseconds=at_ms - now_ms)
            return f"{(now + from_now).astimezone(zone):%d %b %H:%M:%S}"

        return tell

    def _segments(self, wanted: npt.NDArray[np.uint8]) -> _Segments:
        in_session, alive = np.zeros(256, dtype=np.bool_), np.zeros(256, dtype=np.bool_)
        judged_from_ms = np.zeros(256, dtype=np.int64)
        now, now_ms = self._clock.now(), self._clock.now_ms()
        for code in np.flatnonzero(np.bincount(wanted)).tolist():
            segment = Segment(code)
            phase = self._calendar.phase(segment, now)
            in_session[code] = phase is not Phase.CLOSED
            fresh = now_ms - self._prices.segment_last_ms(segment) <= SEGMENT_ALIVE_MS
            alive[code] = phase is Phase.OPEN and fresh
            since = self._calendar.judged_from(segment, now)
            judged_from_ms[code] = 0 if since is None else now_ms - int((now - since).total_seconds() * 1000)
        return _Segments(in_session, alive, judged_from_ms)
