"""One symbol and expiry on two exchanges: a user holds one of them at a time, and may change over."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from app.core.errors import AlreadyInWatchlist
from app.core.ids import Exchange
from app.ports.store import InstrumentType
from tests.masters import registry_of
from tests.tiny_market import MORNING, Market, list_on_bse, write_tiny_master
from tests.unit.spotted_market import spotted

FEB = date(2026, 2, 24)
EQUITY = InstrumentType.EQUITY


@pytest.fixture
async def market(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Market:
    """Everything of TCS is listed on BSE as well, under other ids."""
    source = tmp_path / "both.csv"
    write_tiny_master(source)
    list_on_bse(source, "TCS")
    registry = registry_of(source, MORNING.date(), tmp_path)
    monkeypatch.setattr("tests.tiny_market.tiny_registry", lambda: registry)
    return await spotted(Market())


def exchanges(market: Market) -> set[Exchange]:
    return {wish.instrument.exchange for wish in market.wishes.wishes()}


async def again(market: Market) -> Market:
    await market.control.flush()
    return await Market(store=market.store, clock=market.clock).start()


async def test_an_explicit_chain_changes_over_to_the_other_exchange(market: Market) -> None:
    await market.lists.subscribe_chain(1, "TCS", FEB)
    assert exchanges(market) == {Exchange.NSE}
    changed = await market.lists.subscribe_chain(1, "TCS", FEB, exchange="BSE")
    assert changed.exchange == "BSE"
    assert (exchanges(market), market.wishes.total) == ({Exchange.BSE}, 50)
    (entry,) = market.lists.explicit_entries(1)
    assert entry.exchange == "BSE"
    assert exchanges(await again(market)) == {Exchange.BSE}
    await market.lists.release_chain(1, "TCS", FEB, exchange="BSE")
    assert market.wishes.total == 0


async def test_an_entry_taken_back_in_from_the_other_exchange_is_of_that_one(market: Market) -> None:
    await market.lists.add(1, "TCS", None, EQUITY)
    await market.lists.unsubscribe_all_tier_a()
    await market.lists.add(1, "TCS", None, EQUITY, exchange="BSE")
    assert [each.exchange for each in market.lists.entries(1)] == ["BSE"]
    assert exchanges(await again(market)) == {Exchange.BSE}


async def test_a_refusal_names_the_exchange_that_is_held(market: Market) -> None:
    await market.lists.add(1, "TCS", None, EQUITY)
    with pytest.raises(AlreadyInWatchlist, match="TCS of NSE is in the watchlist of user 1 already"):
        await market.lists.add(1, "TCS", None, EQUITY, exchange="BSE")
