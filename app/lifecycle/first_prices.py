"""A start waits for the first prices, so that the first add of any stock knows its spot."""

from __future__ import annotations

import asyncio
from typing import Protocol

from app.ports.clock import Clock

FIRST_PRICE_S = 3.0  # nothing heard yet
NEXT_PRICE_S = 0.5  # since the newest
ALL_PRICES_S = 10.0
LOOK_S = 0.02


class Universe(Protocol):
    """The part of the control loop that knows what is always on."""

    @property
    def unpriced(self) -> int: ...


class Connections(Protocol):
    """The part of the feed's owner that knows whether anything can come."""

    @property
    def is_away(self) -> bool: ...


async def first_prices(universe: Universe, connections: Connections, clock: Clock) -> None:
    """Return once all of the always-on universe has a price, no further price comes, or the feed is away.

    A feed that cannot be reached holds a start up no longer than that takes to show, a mute one three seconds.
    """
    started = clock.monotonic()
    unpriced, until = universe.unpriced, started + FIRST_PRICE_S
    while unpriced and not connections.is_away and clock.monotonic() < until:
        await asyncio.sleep(LOOK_S)
        if universe.unpriced < unpriced:
            unpriced, until = universe.unpriced, min(clock.monotonic() + NEXT_PRICE_S, started + ALL_PRICES_S)
