"""Topics that stay open over a new instrument master: ids given to others, contracts under other ids."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from app.core.ids import InstrumentKey, Segment
from app.core.instruments import Instrument
from tests.stream_world import NIFTY, RELIANCE, Mirror, Reader, World


@pytest.fixture
async def world() -> World:
    return await World.opened()


class Screen:
    """What a client believes of its topics."""

    def __init__(self, reader: Reader, *topics: str) -> None:
        self._reader = reader
        self._mirrors = {topic: Mirror() for topic in topics}
        reader.watch(*topics)
        self.read()

    def read(self) -> None:
        for message in self._reader.read():
            self._mirrors[message["topic"]].take(message)

    def row(self, topic: str, token: str) -> dict[str, Any]:
        row: dict[str, Any] = self._mirrors[topic].data["rows"][token]
        return row

    def book(self, topic: str) -> tuple[list[Any], str]:
        return self._mirrors[topic].data["bids"], self._mirrors[topic].data["state"]


def list_anew(world: World, old: Instrument, *listed: Instrument) -> None:
    """The morning's master: the old contract goes, off the wire too, and others come."""
    world.books.unsubscribe(old)
    del world.listing.by_name[old.token]
    for each in listed:
        world.listing.by_name[each.token] = each
        world.listing.by_key[each.key] = each
    world.listing.revision += 1
    world.books.subscribe(*listed)


async def test_an_id_given_away_shows_each_contract_its_own(world: World) -> None:
    old = world.leg(25_000)
    new = replace(old, token="NIFTY_05MAR2026_25000CE", expiry=old.expiry.replace(month=3, day=5))  # type: ignore[union-attr]
    world.books.subscribe(NIFTY, old)
    world.tick(old, 80.0)
    screen = Screen(world.join(), f"quotes:{old.token},RELIANCE_EQ", f"depth:{old.token}")
    assert screen.row(f"quotes:{old.token},RELIANCE_EQ", old.token)["ltp"] == 80.0
    list_anew(world, old, new)
    later = Screen(world.join(), f"quotes:{new.token}", f"depth:{new.token}")
    world.tick(new, 55.0)
    world.round(11)
    screen.read()
    later.read()
    assert later.row(f"quotes:{new.token}", new.token)["ltp"] == 55.0
    assert later.book(f"depth:{new.token}")[0][0]["price"] == 54.95
    assert screen.row(f"quotes:{old.token},RELIANCE_EQ", old.token)["ltp"] is None
    assert screen.book(f"depth:{old.token}")[0] == []


async def test_a_contract_under_another_id_is_shown_under_that(world: World) -> None:
    moved = replace(RELIANCE, key=InstrumentKey(Segment.NSE_EQ, 99_001))
    world.books.subscribe(RELIANCE)
    world.tick(RELIANCE, 2_640.0)
    screen = Screen(world.join(), "quotes:RELIANCE_EQ", "depth:RELIANCE_EQ")
    list_anew(world, RELIANCE, moved)
    world.tick(moved, 2_655.0)
    world.round(11)
    screen.read()
    assert screen.row("quotes:RELIANCE_EQ", "RELIANCE_EQ")["ltp"] == 2_655.0
    assert screen.book("depth:RELIANCE_EQ")[0][0]["price"] == 2_654.95
