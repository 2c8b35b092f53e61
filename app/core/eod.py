"""When Tier A leaves. Pure: the scheduler only waits for what these functions answer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, tzinfo

from app.core.ids import Exchange, Segment
from app.core.sessions import INDIA, LOOK_AHEAD_DAYS, Calendar

USUAL_END = time(15, 30)
MAIN_SEGMENT = {Exchange.NSE: Segment.NSE_EQ, Exchange.BSE: Segment.BSE_EQ, Exchange.MCX: Segment.MCX_COMM}


@dataclass(frozen=True, slots=True)
class EndOfDay:
    """One clean-up: at that moment the Tier A entries of those exchanges leave, once."""

    at: datetime
    exchanges: frozenset[Exchange]
    mark: str


@dataclass(frozen=True, slots=True)
class EndOfDayRule:
    """``BT_EOD_TIME``: one time for all, or one per exchange; on the clocks of ``zone`` (``BT_TIMEZONE``)."""

    times: tuple[tuple[frozenset[Exchange], time], ...]
    zone: tzinfo = INDIA

    def of_day(self, calendar: Calendar, day: date) -> list[EndOfDay]:
        """The clean-ups of that day, in order of time.

        One time for all follows NSE's calendar, so a day on which only MCX trades clears nothing. A day with a special
        session (Muhurat) clears when that session closes.
        """
        found = []
        for exchanges, clock in self.times:
            lead = Exchange.NSE if Exchange.NSE in exchanges else min(exchanges)
            if not calendar.is_trading_day(lead, day):
                continue
            at = datetime.combine(day, clock, self.zone).astimezone(calendar.zone)
            if calendar.is_special(lead, day):
                at = calendar.sessions(MAIN_SEGMENT[lead], day)[-1].close
            name = "ALL" if len(exchanges) == len(Exchange) else "+".join(sorted(exchanges))
            found.append(EndOfDay(at, exchanges, f"EOD:{name}:{day.isoformat()}"))
        return sorted(found, key=lambda each: each.at)

    def next_after(self, calendar: Calendar, moment: datetime) -> EndOfDay:
        """The first clean-up later than ``moment``."""
        day = moment.astimezone(self.zone).date()
        for ahead in range(LOOK_AHEAD_DAYS):
            for each in self.of_day(calendar, day + timedelta(days=ahead)):
                if each.at > moment:
                    return each
        raise LookupError(f"no trading day within {LOOK_AHEAD_DAYS} days of {day}")

    def missed(self, calendar: Calendar, now: datetime) -> list[EndOfDay]:
        """The latest clean-up of each group at or before ``now``: due unless its mark is already stored."""
        day = now.astimezone(self.zone).date()
        latest: dict[frozenset[Exchange], EndOfDay] = {}
        for back in range(LOOK_AHEAD_DAYS):
            for each in self.of_day(calendar, day - timedelta(days=back)):
                known = latest.get(each.exchanges)
                if each.at <= now and (known is None or each.at > known.at):
                    latest[each.exchanges] = each
        return sorted(latest.values(), key=lambda each: each.at)


def parse_eod_time(text: str, zone: tzinfo = INDIA) -> EndOfDayRule:
    """Read ``15:30`` or ``NSE=15:40,BSE=15:40,MCX=23:55``; an exchange that is not named ends at the usual time.

    Raises:
        ValueError: not of these forms.
    """
    cleaned = text.strip()
    if "=" not in cleaned:
        return EndOfDayRule(((frozenset(Exchange), _clock(cleaned)),), zone)
    times: list[tuple[frozenset[Exchange], time]] = []
    for part in cleaned.split(","):
        name, _, clock = part.partition("=")
        if name.strip().upper() not in Exchange.__members__:
            raise ValueError(f"{name.strip()!r} is no exchange; write 15:30 or NSE=15:40,BSE=15:40,MCX=23:55")
        times.append((frozenset({Exchange(name.strip().upper())}), _clock(clock.strip())))
    if len({exchange for exchanges, _ in times for exchange in exchanges}) != len(times):
        raise ValueError("an exchange is named twice")
    named = {exchange for exchanges, _ in times for exchange in exchanges}
    rest = [(frozenset({exchange}), USUAL_END) for exchange in Exchange if exchange not in named]
    return EndOfDayRule((*times, *rest), zone)


def _clock(text: str) -> time:
    hours, separator, minutes = text.partition(":")
    if not (separator and hours.isascii() and hours.isdecimal() and minutes.isascii() and minutes.isdecimal()):
        raise ValueError(f"{text!r} is no time of day; write 15:30")
    return time(int(hours), int(minutes))
