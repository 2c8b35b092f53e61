"""A small market whose spots are known, with its stocks and expiries by name."""

from __future__ import annotations

from datetime import date

from app.ports.feed import FeedLimits
from app.ports.store import InstrumentType
from tests.tiny_market import Market

STOCK, INDEX = InstrumentType.STOCK_OPTION, InstrumentType.INDEX_OPTION
FEB, MAR = date(2026, 2, 24), date(2026, 3, 30)
SMALL = FeedLimits(connections=3, instruments_per_connection=50, instruments_per_message=10)  # room for three chains


async def spotted(market: Market) -> Market:
    await market.start()
    for symbol, price in (("RELIANCE", 3003.0), ("TCS", 3100.0), ("INFY", 1500.0), ("ONGC", 240.0), ("SBIN", 800.0)):
        market.quote(symbol, price)
    market.quote("NIFTY", 25_010.0)
    return market


async def full_market() -> Market:
    """Three chains of 50, 50 and 50 in 150 places, TCS used longest ago."""
    market = await spotted(Market(limits=SMALL))
    for user, (symbol, expiry) in enumerate((("TCS", FEB), ("INFY", FEB), ("ONGC", FEB)), start=1):
        await market.lists.add(user, symbol, expiry, STOCK)
        market.clock.advance(1)
    return market
