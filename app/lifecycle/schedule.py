"""What happens by the clock: end of day with catch-up, its warning, the daily master, the audit's age limit."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from apscheduler.events import EVENT_JOB_ERROR
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.date import DateTrigger

from app.core.eod import EndOfDay, EndOfDayRule
from app.core.errors import TerminalError
from app.core.sessions import Calendar
from app.ports.clock import Clock

EOD_WARNING = timedelta(minutes=15)
EOD_RETRY = timedelta(seconds=20)  # the mark in the store keeps a second try from clearing twice
MASTER_REFRESH_HOUR, MASTER_REFRESH_MINUTE = 8, 30  # Dhan refreshes its file before the open
PRUNE_HOUR = 4


@dataclass(frozen=True, slots=True)
class DailyWork:
    """What the schedule calls; each may be called again. ``crashed`` is told of what nobody foresaw."""

    end_of_day: Callable[[EndOfDay], Awaitable[int | None]]
    warn: Callable[[EndOfDay], None]
    refresh_master: Callable[[], Awaitable[None]]
    prune_audit: Callable[[], Awaitable[None]]
    crashed: Callable[[BaseException], None]


class Schedule:
    """Waits for the moments that ``core.eod`` answers. APScheduler reads the wall clock, so a service whose clock is
    shifted by whole days hands it the unshifted moment."""

    def __init__(
        self,
        clock: Clock,
        calendar: Calendar,
        rule: EndOfDayRule,
        work: DailyWork,
        offset_s: float,
        on_planned: Callable[[Schedule], None],
    ) -> None:
        self._clock = clock
        self._calendar = calendar
        self._rule = rule
        self._work = work
        self._offset = timedelta(seconds=offset_s)
        self._on_planned = on_planned
        self._log = structlog.get_logger("schedule")
        self.scheduler = AsyncIOScheduler(
            timezone=calendar.zone, job_defaults={"coalesce": True, "misfire_grace_time": None, "max_instances": 1}
        )
        self.scheduler.add_listener(lambda event: work.crashed(event.exception), EVENT_JOB_ERROR)
        self.next_eod: EndOfDay | None = None

    async def start(self) -> None:
        """Do what was missed while the process was down, then wait for the next moments."""
        for missed in self._rule.missed(self._calendar, self._clock.now()):
            await self._clean_up(missed)
        self.plan()
        self.scheduler.start()
        zone = f"{self._clock.now().astimezone(self._rule.zone):%Z}"
        self._log.info(f"[OK] EOD scheduler started ({shown_times(self._rule, zone)})")

    def plan(self) -> None:
        """Put every job on the scheduler; none runs before it is started."""
        self._daily("refresh_master", self._work.refresh_master, MASTER_REFRESH_HOUR, MASTER_REFRESH_MINUTE)
        self._daily("prune_audit", self._work.prune_audit, PRUNE_HOUR, 0)
        self._plan_next()

    def stop(self) -> None:
        if self.scheduler.running:
            self.scheduler.shutdown(wait=False)

    def _plan_next(self) -> None:
        now = self._clock.now()
        self.next_eod = upcoming = self._rule.next_after(self._calendar, now)
        self._on_planned(self)
        self._once("end_of_day", self._run_eod, upcoming.at, upcoming)
        warn_at = upcoming.at - EOD_WARNING
        if warn_at > now:
            self._once("warn", self._warn, warn_at, upcoming)

    async def _run_eod(self, due: EndOfDay) -> None:
        # Several exchanges may end at one moment, and a machine may have slept: the marks keep each from ending twice.
        since = [each for each in self._rule.missed(self._calendar, self._clock.now()) if each.at >= due.at]
        try:
            for each in (due, *(each for each in since if each.mark != due.mark)):
                await self._clean_up(each)
        except TerminalError as error:
            self._log.error("end of day failed, trying again", mark=due.mark, error=error.detail)
            self._once("end_of_day", self._run_eod, self._clock.now() + EOD_RETRY, due)
        else:
            self._plan_next()

    async def _warn(self, due: EndOfDay) -> None:
        self._work.warn(due)

    async def _clean_up(self, due: EndOfDay) -> None:
        released = await self._work.end_of_day(due)
        if released is not None:
            tell_cleaned_up(due.at, released, due.mark)

    def _once(self, name: str, work: Callable[..., Awaitable[None]], at: datetime, *arguments: Any) -> None:
        trigger = DateTrigger(run_date=at - self._offset, timezone=self._calendar.zone)
        self.scheduler.add_job(work, trigger, args=arguments, id=name, replace_existing=True)

    def _daily(self, name: str, work: Callable[[], Awaitable[None]], hour: int, minute: int) -> None:
        trigger = CronTrigger(hour=hour, minute=minute, timezone=self._calendar.zone)
        self.scheduler.add_job(work, trigger, id=name, replace_existing=True)


def shown_times(rule: EndOfDayRule, zone: str) -> str:
    """As people write it: ``3:30 PM IST``, or by exchange."""
    if len(rule.times) == 1:
        return f"{rule.times[0][1]:%-I:%M %p} {zone}"
    each = (
        f"{'all exchanges' if len(exchanges) > 1 else next(iter(exchanges))} {clock:%H:%M}"
        for exchanges, clock in rule.times
    )
    return f"{', '.join(each)} {zone}"


def tell_cleaned_up(at: datetime, released: int, mark: str) -> None:
    """The line by which a log shows that an end of day was done."""
    structlog.get_logger("schedule").info("[EOD] Cleanup complete", at=at.isoformat(), released=released, mark=mark)
