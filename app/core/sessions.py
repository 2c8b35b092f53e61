"""Market hours as data: who trades when, per segment, and when the next end of day is. Pure.

Sources: exchange notices as gathered in the protocol notes, sections 9.3 and 12; the data lies in ``calendars/``.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, tzinfo
from enum import StrEnum
from functools import lru_cache
from zoneinfo import ZoneInfo

from app.core.ids import Exchange, Segment

INDIA = ZoneInfo("Asia/Kolkata")  # what the exchanges' days and hours are told in
NEW_YORK = ZoneInfo("America/New_York")
LOOK_AHEAD_DAYS = 15  # no market stays closed longer
SATURDAY = 5


class Phase(StrEnum):
    PRE_OPEN = "PRE_OPEN"
    OPEN = "OPEN"
    CLOSED = "CLOSED"


EXCHANGE_OF: Mapping[Segment, Exchange] = {
    Segment.IDX_I: Exchange.NSE,
    Segment.NSE_EQ: Exchange.NSE,
    Segment.NSE_FNO: Exchange.NSE,
    Segment.NSE_CURRENCY: Exchange.NSE,
    Segment.BSE_EQ: Exchange.BSE,
    Segment.BSE_CURRENCY: Exchange.BSE,
    Segment.BSE_FNO: Exchange.BSE,
    Segment.MCX_COMM: Exchange.MCX,
}


@dataclass(frozen=True, slots=True)
class Session:
    """One trading session; aware times. Values stand still from ``frozen_from`` until ``close``."""

    pre_open: datetime
    open: datetime
    close: datetime
    frozen_from: datetime | None = None

    @property
    def day(self) -> date:
        return self.open.date()

    @property
    def begin_ms(self) -> int:
        """Of the pre-open, epoch milliseconds UTC."""
        return int(self.pre_open.timestamp() * 1000)

    @property
    def close_ms(self) -> int:
        """Epoch milliseconds UTC."""
        return int(self.close.timestamp() * 1000)


@dataclass(frozen=True, slots=True)
class Hours:
    """The usual day of some segments from ``since`` until a later entry for the same segment."""

    segments: frozenset[Segment]
    since: date
    pre_open: time
    open: time
    close: time
    close_us_dst: time | None = None
    frozen_from: time | None = None


@dataclass(frozen=True, slots=True)
class ExchangeDays:
    """Which days one exchange trades, and how."""

    exchange: Exchange
    years: frozenset[int]
    hours: tuple[Hours, ...]
    closed: frozenset[date] = frozenset()
    extra_days: frozenset[date] = frozenset()
    morning_closed: frozenset[date] = frozenset()
    evening_closed: frozenset[date] = frozenset()
    morning_close: time = time(17)
    evening_open: time = time(17)
    special: Mapping[date, tuple[time, time]] = field(default_factory=dict)


def parse_exchange_days(text: str) -> ExchangeDays:
    """Read one calendar file (TOML)."""
    raw = tomllib.loads(text)
    return ExchangeDays(
        exchange=Exchange(raw["exchange"]),
        years=frozenset(raw["years"]),
        hours=tuple(
            Hours(
                segments=frozenset(Segment[name] for name in each["segments"]),
                since=each["from"],
                pre_open=each["pre_open"],
                open=each["open"],
                close=each["close"],
                close_us_dst=each.get("close_us_dst"),
                frozen_from=each.get("frozen_from"),
            )
            for each in raw["hours"]
        ),
        closed=frozenset(raw["closed"]),
        extra_days=frozenset(raw.get("extra_days", ())),
        morning_closed=frozenset(raw.get("morning_closed", ())),
        evening_closed=frozenset(raw.get("evening_closed", ())),
        morning_close=raw.get("morning_close", time(17)),
        evening_open=raw.get("evening_open", time(17)),
        special={each["day"]: (each["open"], each["close"]) for each in raw.get("special", ())},
    )


SESSIONS_KEPT = 512  # segments by days


class Calendar:
    """Answers for every segment whether it trades at a moment."""

    def __init__(self, exchanges: Iterable[ExchangeDays], zone: tzinfo, *, always_open: bool = False) -> None:
        self._days = {each.exchange: each for each in exchanges}
        self._zone = zone
        self.always_open = always_open
        self._sessions = lru_cache(SESSIONS_KEPT)(self._sessions_of)  # asked for many times a second

    @property
    def zone(self) -> tzinfo:
        return self._zone

    def covers(self, exchange: Exchange, day: date) -> bool:
        """Whether the closures of that year are known."""
        return self.always_open or day.year in self._days[exchange].years

    def is_trading_day(self, exchange: Exchange, day: date) -> bool:
        if self.always_open:
            return True
        days = self._days[exchange]
        if day in days.special or day in days.extra_days:
            return True
        return day.weekday() < SATURDAY and day not in days.closed

    def is_special(self, exchange: Exchange, day: date) -> bool:
        """A day with a session of its own, such as Muhurat."""
        return not self.always_open and day in self._days[exchange].special

    def sessions(self, segment: Segment, day: date) -> tuple[Session, ...]:
        """The session of that day; empty when closed."""
        return self._sessions(segment, day)

    def _sessions_of(self, segment: Segment, day: date) -> tuple[Session, ...]:
        if self.always_open:
            midnight = self._at(day, time(0))
            return (Session(midnight, midnight, midnight + timedelta(days=1)),)
        days = self._days[EXCHANGE_OF[segment]]
        if not self.is_trading_day(days.exchange, day):
            return ()
        if day in days.special:
            opens, closes = days.special[day]
            return (Session(self._at(day, opens), self._at(day, opens), self._at(day, closes)),)
        hours = self._hours_on(days, segment, day)
        return () if hours is None else (self._regular(days, hours, day),)

    def phase(self, segment: Segment, at: datetime) -> Phase:
        for session in self.sessions(segment, at.astimezone(self._zone).date()):
            if session.open <= at < session.close:
                return Phase.OPEN
            if session.pre_open <= at < session.open:
                return Phase.PRE_OPEN
        return Phase.CLOSED

    def is_frozen(self, segment: Segment, at: datetime) -> bool:
        """In session, but values are known to stand still (the closing auction)."""
        return any(
            session.frozen_from is not None and session.frozen_from <= at < session.close
            for session in self.sessions(segment, at.astimezone(self._zone).date())
        )

    def latest_session(self, segment: Segment, at: datetime) -> Session | None:
        """The newest session that has begun, its pre-open included; None if there was none in the last two weeks."""
        day = at.astimezone(self._zone).date()
        sessions = (self.sessions(segment, day - timedelta(days=back)) for back in range(LOOK_AHEAD_DAYS))
        return next((each for of_day in sessions for each in of_day if each.pre_open <= at), None)

    def session_before(self, segment: Segment, session: Session) -> Session | None:
        """The one before that; None if there was none in the two weeks before."""
        return self.latest_session(segment, session.pre_open - timedelta(microseconds=1))

    def judged_from(self, segment: Segment, at: datetime) -> datetime | None:
        """Since when silence means something: the open of the session; None while closed, pre-open or frozen."""
        if self.is_frozen(segment, at):
            return None
        sessions = self.sessions(segment, at.astimezone(self._zone).date())
        return next((each.open for each in sessions if each.open <= at < each.close), None)

    def next_change(self, segment: Segment, at: datetime) -> datetime | None:
        """The next moment at which :meth:`phase` answers differently; None if it never does."""
        if self.always_open:
            return None
        day = at.astimezone(self._zone).date()
        for ahead in range(LOOK_AHEAD_DAYS):
            for session in self.sessions(segment, day + timedelta(days=ahead)):
                for moment in (session.pre_open, session.open, session.close):
                    if moment > at:
                        return moment
        return None

    def _hours_on(self, days: ExchangeDays, segment: Segment, day: date) -> Hours | None:
        in_force = [each for each in days.hours if segment in each.segments and each.since <= day]
        return max(in_force, key=lambda each: each.since, default=None)

    def _regular(self, days: ExchangeDays, hours: Hours, day: date) -> Session:
        close = hours.close
        if hours.close_us_dst is not None and datetime.combine(day, time(12), NEW_YORK).dst():
            close = hours.close_us_dst
        opens, pre_open = hours.open, hours.pre_open
        if day in days.morning_closed:
            opens = pre_open = days.evening_open
        if day in days.evening_closed:
            close = days.morning_close
        frozen = None if hours.frozen_from is None else self._at(day, hours.frozen_from)
        return Session(self._at(day, pre_open), self._at(day, opens), self._at(day, close), frozen)

    def _at(self, day: date, clock: time) -> datetime:
        return datetime.combine(day, clock, self._zone)
