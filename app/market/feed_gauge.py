"""How fast each connection's data comes and how late it is, over the last seconds. Reads what the decoders counted."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from app.ports.clock import Clock
from app.ports.feed import LAG_BUCKET_MS, TickBuffers

WINDOW_LOOKS = 10  # looks come once a second
LATE_LOOKS = 2 * WINDOW_LOOKS  # what comes first after a gap tells of trades in it, and is not late

Counts = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class FeedReading:
    """One connection, lately. The lag is receive time minus exchange time of new trades, None while there was none.

    Exchange time is told in whole seconds, cut off: up to a second of the lag is that. Half a bucket of
    ``LAG_BUCKET_MS`` is rounding; the longest that is told is the histogram's end. ``is_late``: for a while now its
    prices have been older than is good, however steadily they come.
    """

    packets_per_s: float = 0.0
    lag_p50_ms: float | None = None
    lag_p99_ms: float | None = None
    is_late: bool = False


@dataclass(frozen=True, slots=True)
class _Look:
    at_s: float
    packets: list[int]
    lags: Counts


class FeedGauge:
    """OWNS the readings. :meth:`look` is called about once a second. ``late_ms``: a median lag beyond it is late."""

    def __init__(self, buffers: TickBuffers, clock: Clock, late_ms: float) -> None:
        self._buffers = buffers
        self._clock = clock
        self._late_ms = late_ms
        self._looks = deque([self._count()], maxlen=WINDOW_LOOKS + 1)
        self._readings = [FeedReading()] * buffers.connections
        self._against = [0] * buffers.connections  # looks in a row that spoke against the verdict

    def reading(self, index: int) -> FeedReading:
        """Of connection ``index`` (0-based), as of the last look."""
        return self._readings[index]

    def look(self) -> None:
        """Work out the readings anew."""
        now = self._count()
        self._looks.append(now)
        first = self._looks[0]
        passed_s = now.at_s - first.at_s
        if passed_s > 0:
            counted = zip(first.packets, now.packets, now.lags - first.lags, strict=True)
            for index, (before, after, lags) in enumerate(counted):
                self._readings[index] = self._judged(index, _reading(after - before, lags, passed_s))

    def _judged(self, index: int, reading: FeedReading) -> FeedReading:
        was_late = self._readings[index].is_late
        speaks_late = reading.lag_p50_ms is not None and reading.lag_p50_ms > self._late_ms
        self._against[index] = 0 if speaks_late is was_late else self._against[index] + 1
        if self._against[index] < LATE_LOOKS:
            return replace(reading, is_late=was_late)
        self._against[index] = 0
        return replace(reading, is_late=speaks_late)

    def _count(self) -> _Look:
        packets = [counter.packets for counter in self._buffers.counters]
        return _Look(self._clock.monotonic(), packets, self._buffers.lag_table.copy())


def _reading(packets: int, lags: Counts, passed_s: float) -> FeedReading:
    below = np.cumsum(lags)
    total = int(below[-1])
    if not total:
        return FeedReading(round(packets / passed_s, 1))
    p50, p99 = (int(np.searchsorted(below, share * total)) for share in (0.5, 0.99))
    return FeedReading(round(packets / passed_s, 1), (p50 + 0.5) * LAG_BUCKET_MS, (p99 + 0.5) * LAG_BUCKET_MS)
