"""The wall clock, moved by whole days where ``BT_SIM_DATE`` says so: the only reader of the machine's time."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import date, datetime, tzinfo


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
        self._epoch_s = epoch_s
        self._monotonic_s = monotonic_s
        today = datetime.fromtimestamp(epoch_s(), zone).date()
        self.offset_s = 0.0 if day is None else (day - today).days * 86_400.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self._epoch_s() + self.offset_s, self._zone)

    def now_ms(self) -> int:
        return int((self._epoch_s() + self.offset_s) * 1000)

    def machine_ms(self) -> int:
        """Epoch milliseconds UTC by the machine's own date, whatever day the service is on."""
        return int(self._epoch_s() * 1000)

    def monotonic(self) -> float:
        return self._monotonic_s()
