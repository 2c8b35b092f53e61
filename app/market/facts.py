"""Gathers what the state rule needs to know, for one instrument or for thousands; the rule is in ``states``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Protocol

import numpy as np
import numpy.typing as npt

from app.core.ids import InstrumentKey, Segment
from app.core.instruments import Instrument
from app.core.sessions import Calendar, Phase
from app.market.live_prices import LivePrices, Slots
from app.market.states import (
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
        return np.array([slot_of.get(each.key.packed, -1) for each in instruments], dtype=np.intp)

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
        return Standing(
            owned=np.array([self._wishes.is_owned(each.key) for each in instruments], dtype=np.bool_),
            evicted=np.array([self._wishes.is_evicted(each.key) for each in instruments], dtype=np.bool_),
            expired=np.array([each.expiry is not None and each.expiry < today for each in instruments], dtype=np.bool_),
            segments=np.array([int(each.key.segment) for each in instruments], dtype=np.uint8),
        )

    def _today(self) -> date:
        return self._clock.now().astimezone(self._calendar.zone).date()

    def facts(
        self, standing: Standing, slots: Slots, last_ms: Millis, usual_gap_ms: npt.NDArray[np.float64]
    ) -> StateFacts:
        """The facts of those instruments now; columns as :meth:`LivePrices.columns` gives them."""
        in_session, alive, judged_from_ms = self._segments(standing.segments)
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
            in_session=in_session[standing.segments],
            judged_from_ms=judged_from_ms[standing.segments],
            segment_alive=alive[standing.segments],
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
        """State codes of tracked instruments, by their slots; for thousands at once."""
        table = self._prices.buffers.table  # its columns, not its rows: a row is many times wider than these two
        gap_ms = table["usual_gap_ms"][slots].astype(np.float64)
        return states(self.facts(standing, slots, table["last_ms"][slots], gap_ms))

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

    def _segments(self, wanted: npt.NDArray[np.uint8]) -> tuple[Bools, Bools, Millis]:
        in_session, alive = np.zeros(256, dtype=np.bool_), np.zeros(256, dtype=np.bool_)
        judged_from_ms = np.zeros(256, dtype=np.int64)
        now, now_ms = self._clock.now(), self._clock.now_ms()
        for code in np.unique(wanted).tolist():
            segment = Segment(code)
            phase = self._calendar.phase(segment, now)
            in_session[code] = phase is not Phase.CLOSED
            fresh = now_ms - self._prices.segment_last_ms(segment) <= SEGMENT_ALIVE_MS
            alive[code] = phase is Phase.OPEN and fresh
            since = self._calendar.judged_from(segment, now)
            judged_from_ms[code] = 0 if since is None else now_ms - int((now - since).total_seconds() * 1000)
        return in_session, alive, judged_from_ms
