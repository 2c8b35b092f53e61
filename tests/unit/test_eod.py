"""When Tier A leaves: rule 9 of the contract as a pure function."""

from __future__ import annotations

from datetime import datetime
from importlib.resources import files
from zoneinfo import ZoneInfo

import pytest

from app.core.eod import parse_eod_time
from app.core.ids import Exchange
from app.core.sessions import Calendar, parse_exchange_days

IST = ZoneInfo("Asia/Kolkata")


@pytest.fixture(scope="module")
def calendar() -> Calendar:
    folder = files("app.core") / "calendars"
    return Calendar([parse_exchange_days((folder / f"{name}.toml").read_text()) for name in ("nse", "bse", "mcx")], IST)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=IST)


@pytest.mark.parametrize(
    ("now", "due"),
    [
        ("2026-02-03T10:00:00", "2026-02-03T15:30:00"),
        ("2026-02-03T15:30:00", "2026-02-04T15:30:00"),  # at the moment itself the next one is tomorrow's
        ("2026-02-06T16:00:00", "2026-02-09T15:30:00"),  # over the weekend
        ("2026-01-26T10:00:00", "2026-01-27T15:30:00"),  # a holiday clears nothing
        ("2026-11-08T10:00:00", "2026-11-08T19:00:00"),  # Muhurat clears at its end
        ("2026-11-24T10:00:00", "2026-11-25T15:30:00"),  # only MCX trades in the evening: clears nothing
    ],
)
def test_next_end_of_day(calendar: Calendar, now: str, due: str) -> None:
    assert parse_eod_time("15:30").next_after(calendar, at(now)).at == at(due)


def test_the_time_is_on_the_clocks_of_its_zone(calendar: Calendar) -> None:
    rule = parse_eod_time("10:00", ZoneInfo("UTC"))
    assert rule.next_after(calendar, at("2026-02-03T10:00:00")).at == at("2026-02-03T15:30:00")
    assert rule.next_after(calendar, at("2026-11-08T10:00:00")).at == at("2026-11-08T19:00:00"), "Muhurat's own end"
    night = parse_eod_time("19:00", ZoneInfo("America/New_York"))
    assert night.next_after(calendar, at("2026-02-07T04:00:00")).at == at("2026-02-07T05:30:00"), "Friday's, there"


def test_after_downtime_only_the_latest_missed_is_due(calendar: Calendar) -> None:
    missed = parse_eod_time("15:30").missed(calendar, at("2026-02-09T09:00:00"))
    assert [each.mark for each in missed] == ["EOD:ALL:2026-02-06"]
    assert missed[0].at == at("2026-02-06T15:30:00")


def test_per_exchange_times(calendar: Calendar) -> None:
    rule = parse_eod_time("NSE=15:40, BSE=15:40,MCX=23:55")
    marks = [each.mark for each in rule.of_day(calendar, at("2026-02-03T00:00:00").date())]
    assert sorted(marks) == ["EOD:BSE:2026-02-03", "EOD:MCX:2026-02-03", "EOD:NSE:2026-02-03"]
    assert rule.next_after(calendar, at("2026-02-03T16:00:00")).exchanges == {Exchange.MCX}
    assert len(rule.missed(calendar, at("2026-02-03T16:00:00"))) == 3


def test_an_exchange_that_is_not_named_ends_at_the_usual_time(calendar: Calendar) -> None:
    due = parse_eod_time("MCX=23:55").of_day(calendar, at("2026-02-03T00:00:00").date())
    assert [(each.at, each.exchanges) for each in due] == [
        (at("2026-02-03T15:30:00"), {Exchange.NSE}),
        (at("2026-02-03T15:30:00"), {Exchange.BSE}),
        (at("2026-02-03T23:55:00"), {Exchange.MCX}),
    ]


def test_the_simulators_calendar_ends_every_day() -> None:
    always = Calendar([], IST, always_open=True)
    assert parse_eod_time("15:30").next_after(always, at("2026-02-07T16:00:00")).at == at("2026-02-08T15:30:00")


@pytest.mark.parametrize("text", ["", "25:00", "15.30", "15:3x", "NYSE=15:30", "NSE=15:30,NSE=15:40", "NSE=", "15:60"])
def test_a_bad_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_eod_time(text)
