"""What a chain's summary calls live."""

from __future__ import annotations

import pytest

from app.core.sessions import Phase
from tests.stream_world import NIFTY, World

CHAIN = "chain:NIFTY:26FEB2026"


@pytest.fixture
async def world() -> World:
    return await World.opened()


async def test_a_spot_of_the_session_before_is_not_live(world: World) -> None:
    """In the pre-open a silent index is quiet, not stale: its price is yesterday's all the same."""
    world.calendar.phase = lambda segment, at: Phase.PRE_OPEN  # type: ignore[method-assign]
    world.calendar.judged_from = lambda segment, at: None  # type: ignore[method-assign]
    world.clock.at_ms += 12 * 3_600_000
    world.books.subscribe(NIFTY)
    world.tick(NIFTY, 25_020.35)
    world.clock.at_ms += 3 * 3_600_000  # past midnight: a new session
    reader = world.join()
    reader.watch(CHAIN, "quotes:NIFTY_IDX")
    first = {message["topic"]: message["data"] for message in reader.read()}
    assert first["quotes:NIFTY_IDX"]["rows"]["NIFTY_IDX"]["state"] == "QUIET"
    assert first[CHAIN]["summary"]["underlying_source"] == "last"
    world.tick(NIFTY, 25_020.35)
    world.round(10)
    told = [message["data"]["summary"] for message in reader.read() if message["topic"] == CHAIN]
    assert told[0]["underlying_source"] == "live"
