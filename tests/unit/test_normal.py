"""The normal distribution against the C library and against one worked out in fifty digits."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest

from app.core.normal import cdf, erfcx

EXACT = 8 * np.finfo(float).eps
POINTS = np.concatenate([np.linspace(-8.0, 8.0, 641), np.geomspace(1e-300, 1.0, 61), -np.geomspace(1e-300, 1.0, 61)])


def erfcx_in_digits(x: float) -> float:
    """By the continued fraction, which converges for every x above zero."""
    with localcontext(prec=50):
        at, below = Decimal(x), Decimal(x)
        for n in range(4_000, 0, -1):
            below = at + Decimal(n) / 2 / below
        return float(1 / (below * Decimal(math.pi).sqrt()))


def test_cdf_is_that_of_the_c_library() -> None:
    expected = [0.5 * math.erfc(-x / math.sqrt(2.0)) for x in POINTS.tolist()]
    # Far out the rounding of x itself is seen: x * x times the grain.
    assert (np.abs(cdf(POINTS) / expected - 1.0) <= EXACT * (1.0 + POINTS * POINTS)).all()


def test_cdf_at_its_ends() -> None:
    assert cdf([-np.inf, -40.0, 0.0, 40.0, np.inf]).tolist() == [0.0, 0.0, 0.5, 1.0, 1.0]
    assert 0.0 < float(cdf(-38.0)) == pytest.approx(0.5 * math.erfc(38.0 / math.sqrt(2.0)), rel=1e-12)
    assert np.isnan(cdf(np.nan))


@pytest.mark.parametrize("x", [0.3, 1.0, 2.5, 3.0, 5.0, 9.7, 30.0, 1e3, 1e8, 1e150])
def test_erfcx_keeps_its_digits_where_erfc_has_none_left(x: float) -> None:
    assert float(erfcx(x)) == pytest.approx(erfcx_in_digits(x), rel=EXACT)


def test_erfcx_on_both_sides_of_zero() -> None:
    near = POINTS[np.abs(POINTS) < 5.0]
    expected = np.array([math.exp(x * x) * math.erfc(x) for x in near.tolist()])
    assert (np.abs(erfcx(near) / expected - 1.0) <= EXACT * (1.0 + near * near)).all()
    assert np.isnan(erfcx(np.nan))
