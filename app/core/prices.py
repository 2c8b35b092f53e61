"""Exact decimals from the wire's float32 prices (protocol notes, 2.11).

A float32 near 247.80 widens to 247.8000030517578; near SILVER's 270,000 its neighbours are 0.03 apart. What was meant
is the nearest listed tick, and all ticks are multiples of 0.0001 rupees: a decimal of four places at most.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

PENNY = 0.01
_PLACES = 1e4


def round_to_tick(price: float, tick: float) -> float:
    """The listed price, in rupees, that a float32 stands for; NaN and infinities come back as they are.

    ``tick`` is in rupees; where it is not known (0, as for some indices) prices are taken to have two decimals.
    """
    step = tick if tick > 0.0 else PENNY
    steps = price / step
    if steps - steps != 0.0:  # NaN or infinite: the one float that differs from itself, or overflows
        return price
    return round(round(steps) * step * _PLACES) / _PLACES


def round_prices(prices: npt.ArrayLike, ticks: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """:func:`round_to_tick` over whole columns, value for value alike; ``ticks`` is broadcast."""
    values = np.asarray(prices, dtype=np.float64)
    given = np.asarray(ticks, dtype=np.float64)
    step = np.where(given > 0.0, given, PENNY)
    with np.errstate(invalid="ignore", over="ignore"):  # NaN means unknown and passes through
        return np.asarray(np.rint(np.rint(values / step) * step * _PLACES) / _PLACES)
