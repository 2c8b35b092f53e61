"""Options on a forward: implied volatility and Greeks over whole columns (Black 1976). Pure.

Volatility is solved from the out-of-the-money price in normalised form, ``b(k, s)`` with ``k = |ln(F/K)|`` and
``s = sigma * sqrt(T)``. Above the inflection point ``s = sqrt(2k)`` the root of ``b`` is approached, below it that of
``1 / ln b``, which is nearly quadratic in ``s`` however small the price; both by Halley steps from a close guess.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi, sqrt

import numpy as np
import numpy.typing as npt

from app.core.normal import cdf, erfcx

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

DAYS_A_YEAR = 365.0
MS_A_YEAR = DAYS_A_YEAR * 86_400_000.0
SIGMA_MIN, SIGMA_MAX = 0.001, 10.0
PRICE_NOISE = 1e-12  # of the forward: a time value below it is rounding, not a price
_STEPS_MAX = 20
_CLOSE_ENOUGH = 1e-5  # of s: steps are of third order, the one after is below the machine's grain
_ROOT_2 = sqrt(2.0)
_WINITZKI = 0.147
_ROOT_2PI = sqrt(2.0 * pi)


@dataclass(frozen=True, slots=True)
class Greeks:
    """Per unit of the underlying, in rupees; ``theta`` per calendar day, ``vega`` per point of volatility (1 %)."""

    delta: Floats
    gamma: Floats
    theta: Floats
    vega: Floats


def price(
    forward: npt.ArrayLike,
    strike: npt.ArrayLike,
    years: npt.ArrayLike,
    rate: float,
    sigma: npt.ArrayLike,
    is_call: npt.ArrayLike,
) -> Floats:
    """Discounted option value in rupees."""
    f, k, t, v = (np.asarray(each, dtype=np.float64) for each in (forward, strike, years, sigma))
    sign = np.where(np.asarray(is_call), 1.0, -1.0)
    spread = v * np.sqrt(t)
    d1 = np.log(f / k) / spread + 0.5 * spread
    value = np.exp(-rate * t) * sign * (f * cdf(sign * d1) - k * cdf(sign * (d1 - spread)))
    return np.asarray(value)


def greeks(
    forward: npt.ArrayLike,
    strike: npt.ArrayLike,
    years: npt.ArrayLike,
    rate: float,
    sigma: npt.ArrayLike,
    is_call: npt.ArrayLike,
) -> Greeks:
    """Sensitivities to the forward, to time and to volatility; NaN in, NaN out."""
    f, k, t, v = (np.asarray(each, dtype=np.float64) for each in (forward, strike, years, sigma))
    sign = np.where(np.asarray(is_call), 1.0, -1.0)
    root_t, discount = np.sqrt(t), np.exp(-rate * t)
    spread = v * root_t
    d1 = np.log(f / k) / spread + 0.5 * spread
    d2 = d1 - spread
    weight = discount * np.exp(-0.5 * d1 * d1) / _ROOT_2PI
    n1, n2 = cdf(sign * d1), cdf(sign * d2)
    value = discount * sign * (f * n1 - k * n2)
    return Greeks(
        delta=np.asarray(discount * sign * n1),
        gamma=np.asarray(weight / (f * spread)),
        theta=np.asarray((rate * value - 0.5 * f * weight * v / root_t) / DAYS_A_YEAR),
        vega=np.asarray(f * weight * root_t * 0.01),
    )


def implied_vol(
    value: npt.ArrayLike,
    forward: npt.ArrayLike,
    strike: npt.ArrayLike,
    years: npt.ArrayLike,
    rate: float,
    is_call: npt.ArrayLike,
) -> Floats:
    """Volatility as a fraction a year; NaN where the price has none.

    None has: a price without time value, one at or above its bound, expired or unknown inputs, and one that asks for
    less than 0.1 % or more than 1,000 %.
    """
    p, f, k, t = np.broadcast_arrays(
        *(np.asarray(each, dtype=np.float64) for each in (value, forward, strike, years))
    )  # fmt: skip
    sign = np.where(np.broadcast_to(np.asarray(is_call), p.shape), 1.0, -1.0)
    found = np.full(p.shape, np.nan)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        plain = p * np.exp(rate * t)
        worth = plain - np.maximum(sign * (f - k), 0.0)
        usable = (f > 0) & (k > 0) & (t > 0) & (worth > PRICE_NOISE * f) & (worth < np.minimum(f, k))
        beta = worth[usable] / np.sqrt(f[usable] * k[usable])
        spread = _solve(np.abs(np.log(f[usable] / k[usable])), beta)
        sigma = spread / np.sqrt(t[usable])
        found[usable] = np.where((sigma >= SIGMA_MIN) & (sigma <= SIGMA_MAX), sigma, np.nan)
    return found


def _solve(k: Floats, beta: Floats) -> Floats:
    """``s`` with ``b(k, s) = beta``."""
    s, is_low = _guess(k, beta)
    left = np.arange(len(k))
    log_beta = np.log(beta)
    for _ in range(_STEPS_MAX):
        step = _halley(k[left], s[left], beta[left], log_beta[left], is_low[left])
        moved = np.maximum(s[left] + step, 0.25 * s[left])
        s[left] = moved
        left = left[np.abs(step) > _CLOSE_ENOUGH * moved]
        if not left.size:
            break
    s[left] = np.nan
    return s


def _guess(k: Floats, beta: Floats) -> tuple[Floats, Bools]:
    """A starting point on the side of the inflection where the root is, and which side that is (True: below)."""
    bend = np.sqrt(2.0 * k)
    half = np.sqrt(0.5 * k)  # at the bend h = t = sqrt(k / 2)
    slope = np.exp(-0.5 * k) / _ROOT_2PI
    at_bend = _scaled(half, half) * np.exp(-0.5 * k)
    is_low = beta < at_bend
    low = bend * np.sqrt(np.log(np.where(is_low, at_bend, 0.5)) / np.log(np.where(is_low, beta, 0.5)))
    high = np.maximum(bend + (beta - at_bend) / slope, 2.0 * _ROOT_2 * _inverse_erf(np.minimum(beta, 1.0 - 1e-16)))
    return np.where(is_low, low, high), is_low


def _inverse_erf(x: Floats) -> Floats:
    """To 0.2 %, except near zero (Winitzki): the root at the money, a first guess elsewhere."""
    log = np.log1p(-x * x)
    middle = 2.0 / (pi * _WINITZKI) + 0.5 * log
    return np.asarray(np.sqrt(np.sqrt(middle * middle - log / _WINITZKI) - middle))


def _scaled(h: Floats, t: Floats) -> Floats:
    """``b`` divided by ``exp(-(h*h + t*t) / 2)``, with ``h = k/s`` and ``t = s/2``: no digit lost at any price."""
    near, far = erfcx(np.stack((h - t, h + t)) / _ROOT_2)  # in one call: for one chain calls are what it costs
    return np.asarray(0.5 * (near - far))


def _halley(k: Floats, s: Floats, beta: Floats, log_beta: Floats, is_low: Bools) -> Floats:
    """One step from ``s``; third order on either branch."""
    h, t = k / s, 0.5 * s
    power = -0.5 * (h * h + t * t)
    scaled = _scaled(h, t)
    bend = (h * h - t * t) / s  # b'' / b'
    slope = np.exp(power) / _ROOT_2PI
    b = scaled * np.exp(power)
    newton = (beta - b) / slope
    high = newton / np.maximum(0.5, 1.0 + 0.5 * newton * bend)
    log_b = power + np.log(scaled)
    ratio = 1.0 / (_ROOT_2PI * scaled)  # b' / b
    low_newton = (log_beta - log_b) * log_b / (log_beta * ratio)  # of 1 / ln b
    low_bend = bend - ratio * (1.0 + 2.0 / log_b)
    low = low_newton / np.maximum(0.5, 1.0 + 0.5 * low_newton * low_bend)
    return np.asarray(np.where(is_low, low, high))
