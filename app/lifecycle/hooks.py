"""The lifecycle by the names of the user's document. ``scheduler`` is the running service's APScheduler.

``running(runtime)`` is what starts and stops a service; the functions below are doors for people and scripts.
"""

from __future__ import annotations

from typing import cast

from apscheduler.schedulers.asyncio import AsyncIOScheduler

from app.core import current
from app.core.blocking import run
from app.core.doors import Door
from app.core.ids import Exchange
from app.lifecycle.schedule import tell_cleaned_up
from app.lifecycle.start import Starter, running
from app.market.instrument_master.registry import RegistryReport
from app.runtime.build import Runtime

__all__ = ["eod_cleanup", "load_instruments", "load_tier_b_chains", "on_start", "on_stop", "running", "scheduler"]


def _scheduler_of(runtime: Runtime) -> object:
    if runtime.status.scheduler is None:  # in memory: planned, never started
        schedule = Starter(runtime).schedule()
        schedule.plan()
        runtime.status.scheduler = schedule.scheduler
    return runtime.status.scheduler


scheduler = cast("AsyncIOScheduler", Door(AsyncIOScheduler, _scheduler_of))


def on_start() -> None:
    """Make sure that a service stands behind the doors: the running one, else one in memory."""
    current.runtime()


def on_stop() -> None:
    """Let the service in memory go; a running one is stopped by whoever started it."""
    current.forget_in_memory()


def load_instruments() -> RegistryReport | None:
    """What the registry holds; it is loaded with the service and replaced whole once a day."""
    report: RegistryReport | None = current.runtime().registry.report
    return report


def load_tier_b_chains() -> dict[str, object]:
    """Look at the always-on chains now; those whose spot is known are subscribed. Returns what is and what waits."""
    report: dict[str, object] = current.call(_look_at_tier_b)
    return report


def _look_at_tier_b() -> dict[str, object]:
    runtime = current.runtime()
    runtime.control.use_universe(runtime.always_on())
    report: dict[str, object] = runtime.control.tier_b_report()
    return report


def eod_cleanup() -> int:
    """Clean up now, whatever the time: all Tier A leaves, every list is cleared. Returns how many instruments left."""
    runtime = current.runtime()
    now = runtime.clock.now()
    mark = f"EOD:BY-HAND:{now.isoformat()}"
    released = run(runtime.watchlists.end_of_day(mark, now, frozenset(Exchange))) or 0
    tell_cleaned_up(now, released, mark)
    return released
