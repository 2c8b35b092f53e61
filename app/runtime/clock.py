"""The wall clock, moved by whole days where ``BT_SIM_DATE`` says so: the only reader of the machine's time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from datetime import date, datetime, tzinfo

STEP_MAX_S = 3_600.0  # a greater difference is followed at once: the machine slept, or its clock was never set
CATCH_UP = 0.5  # share of the time that passes by which a difference is worked off


class SteadyTime:
    """The machine's time without its steps: a clock that is set is followed at one and a half times its speed, or at
    half, and so never runs back. What is measured in it meanwhile is half to one and a half of what passed.
    """

    def __init__(self, epoch_s: Callable[[], float], monotonic_s: Callable[[], float]) -> None:
        self._epoch_s = epoch_s
        self._monotonic_s = monotonic_s
        self._epoch, self._monotonic = epoch_s(), monotonic_s()
        self._behind_s = 0.0  # how far the told time is behind the machine's

    def epoch_s(self) -> float:
        """Epoch seconds UTC."""
        epoch, monotonic = self._epoch_s(), self._monotonic_s()
        passed_s = monotonic - self._monotonic
        behind_s = self._behind_s + (epoch - self._epoch) - passed_s
        self._epoch, self._monotonic = epoch, monotonic
        if abs(behind_s) > STEP_MAX_S:
            behind_s = 0.0
        caught_up_s = min(abs(behind_s), CATCH_UP * passed_s)
        self._behind_s = behind_s - math.copysign(caught_up_s, behind_s)
        return epoch - self._behind_s


class ShiftedClock:
    """A running clock moved by a whole number of days, at the present time of day (``BT_SIM_DATE``).

    ``epoch_s`` and ``monotonic_s`` are the sources of time: the machine's by default, a loop's in virtual time.
    """

    def __init__(
        self,
        zone: tzinfo,
        day: date | None = None,
        *,
        epoch_s: Callable[[], float] = time.time,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._zone = zone
        self._machine_s = epoch_s
        self._epoch_s = SteadyTime(epoch_s, monotonic_s).epoch_s
        self._monotonic_s = monotonic_s
        today = datetime.fromtimestamp(epoch_s(), zone).date()
        self.offset_s = 0.0 if day is None else (day - today).days * 86_400.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self._epoch_s() + self.offset_s, self._zone)

    def now_ms(self) -> int:
        return int((self._epoch_s() + self.offset_s) * 1000)

    def machine_ms(self) -> int:
        """Epoch milliseconds UTC by the machine's own date, whatever day the service is on."""
        return int(self._machine_s() * 1000)

    def monotonic(self) -> float:
        return self._monotonic_s()
