"""Market hours: real days with known answers, and the calendars of two libraries as witnesses."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from importlib.resources import files
from zoneinfo import ZoneInfo

import pytest

from app.core.ids import Exchange, Segment
from app.core.sessions import Calendar, Phase, parse_exchange_days

IST = ZoneInfo("Asia/Kolkata")


@pytest.fixture(scope="module")
def calendar() -> Calendar:
    folder = files("app.core") / "calendars"
    return Calendar([parse_exchange_days((folder / f"{name}.toml").read_text()) for name in ("nse", "bse", "mcx")], IST)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=IST)


@pytest.mark.parametrize(
    ("segment", "moment", "phase"),
    [
        (Segment.NSE_EQ, "2026-02-03T08:59:59", Phase.CLOSED),
        (Segment.NSE_EQ, "2026-02-03T09:00:00", Phase.PRE_OPEN),
        (Segment.NSE_EQ, "2026-02-03T09:15:00", Phase.OPEN),
        (Segment.NSE_EQ, "2026-02-03T15:29:59", Phase.OPEN),
        (Segment.NSE_EQ, "2026-02-03T15:30:00", Phase.CLOSED),
        (Segment.NSE_FNO, "2026-07-31T15:35:00", Phase.CLOSED),
        (Segment.NSE_FNO, "2026-08-03T15:35:00", Phase.OPEN),  # F&O until 15:40 since August 2026
        (Segment.BSE_FNO, "2026-08-03T15:40:00", Phase.CLOSED),
        (Segment.NSE_EQ, "2026-01-26T11:00:00", Phase.CLOSED),  # Republic Day
        (Segment.NSE_EQ, "2026-02-01T11:00:00", Phase.OPEN),  # budget Sunday
        (Segment.NSE_FNO, "2026-11-08T18:30:00", Phase.OPEN),  # Muhurat Sunday
        (Segment.NSE_FNO, "2026-11-08T19:00:00", Phase.CLOSED),
        (Segment.MCX_COMM, "2026-07-01T23:29:59", Phase.OPEN),  # New York on daylight saving time
        (Segment.MCX_COMM, "2026-07-01T23:30:00", Phase.CLOSED),
        (Segment.MCX_COMM, "2026-11-23T23:54:59", Phase.OPEN),
        (Segment.MCX_COMM, "2026-03-03T11:00:00", Phase.CLOSED),  # morning closed, evening open
        (Segment.MCX_COMM, "2026-03-03T17:00:00", Phase.OPEN),
        (Segment.MCX_COMM, "2026-01-01T11:00:00", Phase.OPEN),
        (Segment.MCX_COMM, "2026-01-01T18:00:00", Phase.CLOSED),
    ],
)
def test_phase_on_days_with_known_answers(calendar: Calendar, segment: Segment, moment: str, phase: Phase) -> None:
    assert calendar.phase(segment, at(moment)) is phase


def test_index_values_stand_still_before_the_auction(calendar: Calendar) -> None:
    assert calendar.is_frozen(Segment.IDX_I, at("2026-11-23T15:20:00"))
    assert not calendar.is_frozen(Segment.IDX_I, at("2026-11-23T15:14:59"))
    assert not calendar.is_frozen(Segment.NSE_FNO, at("2026-11-23T15:20:00"))
    assert not calendar.is_frozen(Segment.IDX_I, at("2026-02-03T15:20:00"))


def test_next_change_skips_the_weekend(calendar: Calendar) -> None:
    assert calendar.next_change(Segment.NSE_EQ, at("2026-02-06T16:00:00")) == at("2026-02-09T09:00:00")
    assert calendar.next_change(Segment.NSE_EQ, at("2026-02-09T10:00:00")) == at("2026-02-09T15:30:00")


def test_always_open_never_closes() -> None:
    always = Calendar([], IST, always_open=True)
    for hour in range(24 * 8):
        moment = at("2026-01-25T00:00:00") + timedelta(hours=hour)
        assert always.phase(Segment.MCX_COMM, moment) is Phase.OPEN
    assert always.next_change(Segment.NSE_EQ, at("2026-01-25T00:00:00")) is None


@pytest.mark.filterwarnings("ignore")
def test_closures_of_2026_agree_with_two_libraries(calendar: Calendar) -> None:
    import exchange_calendars
    import pandas_market_calendars

    first, last = date(2026, 1, 1), date(2026, 12, 31)
    bombay = exchange_calendars.get_calendar("XBOM")
    witness_bse = set(bombay.sessions_in_range(str(first), str(last)).date)
    witness_nse = set(pandas_market_calendars.get_calendar("NSE").valid_days(first, last).date)
    weekdays = [first + timedelta(days=n) for n in range(365) if (first + timedelta(days=n)).weekday() < 5]
    for exchange, witness in ((Exchange.NSE, witness_nse), (Exchange.BSE, witness_bse)):
        ours = {day for day in weekdays if calendar.is_trading_day(exchange, day)}
        assert ours == {day for day in witness if day.weekday() < 5}


def test_a_year_without_data_is_known_as_such(calendar: Calendar) -> None:
    assert calendar.covers(Exchange.NSE, date(2026, 6, 1))
    assert not calendar.covers(Exchange.NSE, date(2031, 6, 2))
