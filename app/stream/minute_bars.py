"""One-minute bars of the session: prices of underlyings, and what chains as a whole say. Pure.

A minute in which nothing was seen stays unknown; nothing is interpolated (contract, rule 11).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

MINUTE_MS = 60_000
PRICES = ("open", "high", "low", "close")
AGGREGATES = ("straddle", "atm_iv", "ce_oi", "pe_oi", "pcr")
# The longest session, MCX's in winter, has 910 minutes. In all at most 27 MB, a third of it on a full desk.
MINUTES_MAX = 960
SPOTS_MAX, CHAINS_MAX = 512, 960
_GROWTH = 120

K = TypeVar("K")
Cells = npt.NDArray[np.float32]


class ChainName(NamedTuple):
    """``expiry`` as people write it: ids and dates of other days do not fit."""

    symbol: str
    expiry: str
    exchange: str


@dataclass(slots=True)
class MinuteSeries:
    """Minutes of one session day, one row each. ``start_ms``: epoch ms UTC at which row 0 begins."""

    width: int
    day: date
    start_ms: int = 0
    count: int = 0
    _cells: Cells = field(default_factory=lambda: np.empty((0, 0), dtype=np.float32))

    def row(self, minute_ms: int) -> Cells:
        """The row of a minute, made if need be with unknown ones before it; the oldest give way to the newest.

        A minute before the first means that the clock was set back: the rows of the wrong hour are given up.
        """
        if not self.count or minute_ms < self.start_ms:
            self.start_ms, self.count, self._cells = minute_ms, 0, self._cells[:0]
        place = (minute_ms - self.start_ms) // MINUTE_MS
        if place >= MINUTES_MAX:
            place = self._drop_oldest(place)
        if place >= len(self._cells):
            self._grow(place + 1)
        self.count = max(self.count, place + 1)
        row: Cells = self._cells[place]
        return row

    def since(self, since_ms: int | None) -> tuple[int, Cells]:
        """Where the first of the rows from ``since_ms`` on begins, and a copy of them."""
        skipped = 0 if since_ms is None else max(0, (since_ms - self.start_ms) // MINUTE_MS)
        skipped = min(skipped, self.count)
        return self.start_ms + skipped * MINUTE_MS, self._cells[skipped : self.count].copy()

    def rows(self) -> Cells:
        """All rows, not copied: only the last may still change."""
        return self._cells[: self.count]

    def put_back(self, start_ms: int, cells: Cells) -> None:
        """Rows as :meth:`rows` or :meth:`since` gave them."""
        self.start_ms, self.count, self._cells = start_ms, len(cells), cells.copy()

    def _drop_oldest(self, place: int) -> int:
        gone = min(place - MINUTES_MAX + _GROWTH, self.count)
        self._cells = self._cells[gone:]
        self.count -= gone
        self.start_ms += gone * MINUTE_MS
        return place - gone if self.count else self._begin_anew(place - gone)

    def _begin_anew(self, place: int) -> int:
        self.start_ms += place * MINUTE_MS
        return 0

    def _grow(self, wanted: int) -> None:
        size = -(-wanted // _GROWTH) * _GROWTH
        cells = np.full((size, self.width), np.nan, dtype=np.float32)
        cells[: self.count] = self._cells[: self.count] if self.count else 0.0
        self._cells = cells


class BarBook:
    """OWNS the minutes of the session, by token and by chain. What does not fit its bounds is not kept."""

    def __init__(self) -> None:
        self.spots: dict[str, MinuteSeries] = {}
        self.chains: dict[ChainName, MinuteSeries] = {}

    def see_price(self, token: str, day: date, minute_ms: int, price: float) -> None:
        """A price seen within a minute of that session day."""
        series = _of_day(self.spots, token, day, len(PRICES), SPOTS_MAX)
        if series is None:
            return
        row = series.row(minute_ms)
        if np.isnan(row[0]):
            row[:] = price
            return
        row[1], row[2], row[3] = max(row[1], price), min(row[2], price), price

    def close_minute(self, chain: ChainName, day: date, minute_ms: int, values: Mapping[str, float | None]) -> None:
        """What a chain says at the end of a minute, by the names of :data:`AGGREGATES`."""
        series = _of_day(self.chains, chain, day, len(AGGREGATES), CHAINS_MAX)
        if series is not None:
            told = (values.get(name) for name in AGGREGATES)
            series.row(minute_ms)[:] = [np.nan if value is None else value for value in told]

    def forget_expired(self, chains: set[ChainName]) -> None:
        """Keep of the chains only those."""
        self.chains = {name: series for name, series in self.chains.items() if name in chains}

    def everything(self) -> Iterator[tuple[str | ChainName, MinuteSeries]]:
        yield from self.spots.items()
        yield from self.chains.items()


def _of_day(kept: dict[K, MinuteSeries], name: K, day: date, width: int, most: int) -> MinuteSeries | None:
    """The series of that session day; an earlier day's gives way to it."""
    series = kept.get(name)
    if series is None or series.day != day:
        if series is None and len(kept) >= most:
            return None
        series = kept[name] = MinuteSeries(width, day)
    return series
