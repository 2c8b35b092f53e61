"""Option values of the simulated exchange: Black-76 under a smile without arbitrage. Pure.

Kept apart from ``app.analytics`` on purpose: each is an independent check of the other.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from app.core.normal import cdf

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

SKEW = -0.3  # correlation of the surface: equity-like, downside strikes dearer
CURVE = 1.0  # strength of the wings; CURVE**2 * (1 + |SKEW|) <= 4 keeps butterflies non-negative


def smile_vol(forward: Floats, strike: Floats, years: Floats, atm_vol: Floats) -> Floats:
    """Volatility per strike from the SSVI surface (Gatheral and Jacquier), power law ``phi = CURVE / sqrt(theta)``.

    ``theta = atm_vol**2 * years`` is the total variance at the money. With the constants above and theta below 9 the
    surface has no butterfly arbitrage, so that values stay monotone and convex in the strike.
    """
    theta = atm_vol * atm_vol * years
    scaled = CURVE / np.sqrt(theta) * np.log(strike / forward)
    variance = 0.5 * theta * (1.0 + SKEW * scaled + np.sqrt((scaled + SKEW) ** 2 + 1.0 - SKEW * SKEW))
    return np.asarray(np.sqrt(variance / years), dtype=np.float64)


def black76(forward: Floats, strike: Floats, years: Floats, vol: Floats, call: Bools, rate: float) -> Floats:
    """Value of European options on a forward, in the price's own unit, discounted at ``rate`` per year."""
    spread = vol * np.sqrt(years)
    d1 = np.log(forward / strike) / spread + 0.5 * spread
    sign = np.where(call, 1.0, -1.0)
    undiscounted = sign * (forward * cdf(sign * d1) - strike * cdf(sign * (d1 - spread)))
    return np.asarray(np.exp(-rate * years) * np.maximum(undiscounted, 0.0), dtype=np.float64)
