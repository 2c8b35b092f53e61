"""Volatility and Greeks against an independent library, over everything that can be traded."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from vollib.black import black
from vollib.black.greeks import analytical
from vollib.black.implied_volatility import implied_volatility

from app.analytics.black76 import greeks, implied_vol, price

FORWARD = 25_000.0
MONEYNESS = (0.5, 0.8, 0.95, 0.99, 1.0, 1.01, 1.05, 1.25, 2.0)
YEARS = (1 / 525_600, 1 / 8_760, 1 / 365, 7 / 365, 30 / 365, 1.0, 5.0)
SIGMAS = (0.01, 0.05, 0.12, 0.3, 0.8, 1.5, 3.0)
RATES = (0.0, 0.065)
GRID = [
    (FORWARD, FORWARD * moneyness, years, rate, sigma, is_call)
    for moneyness, years, rate, sigma, is_call in itertools.product(MONEYNESS, YEARS, RATES, SIGMAS, (True, False))
]


def flag(is_call: bool) -> str:
    return "c" if is_call else "p"


def test_prices_are_those_of_the_oracle() -> None:
    for forward, strike, years, rate, sigma, is_call in GRID:
        expected = black(flag(is_call), forward, strike, years, rate, sigma)
        assert float(price(forward, strike, years, rate, sigma, is_call)) == pytest.approx(
            expected, rel=1e-9, abs=1e-9 * forward
        )


def test_greeks_are_those_of_the_oracle() -> None:
    for forward, strike, years, rate, sigma, is_call in GRID:
        told = greeks(forward, strike, years, rate, sigma, is_call)
        case = (flag(is_call), forward, strike, years, rate, sigma)
        assert float(told.delta) == pytest.approx(analytical.delta(*case), abs=1e-9)
        assert float(told.gamma) == pytest.approx(analytical.gamma(*case), rel=1e-9, abs=1e-12)
        assert float(told.vega) == pytest.approx(analytical.vega(*case), rel=1e-9, abs=1e-9)
        assert float(told.theta) == pytest.approx(analytical.theta(*case), rel=1e-8, abs=1e-7)


def test_volatility_comes_back_from_every_price_that_holds_one() -> None:
    forward, strike, years, rate, sigma, is_call = (np.array(column) for column in zip(*GRID, strict=True))
    for each in RATES:
        of = rate == each
        value = price(forward[of], strike[of], years[of], each, sigma[of], is_call[of])
        inner = np.exp(-each * years[of]) * np.maximum(np.where(is_call[of], 1, -1) * (forward[of] - strike[of]), 0.0)
        holds = (value - inner) > 1e-7 * forward[of]
        found = implied_vol(value, forward[of], strike[of], years[of], each, is_call[of])
        assert holds.sum() > 300
        assert np.allclose(found[holds], sigma[of][holds], rtol=2e-6)
        outer = holds & (is_call[of] == (strike[of] >= forward[of]))
        assert np.allclose(found[outer], sigma[of][outer], rtol=1e-11)


@pytest.mark.parametrize(("strike", "is_call"), [(26_000.0, True), (24_000.0, False), (25_300.0, True)])
@pytest.mark.parametrize("value", [0.05, 1.0, 55.55, 900.0])
def test_volatility_is_that_of_the_oracle(strike: float, is_call: bool, value: float) -> None:
    years = 20 / 365
    expected = implied_volatility(value, FORWARD, strike, 0.065, years, flag(is_call))
    assert float(implied_vol(value, FORWARD, strike, years, 0.065, is_call)) == pytest.approx(expected, rel=1e-9)


def test_tiny_prices_keep_their_digits() -> None:
    sigma = np.array([0.05, 0.08, 0.1])
    value = price(FORWARD, 2 * FORWARD, 0.5, 0.0, sigma, True)
    assert (value < 1e-6).all()
    usable = value > 1e-12 * FORWARD
    assert np.allclose(implied_vol(value, FORWARD, 2 * FORWARD, 0.5, 0.0, True)[usable], sigma[usable], rtol=1e-10)


@pytest.mark.parametrize(
    ("value", "forward", "strike", "years"),
    [
        (0.0, 25_000.0, 26_000.0, 0.1),
        (1_000.0, 26_000.0, 25_000.0, 0.1),  # no time value
        (999.0, 26_000.0, 25_000.0, 0.1),  # below its inner value
        (25_000.0, 25_000.0, 25_000.0, 0.1),  # at its upper bound
        (30_000.0, 25_000.0, 25_000.0, 0.1),
        (10.0, 25_000.0, 25_000.0, 0.0),
        (10.0, 25_000.0, 25_000.0, -0.1),
        (math.nan, 25_000.0, 25_000.0, 0.1),
        (10.0, math.nan, 25_000.0, 0.1),
        (10.0, 0.0, 25_000.0, 0.1),
        (24_999.0, 25_000.0, 25_000.0, 1e-6),  # beyond 1,000 %
    ],
)
def test_price_without_a_volatility_has_none(value: float, forward: float, strike: float, years: float) -> None:
    assert math.isnan(float(implied_vol(value, forward, strike, years, 0.0, True)))


def test_columns_may_be_empty() -> None:
    empty = np.empty(0)
    assert implied_vol(empty, empty, empty, empty, 0.0, np.empty(0, dtype=np.bool_)).shape == (0,)
