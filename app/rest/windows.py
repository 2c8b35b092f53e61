"""A chain's window as the answers tell it: which price it stands on and how old that price is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from app.core.errors import SpotUnknown
from app.market.atm_engine import nearest
from app.market.states import is_live_price

if TYPE_CHECKING:
    from app.market.atm_engine import CachedWindow, ChainId
    from app.rest.services import Services

T = TypeVar("T")

SPOT_LOOK_S = 0.05


class Spot(NamedTuple):
    """An underlying's price in rupees; ``source`` is ``request``, ``live`` or ``last``."""

    ltp: float
    source: str
    age_ms: int | None


async def with_spot(services: Services, act: Callable[[], Awaitable[T]]) -> T:
    """What ``act`` returns; where it finds no spot though the first prices are due, it is tried until they are there.

    Raises:
        SpotUnknown: none given, none seen, and none about to come.
    """
    while True:
        try:
            return await act()
        except SpotUnknown:
            if not services.first_prices_due():
                raise
        await asyncio.sleep(SPOT_LOOK_S)


def spot_for(services: Services, chain: ChainId, given: float | None) -> Spot:
    """The price that a window stands on: the caller's own wins, else the newest that the feed brought.

    Raises:
        SpotUnknown: none given and none seen yet.
    """
    if given is not None:
        return Spot(given, "request", None)
    known = known_spot(services, chain)
    if known is None:
        raise SpotUnknown(f"no price of {chain.symbol} yet and no underlying_ltp given")
    return known


def known_spot(services: Services, chain: ChainId) -> Spot | None:
    """The newest price that the feed brought for the chain's underlying."""
    instrument = services.registry.spot_of(chain.symbol, chain.expiry, str(chain.exchange))
    if instrument is None:
        return None
    ltp, seen_ms = services.board.last_price(instrument.key), services.board.last_seen_ms(instrument.key)
    if ltp is None or seen_ms is None:
        return None
    age_ms = max(0, services.clock.now_ms() - seen_ms)
    session = services.calendar.latest_session(instrument.key.segment, services.clock.now())
    is_live = is_live_price(services.states.of(instrument).code, seen_ms, session)  # as the stream's summary has it
    return Spot(ltp, "live" if is_live else "last", age_ms)


def taken_window(services: Services, window: CachedWindow | None, given: float | None) -> dict[str, object] | None:
    """The window that a wish came to, None for a cash line or a future."""
    if window is None:
        return None
    spot = Spot(given, "request", None) if given is not None else known_spot(services, window.chain)
    return window_answer(services, window, spot)


def window_answer(services: Services, window: CachedWindow, spot: Spot | None) -> dict[str, object]:
    """The fields of endpoint 4 for a window; ``spot`` is what the caller is told it stands on.

    The window may have been centred on a price up to a step away; the ATM strike is that of the price that is told.
    """
    record = services.atm.describe(window)
    shown = spot or Spot(window.window.centre, "last", None)
    ladder = window.ladder.strikes
    return {
        **record,
        "atm_strike": ladder[nearest(ladder, shown.ltp)],
        "underlying_ltp": shown.ltp,
        "underlying_source": shown.source,
        "underlying_age_ms": shown.age_ms,
    }
