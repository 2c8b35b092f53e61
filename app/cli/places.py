"""What settings mean for a program that runs beside the service: its clock and its calendar."""

from __future__ import annotations

from importlib.resources import files

from app.core.sessions import Calendar, parse_exchange_days
from app.ports.clock import ShiftedClock
from app.settings import Settings


def clock_of(settings: Settings) -> ShiftedClock:
    """The service's clock: the machine's, on the day that ``BT_SIM_DATE`` names."""
    return ShiftedClock(settings.zone, settings.bt_sim_date)


def calendar_of(settings: Settings) -> Calendar:
    """The exchanges' calendar, or the simulator's own that never closes."""
    if settings.all_hours:
        return Calendar([], settings.zone, always_open=True)
    folder = files("app.core") / "calendars"
    return Calendar([parse_exchange_days(each.read_text("utf-8")) for each in folder.iterdir()], settings.zone)
