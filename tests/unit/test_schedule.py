"""End of day by APScheduler: at its moment, once more after a failure, and what was missed first."""

from __future__ import annotations

import asyncio
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from app.core.eod import EndOfDay, parse_eod_time
from app.core.errors import StoreUnavailable
from app.core.sessions import Calendar
from app.lifecycle import schedule as schedule_module
from app.lifecycle.schedule import DailyWork, Schedule, shown_times
from app.runtime.clock import ShiftedClock

IST = ZoneInfo("Asia/Kolkata")


class Office:
    """What the schedule calls, noted."""

    def __init__(self, clock: ShiftedClock, eod: str) -> None:
        self.done: list[EndOfDay] = []
        self.warned: list[EndOfDay] = []
        self.planned: list[EndOfDay | None] = []
        self.failures = 0
        self.called = asyncio.Event()
        self.crashes: list[BaseException] = []
        self.crashed = asyncio.Event()
        work = DailyWork(self.end_of_day, self.warned.append, self.broken, self.nothing, self.note_crash)
        self.schedule = Schedule(
            clock,
            Calendar([], IST, always_open=True),
            parse_eod_time(eod),
            work,
            clock.offset_s,
            lambda plan: self.planned.append(plan.next_eod),
        )

    async def end_of_day(self, due: EndOfDay) -> int | None:
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable("the database is away")
        self.done.append(due)
        self.called.set()
        return 50

    def note_crash(self, error: BaseException) -> None:
        self.crashes.append(error)
        self.crashed.set()

    async def broken(self) -> None:
        raise ZeroDivisionError("nobody foresaw this")

    async def nothing(self) -> None:
        """Not due in these tests."""


def clock_at(text: str) -> ShiftedClock:
    """A running clock that shows this moment now, on a shifted day."""
    moment = datetime.fromisoformat(text).replace(tzinfo=IST)
    started = asyncio.get_running_loop().time()
    machine = datetime.now(IST).replace(
        hour=moment.hour, minute=moment.minute, second=moment.second, microsecond=moment.microsecond
    )
    loop = asyncio.get_running_loop()
    return ShiftedClock(IST, moment.date(), epoch_s=lambda: machine.timestamp() + loop.time() - started)


async def test_what_was_missed_is_done_at_start_and_the_next_is_planned() -> None:
    office = Office(clock_at("2026-02-03T12:00:00"), "11:00")
    await office.schedule.start()
    try:
        assert [due.mark for due in office.done] == ["EOD:ALL:2026-02-03"]
        assert office.schedule.next_eod is not None
        assert office.schedule.next_eod.at == datetime(2026, 2, 4, 11, 0, tzinfo=IST)
        assert office.planned[-1] == office.schedule.next_eod
    finally:
        office.schedule.stop()
        await asyncio.sleep(0)


async def test_jobs_stand_at_the_machines_time_of_the_shifted_moment() -> None:
    clock = clock_at("2026-02-03T12:00:00")
    office = Office(clock, "15:30")
    office.schedule.plan()
    due = datetime(2026, 2, 3, 15, 30, tzinfo=IST) - timedelta(seconds=clock.offset_s)
    jobs = {job.id: job for job in office.schedule.scheduler.get_jobs()}
    assert set(jobs) == {"end_of_day", "warn", "refresh_master", "prune_audit"}
    assert jobs["end_of_day"].trigger.run_date == due
    assert jobs["warn"].trigger.run_date == due - timedelta(minutes=15)


async def test_a_failed_end_of_day_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule_module, "EOD_RETRY", timedelta(milliseconds=300))
    office = Office(ShiftedClock(IST, date(2026, 2, 3)), "15:30")
    office.schedule.plan()
    office.schedule.scheduler.start()
    due = office.schedule.next_eod
    assert due is not None
    try:
        office.failures = 2
        await office.schedule._run_eod(due)
        assert office.done == []
        async with asyncio.timeout(30):
            await office.called.wait()
        assert office.done == [due]
    finally:
        office.schedule.stop()
        await asyncio.sleep(0)


async def test_exchanges_that_end_at_the_same_moment_all_end() -> None:
    office = Office(clock_at("2026-02-03T12:00:00"), "NSE=11:00,BSE=11:00,MCX=23:55")
    await office.schedule.start()
    try:
        office.done.clear()
        first, *_ = parse_eod_time("NSE=11:00,BSE=11:00").of_day(Calendar([], IST, always_open=True), date(2026, 2, 3))
        await office.schedule._run_eod(first)
        assert {due.mark for due in office.done} >= {"EOD:BSE:2026-02-03", "EOD:NSE:2026-02-03"}
        assert office.schedule.next_eod is not None
        assert office.schedule.next_eod.exchanges == {"MCX"}
    finally:
        office.schedule.stop()
        await asyncio.sleep(0)


async def test_what_nobody_foresaw_is_told_and_not_swallowed() -> None:
    office = Office(ShiftedClock(IST, date(2026, 2, 3)), "15:30")
    office.schedule.plan()
    office.schedule.scheduler.start()
    try:
        office.schedule.scheduler.get_job("refresh_master").modify(next_run_time=datetime.now(IST))
        async with asyncio.timeout(30):
            await office.crashed.wait()
        assert isinstance(office.crashes[0], ZeroDivisionError)
    finally:
        office.schedule.stop()
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("told", "zone", "shown"),
    [
        ("15:30", "IST", "3:30 PM IST"),
        ("10:00", "UTC", "10:00 AM UTC"),
        ("NSE=15:40,BSE=15:40,MCX=23:55", "IST", "NSE 15:40, BSE 15:40, MCX 23:55 IST"),
    ],
)
def test_the_times_are_shown_in_their_zone(told: str, zone: str, shown: str) -> None:
    assert shown_times(parse_eod_time(told), zone) == shown
