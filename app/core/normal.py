"""The normal distribution over whole columns, of NumPy alone: a statistics library takes 0.3 s and 28 MB to load. Pure.

Both functions stand on one polynomial: ``(1 + 2x) erfcx(x)`` is smooth over all ``x >= 0`` once it is written in
``t = (x - 3) / (x + 3)`` (Shepherd and Laframboise, Mathematics of Computation 36, 1981). With 24 terms it is exact to
three units in the last place.
"""

from __future__ import annotations

from math import sqrt

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_CENTRE = 3.0
# In powers of t, the highest first: a Chebyshev series of 50 digits, rearranged.
_POWERS = (
    9.862533510364294e-10,
    -3.181354143496233e-09,
    -1.331291966104922e-08,
    2.7843881265498453e-08,
    1.0183620603845308e-07,
    -1.2054142286488498e-07,
    -6.166011460399083e-07,
    3.366979080640644e-07,
    3.472370944977199e-06,
    -7.187883834404172e-07,
    -2.010054226852563e-05,
    4.944124342223655e-06,
    0.00012509934245837293,
    -0.00010515831297813128,
    -0.0007798322696543306,
    0.0018886900977441495,
    0.0025293918156939696,
    -0.023770514891530075,
    0.0683080273440099,
    -0.11927366341676002,
    0.1296451587027594,
    -0.04756229435342038,
    -0.13562110612458117,
    1.2530080582697296,
)
_ROOT_HALF = sqrt(0.5)
_BEYOND = 40.0  # standard deviations: what lies beyond is no float any more


def erfcx(x: npt.ArrayLike) -> Floats:
    """``exp(x * x) * erfc(x)`` for finite ``x``; infinite below about -26."""
    at = np.asarray(x, dtype=np.float64)
    right = _erfcx_right(np.abs(at))
    if not (at < 0.0).any():
        return right
    left = np.minimum(at, 0.0)
    return np.where(at < 0.0, 2.0 * np.exp(left * left) - right, right)


def cdf(x: npt.ArrayLike) -> Floats:
    """The share of a standard normal distribution below ``x``; exact to a few units in the last place in the tail."""
    at = np.asarray(x, dtype=np.float64)
    far = np.minimum(np.abs(at), _BEYOND)
    tail = 0.5 * np.exp(-0.5 * far * far) * _erfcx_right(far * _ROOT_HALF)
    return np.where(at < 0.0, tail, 1.0 - tail)


def _erfcx_right(x: Floats) -> Floats:
    t = np.asarray((x - _CENTRE) / (x + _CENTRE))
    found = np.full_like(t, _POWERS[0])
    for power in _POWERS[1:]:
        found *= t
        found += power
    return np.asarray(found / (1.0 + 2.0 * x))
