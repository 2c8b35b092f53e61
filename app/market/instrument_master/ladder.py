"""One option chain as it is listed. Pure."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from app.core.ids import Exchange, InstrumentKey

_PLACES = 4  # listed strikes have at most four decimals


@dataclass(frozen=True, slots=True)
class Ladder:
    """Strikes in order, and the call and put of each; ``None`` where one side is not listed.

    ``step`` is the usual gap in rupees; ``regular`` says that every gap is that and that strikes are its multiples,
    so that the strike nearest to a price can be had by rounding.
    """

    symbol: str
    exchange: Exchange
    expiry: date
    strikes: tuple[float, ...]
    step: float
    regular: bool
    ce: tuple[InstrumentKey | None, ...]
    pe: tuple[InstrumentKey | None, ...]
    lot_size: int
    tick: float


def strike_step(strikes: Sequence[float], tick: float) -> tuple[float, bool]:
    """The most frequent gap, the larger one on ties, and whether the listing is regular.

    A single strike has no gap: its step is the tick.
    """
    gaps = Counter(round(high - low, _PLACES) for low, high in itertools.pairwise(strikes))
    if not gaps:
        return tick, False
    step = max(gaps, key=lambda gap: (gaps[gap], gap))
    steps = strikes[0] / step
    return step, len(gaps) == 1 and abs(steps - round(steps)) < 1e-6
