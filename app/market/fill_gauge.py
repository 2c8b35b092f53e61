"""Where the places are going: how fast Tier A grew over the last minutes, and when all would be taken."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

from app.ports.clock import Clock

WINDOW_MIN = 10
LOOK_S = 10.0
KNOWN_AFTER_S = 60.0
AHEAD_MAX = timedelta(days=1)  # an end of day comes first


class Books(Protocol):
    """The part of the wishes' books that tells how full they are."""

    tier_a_added: int

    @property
    def free(self) -> int: ...
    @property
    def tier_a_count(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Forecast:
    """``free`` places now; rates of Tier A a minute over ``window_min`` minutes, None until a minute is known.

    ``full_by`` is when the free places are used up at the net rate: None where Tier A does not grow, or not within a
    day.
    """

    free: int
    window_min: int = WINDOW_MIN
    adds_per_min: float | None = None
    net_per_min: float | None = None
    full_by: datetime | None = None


class _Look(NamedTuple):
    at_s: float
    added: int
    held: int


class _Rates(NamedTuple):
    window_min: int
    adds_per_min: float
    net_per_min: float


class FillGauge:
    """OWNS the looks of the last minutes. Call :meth:`look` about once a second, after what was stored is restored."""

    def __init__(self, books: Books, clock: Clock) -> None:
        self._books = books
        self._clock = clock
        self._looks: deque[_Look] = deque(maxlen=int(WINDOW_MIN * 60 / LOOK_S) + 1)
        self._rates: _Rates | None = None

    def look(self) -> None:
        """Work out the rates anew, every ten seconds."""
        now_s = self._clock.monotonic()
        if self._looks and now_s - self._looks[-1].at_s < LOOK_S:
            return
        self._looks.append(_Look(now_s, self._books.tier_a_added, self._books.tier_a_count))
        first, last = self._looks[0], self._looks[-1]
        minutes = (last.at_s - first.at_s) / 60.0
        if last.at_s - first.at_s >= KNOWN_AFTER_S:
            adds, net = (last.added - first.added) / minutes, (last.held - first.held) / minutes
            self._rates = _Rates(round(minutes), round(adds, 1), round(net, 1))

    def forecast(self) -> Forecast:
        free = max(0, self._books.free)
        if self._rates is None:
            return Forecast(free)
        return Forecast(free, *self._rates, self._full_by(free, self._rates.net_per_min))

    def _full_by(self, free: int, net_per_min: float) -> datetime | None:
        if net_per_min <= 0.0:
            return None
        ahead = timedelta(minutes=free / net_per_min)
        if ahead > AHEAD_MAX:
            return None
        minute = (self._clock.now() + ahead).replace(second=0, microsecond=0)
        return minute + timedelta(minutes=1)  # whole minutes: it is told again only when it has become another
