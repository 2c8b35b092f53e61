"""What a float32 price stands for."""

from __future__ import annotations

import math
from decimal import Decimal

import numpy as np
import pytest

from app.core.prices import round_prices, round_to_tick


def wired(price: float) -> float:
    return float(np.float32(price))


@pytest.mark.parametrize(
    ("meant", "tick"),
    [
        (247.8, 0.05),  # arrives as 247.8000030517578
        (152.3, 0.05),
        (0.05, 0.05),
        (83.2575, 0.0025),  # a currency
        (24876.35, 0.05),
        (82391.72, 0.01),  # SENSEX, neighbours 0.0078 apart
        (158_643.0, 1.0),  # GOLD above 131,072: neighbours 0.0156 apart
        (158_643.5, 0.5),
        (131_072.05, 0.05),
        (271_338.0, 1.0),  # SILVER above 262,144: neighbours 0.031 apart
        (271_338.45, 0.05),
        (4_999.9, 0.1),
    ],
)
def test_the_meant_price_comes_back_exactly(meant: float, tick: float) -> None:
    assert round_to_tick(wired(meant), tick) == meant
    assert round_prices(np.array([meant], dtype=np.float32), tick).tolist() == [meant]


def test_every_tick_of_gold_and_silver_survives_the_wire() -> None:
    for tick, low, high in ((1.0, 131_072, 300_000), (0.05, 131_072, 140_000), (0.05, 262_144, 270_000)):
        meant = np.round(np.arange(round(low / tick), round(high / tick)) * tick, 2)
        assert np.array_equal(round_prices(meant.astype(np.float32), tick), meant)


def test_scalar_and_columns_agree_and_show_as_short_decimals() -> None:
    rng = np.random.default_rng(7)
    ticks = rng.choice([0.0, 0.0025, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0], 5_000)
    prices = (rng.random(5_000) * 10.0 ** rng.integers(0, 6, 5_000)).astype(np.float32)
    columns = round_prices(prices, ticks).tolist()
    assert columns == [round_to_tick(float(p), float(t)) for p, t in zip(prices, ticks, strict=True)]
    assert all(-Decimal(repr(value)).as_tuple().exponent <= 4 for value in columns)


def test_an_unknown_tick_means_two_decimals() -> None:
    assert round_to_tick(wired(23_451.37), 0.0) == 23_451.37


def test_unknown_prices_stay_unknown() -> None:
    given = [math.nan, math.inf, -math.inf]
    assert math.isnan(round_to_tick(math.nan, 0.05))
    assert [round_to_tick(value, 0.05) for value in given[1:]] == given[1:]
    assert np.array_equal(round_prices(given, 0.05), given, equal_nan=True)


def test_a_price_too_large_to_be_one_does_not_raise() -> None:
    largest = float(np.finfo(np.float32).max)
    assert math.isfinite(round_to_tick(largest, 0.05))
