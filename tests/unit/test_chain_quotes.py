"""Chains looked at over HTTP: always what the board holds now, though their layout is kept."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from app.market.atm_engine import CachedWindow, ChainId
from app.market.chain_view import ChainView
from app.rest import limits
from app.rest.answers import encode
from app.rest.chain_quotes import DeskQuotes
from app.stream.desk import Desk
from app.stream.face import Face
from tests.stream_world import FUTURE, NIFTY, NIFTY_CHAIN, RELIANCE, World

RELIANCE_CHAIN = ChainId("RELIANCE", NIFTY_CHAIN.expiry, NIFTY_CHAIN.exchange)


class Looking:
    """Endpoint 4 with ``quotes=true``, over a small market."""

    def __init__(self) -> None:
        self.world = world = World()
        self.face = Face(world.prices, world.reader, world.clock, first_rows=16)
        view = ChainView(world.listing, world.engine, world.prices, world.calendar)
        self.quotes = DeskQuotes(Desk(view, self.face, world.clock, world.calendar), self.face, world.listing)  # type: ignore[arg-type]
        world.books.subscribe(NIFTY, RELIANCE, FUTURE)
        world.tick(NIFTY, 25_000.0)
        world.tick(RELIANCE, 2_640.0)

    def at(self, chain: ChainId = NIFTY_CHAIN, spot: float = 25_000.0) -> dict[str, Any]:
        return self.through(self.world.engine.look(chain, spot), spot)

    def through(self, window: CachedWindow, spot: float) -> dict[str, Any]:
        """As it goes over HTTP: unknown is null."""
        told: dict[str, Any] = orjson.loads(encode(self.quotes(window, spot, "live")))
        return told


@pytest.fixture
def looking() -> Looking:
    return Looking()


def test_each_look_tells_what_the_board_holds_now(looking: Looking) -> None:
    world, leg, other = looking.world, looking.world.leg(25_000), looking.world.leg(25_000, "PE")
    assert looking.at()["rows"][leg.token]["state"] == "NOT_SUBSCRIBED"
    world.books.subscribe(leg, other)
    sent = looking.at()["rows"][leg.token]
    assert (sent["state"], sent["ltp"], sent["iv"]) == ("SENT", None, None)
    world.tick(leg, 120.0)
    world.tick(other, 119.0)
    first = looking.at()
    assert (first["rows"][leg.token]["ltp"], first["summary"]["straddle"]) == (120.0, 239.0)
    assert first["coverage"]["live"] == 2
    world.tick(leg, 125.0)
    world.clock.at_ms += 40
    second = looking.at()
    assert (second["rows"][leg.token]["ltp"], second["summary"]["straddle"]) == (125.0, 244.0)
    assert second["rows"][leg.token]["age_ms"] == 40
    assert second["rows"][leg.token]["iv"] > first["rows"][leg.token]["iv"] > 0.0
    world.books.unsubscribe(leg)
    gone = looking.at()["rows"][leg.token]
    assert (gone["state"], gone["ltp"], gone["iv"]) == ("NOT_SUBSCRIBED", None, None)


def test_a_look_agrees_with_the_stream(looking: Looking) -> None:
    world = looking.world.start()
    legs = [world.leg(strike, side) for strike in (24_900, 25_000, 25_100) for side in ("CE", "PE")]
    world.books.subscribe(*legs)
    for place, leg in enumerate(legs):
        world.tick(leg, 100.0 + place)
    reader = world.join()
    reader.watch("chain:NIFTY:26FEB2026")
    world.round()
    told = reader.read()[-1]["data"]
    looked = looking.at()
    assert looked["coverage"] == told["coverage"]
    assert looked["summary"] == told["summary"]
    assert looked["rows"][legs[0].token] == told["rows"][legs[0].token] | {"age_ms": 100}


def test_a_leg_that_left_the_chain_shows_no_volatility_of_before(looking: Looking) -> None:
    world, edge = looking.world, looking.world.leg(22_500)
    world.books.subscribe(edge)
    window = world.engine.look(NIFTY_CHAIN, 25_000.0)
    world.tick(edge, 2_520.0)
    assert looking.through(window, 25_000.0)["rows"][edge.token]["iv"] is not None
    world.tick(NIFTY, 25_200.0)  # the chain follows its spot; the window that the caller asks for stays
    assert looking.through(window, 25_000.0)["rows"][edge.token]["iv"] is None


def test_a_price_of_the_callers_own_has_its_own_money(looking: Looking) -> None:
    world = looking.world
    for strike, price in ((25_000, 120.0), (25_100, 70.0)):
        for side, more in (("CE", 0.0), ("PE", 5.0)):
            world.books.subscribe(world.leg(strike, side))
            world.tick(world.leg(strike, side), price + more)
    window = world.engine.look(NIFTY_CHAIN, 25_000.0)
    told = orjson.loads(encode(looking.quotes(window, 25_110.0, "request")))
    call = told["rows"][world.leg(25_100).token]
    summary = told["summary"]
    assert (summary["underlying_ltp"], summary["atm_strike"], summary["straddle"]) == (25_110.0, 25_100.0, 145.0)
    assert summary["atm_iv"] == call["iv"] is not None
    told = orjson.loads(encode(looking.quotes(window, 25_390.0, "request")))
    assert (told["summary"]["atm_strike"], told["summary"]["straddle"], told["summary"]["atm_iv"]) == (
        25_400,
        None,
        None,
    )


def test_only_the_latest_stay_laid_out(looking: Looking, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LOOKS_KEPT", 1)
    looking.at()
    wide = len(looking.face)
    looking.at(RELIANCE_CHAIN, 2_640.0)
    assert len(looking.face) < wide
    assert looking.at()["coverage"]["legs"] == 202
    assert len(looking.face) == wide
