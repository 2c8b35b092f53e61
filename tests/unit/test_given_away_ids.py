"""A new master that gives ids to other contracts: nobody is shown one contract under the name of another."""

from __future__ import annotations

import asyncio
import re
from datetime import date
from pathlib import Path

import pytest

from app.core.ids import Exchange, Tier
from app.market.tiers import Universe, always_on
from app.ports.store import EntryState, InstrumentType
from tests.masters import registry_of
from tests.tiny_market import MORNING, Market, write_tiny_master
from tests.unit.spotted_market import spotted

STOCK = InstrumentType.STOCK_OPTION
FEB = date(2026, 2, 24)
RULES = Universe(fo_stocks=True)


class Renaming:
    """A market whose next master gives every id of TCS to TCX, and new ids to the options of SBIN."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch, *, keep: bool = False) -> None:
        source = directory / "first.csv"
        write_tiny_master(source)
        self._next = directory / "next.csv"
        rows = source.read_text().replace(",TCS,", ",TCX,").splitlines()
        self._next.write_text("\n".join(re.sub(r"^(NSE,D,)(45\d\d\d,.*,SBIN,)", r"\g<1>9\2", row) for row in rows))
        registry = registry_of(source, MORNING.date(), directory)
        monkeypatch.setattr("tests.tiny_market.tiny_registry", lambda: registry)
        self.market = Market(keep=keep)

    async def new_master(self) -> None:
        await self.market.follow(self._next, lambda: always_on(RULES, self.market.registry, MORNING.date()))


@pytest.fixture
async def renaming(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Renaming:
    renaming = Renaming(tmp_path, monkeypatch)
    await spotted(renaming.market)
    renaming.market.control.use_universe(always_on(RULES, renaming.market.registry, MORNING.date()))
    return renaming


def symbols(market: Market, tier: Tier = Tier.A) -> set[str]:
    return {wish.instrument.symbol for wish in market.wishes.listed(tier.value)}


async def test_an_id_that_lingers_is_not_taken_for_the_contract_it_was(renaming: Renaming) -> None:
    market = renaming.market
    await market.lists.add(1, "TCS", FEB, STOCK)
    await market.lists.remove(1, "TCS", FEB)
    await renaming.new_master()
    added = await market.lists.add(2, "TCX", FEB, STOCK, 3100.0)
    assert symbols(market) == {"TCX"}
    slots = [market.prices.slot(leg.key) for leg in added.legs]
    assert {market.prices.instrument_at(slot) for slot in slots if slot is not None} == set(added.legs)
    await market.control.flush()
    assert {leg.symbol for leg in (await market.stored()).legs if leg.tier is Tier.A} == {"TCX"}


async def test_an_entry_lets_go_of_ids_that_are_others_now(renaming: Renaming) -> None:
    market = renaming.market
    await market.lists.add(1, "TCS", FEB, STOCK)
    await market.lists.add(1, "INFY", FEB, STOCK)
    await market.control.flush()
    await renaming.new_master()
    gone, stays = market.lists.entries(1)
    assert (gone.state, gone.state_reason, gone.legs) == (EntryState.EVICTED, "no longer listed", ())
    assert (stays.state, len(stays.legs)) == (EntryState.ACTIVE, 50)
    assert symbols(market) == {"INFY"}
    await market.lists.add(2, "TCX", FEB, STOCK, 3100.0)
    await market.control.flush()
    assert {leg.symbol for leg in (await market.stored()).legs if leg.tier is Tier.A} == {"INFY", "TCX"}
    assert (await market.lists.remove(1, "TCS", FEB)).unsubscribed == 0


async def test_always_on_lines_have_the_name_they_have_now(renaming: Renaming) -> None:
    market = renaming.market
    await market.control.flush()
    await renaming.new_master()
    assert "TCX" in symbols(market, Tier.B)
    assert "TCS" not in symbols(market, Tier.B)
    await market.control.flush()
    assert "TCS" not in {leg.symbol for leg in (await market.stored()).legs}


async def test_a_wish_by_token_ends_where_its_id_is_anothers(renaming: Renaming) -> None:
    market = renaming.market
    token = "TCS_24FEB2026_3100CE"
    assert market.wishes.subscribe(token)[0]
    await renaming.new_master()
    await market.control.step()
    assert symbols(market) == set()


async def test_a_kept_entry_that_is_listed_no_more_promises_no_return(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    renaming = Renaming(tmp_path, monkeypatch, keep=True)
    old = await spotted(renaming.market)
    await old.lists.add(1, "TCS", FEB, STOCK)
    old.clock.advance(5.5 * 3600)
    await old.lists.end_of_day("EOD:NSE:2026-02-03", old.clock.now(), {Exchange.NSE})
    await renaming.new_master()
    new = await Market(store=old.store, clock=old.clock, keep=True).start()
    assert str(new.lists.entries(1)[0].state_reason).endswith("returns with the next session")
    new.clock.advance(18 * 3600)
    assert await new.control.return_evicted() == 0
    assert new.lists.entries(1)[0].state_reason == "no longer listed"


async def test_a_contract_with_another_id_is_held_under_that(renaming: Renaming) -> None:
    market = renaming.market
    token = "SBIN_24FEB2026_800CE"
    await market.lists.add(1, "SBIN", FEB, STOCK)
    assert market.wishes.subscribe(token)[0]
    await market.control.flush()
    before = {leg.token: leg.key for leg in (await market.stored()).legs if leg.symbol == "SBIN" and leg.tier is Tier.A}
    await renaming.new_master()
    await market.control.flush()
    stored = {leg.token: leg.key for leg in (await market.stored()).legs if leg.symbol == "SBIN" and leg.tier is Tier.A}
    assert stored.keys() == before.keys()
    assert all(stored[token].security_id == 900_000 + key.security_id for token, key in before.items())
    (entry,) = market.lists.entries(1)
    assert (entry.state, set(entry.legs)) == (EntryState.ACTIVE, set(stored.values()))
    await market.lists.remove(1, "SBIN", FEB)
    assert {wish.instrument.token for wish in market.wishes.listed(Tier.A.value)} == {token}
    assert market.wishes.unsubscribe(token)[0]


async def test_a_request_that_waits_for_the_store_meanwhile_gets_what_is_listed(renaming: Renaming) -> None:
    market = renaming.market
    market.store.gate = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        adding = group.create_task(market.lists.add(1, "SBIN", FEB, STOCK))
        await market.store.waiting.wait()
        following = group.create_task(renaming.new_master())
        await asyncio.sleep(0)
        market.store.gate.set()
        await adding
        await following
    await market.control.flush()
    (entry,) = market.lists.entries(1)
    assert {key.security_id // 1_000 for key in entry.legs} == {945}
    assert {leg.key for leg in (await market.stored()).legs if leg.tier is Tier.A} == set(entry.legs)


async def test_an_entry_that_holds_nothing_goes_by_the_new_ids_too(renaming: Renaming) -> None:
    market = renaming.market
    await market.lists.add(1, "SBIN", FEB, STOCK)
    await market.lists.unsubscribe_all_tier_a()
    await renaming.new_master()
    (entry,) = market.lists.entries(1)
    assert {key.security_id // 1_000 for key in entry.legs} == {945}
