"""A start waits for the first prices, and not for what does not come."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from app.lifecycle.first_prices import ALL_PRICES_S, FIRST_PRICE_S, NEXT_PRICE_S, first_prices
from app.sim.loop import SimLoop
from tests.unit.venue import LoopClock, virtually


@dataclass
class Feed:
    """What is always on, and the connections that bring its prices."""

    unpriced: int
    is_away: bool = False


@pytest.mark.parametrize(
    ("unpriced", "prices_at_s", "away_at_s", "over_s"),
    [
        (3, [0.2, 0.6, 0.7], None, 0.7),  # all known
        (3, [2.9, 3.3], None, 3.3 + NEXT_PRICE_S),  # one of three never trades
        (3, [], None, FIRST_PRICE_S),  # mute
        (3, [], 0.4, 0.4),  # refused
        (99, [0.4 * n for n in range(1, 40)], None, ALL_PRICES_S),  # a trickle
    ],
)
def test_it_is_over_with_the_last_price_that_comes(
    unpriced: int, prices_at_s: list[float], away_at_s: float | None, over_s: float
) -> None:
    feed = Feed(unpriced)

    async def body(loop: SimLoop) -> None:
        def price() -> None:
            feed.unpriced -= 1

        def leave() -> None:
            feed.is_away = True

        for at_s in prices_at_s:
            loop.call_later(at_s, price)
        if away_at_s is not None:
            loop.call_later(away_at_s, leave)
        began = loop.time()
        await first_prices(feed, feed, LoopClock(loop))
        assert loop.time() - began == pytest.approx(over_s, abs=0.05)

    virtually(body)


def test_nothing_is_waited_for_where_all_is_known() -> None:
    async def body(loop: SimLoop) -> None:
        await asyncio.wait_for(first_prices(Feed(0), Feed(0), LoopClock(loop)), 0.001)

    virtually(body)
