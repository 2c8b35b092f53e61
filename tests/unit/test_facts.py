"""One reader of facts for REST, stream and command line."""

from __future__ import annotations

from importlib.resources import files

import numpy as np
import pytest

from app.core.sessions import Calendar, parse_exchange_days
from app.market.facts import StateReader
from app.market.live_prices import LivePrices
from app.market.states import STATES, states
from tests.stream_world import IST, NIFTY, RELIANCE, START_MS, World


@pytest.fixture
def world() -> World:
    made = World()
    made.books.subscribe(NIFTY, RELIANCE)
    return made


def test_states_of_many_and_their_counts(world: World) -> None:
    world.tick(NIFTY, 25_000.0)
    world.prices.take_dirty()
    other = world.leg(25_000)
    assert world.reader.states([NIFTY, RELIANCE, other]) == ["LIVE", "SENT", "NOT_SUBSCRIBED"]
    assert world.reader.counts([NIFTY, RELIANCE, other, other]) == {"NOT_SUBSCRIBED": 2, "SENT": 1, "LIVE": 1}


def test_evicted_expired_and_cut(world: World) -> None:
    leg = world.leg(25_000)
    world.books.evicted.add(leg.key)
    assert world.reader.of(leg) == "EVICTED"
    world.clock.at_ms += 3 * 86_400_000
    assert world.reader.of(leg) == "EXPIRED"
    world.tick(NIFTY, 25_000.0)
    slot = world.prices.slot(NIFTY.key)
    world.books.slot_lost_ms[slot] = world.clock.now_ms() + 1
    assert world.reader.of(NIFTY) == "GAP"


def test_why_names_socket_and_local_time(world: World) -> None:
    world.tick(NIFTY, 25_000.0)
    world.clock.at_ms += 2_000
    assert world.reader.why(NIFTY) == (
        "sent on socket 1 at 25 Feb 10:00:00; last packet 2.0 s ago; how often it usually comes is not known yet"
    )
    assert world.reader.why(world.leg(25_000), "not listed before 09:00").endswith("universe; not listed before 09:00")


def test_closed_market_is_not_stale(world: World) -> None:
    nse = parse_exchange_days((files("app.core") / "calendars" / "nse.toml").read_text("utf-8"))
    reader = StateReader(world.prices, world.books, world.books, Calendar([nse], IST), world.clock)
    world.tick(NIFTY, 25_000.0)
    world.prices.take_dirty()
    assert reader.of(NIFTY) == "LIVE"  # 10:00 on a Wednesday
    world.clock.at_ms += 6 * 3_600_000
    assert reader.of(NIFTY) == "CLOSED"
    assert "its market is closed; last packet 25 Feb 10:00:00" in reader.why(NIFTY)


def test_silent_segment_makes_nothing_stale(world: World) -> None:
    world.tick(NIFTY, 25_000.0)
    world.prices.take_dirty()
    world.clock.at_ms += 3_600_000
    assert world.reader.of(NIFTY) == "QUIET"


def test_empty_board_has_no_states() -> None:
    world = World()
    assert world.reader.states([]) == []
    assert LivePrices(slots=4).columns([]).matrix.shape == (0, 21)
    assert world.clock.now_ms() == START_MS


def test_counting_many_at_once_judges_as_the_rule_does(world: World) -> None:
    legs = [leg for leg in world.listing.by_name.values() if leg.symbol == "NIFTY"]
    world.books.subscribe(*legs)
    rng, table, now_ms = np.random.default_rng(1), world.prices.buffers.table, START_MS

    def some(*values: int) -> np.ndarray:
        return rng.choice(values, world.prices.slots)

    slots = np.array([world.prices.slot(leg.key) for leg in legs])
    told: set[str] = set()
    for lost_ms, segments_lost_ms, is_expired in ((0, 0, False), (now_ms - 900, now_ms - 3_000, False), (0, 0, True)):
        table["last_ms"] = now_ms - some(0, 1, 900, 901, 3_000, 5_000, 5_001, 29_999, 400_000, now_ms)
        table["usual_gap_ms"], table["packets"] = some(0, 100, 4_000), some(1, 100)
        world.books.sent_ms[:] = some(0, now_ms - 60_000)
        world.books.slot_lost_ms[:] = some(0, lost_ms)
        world.prices.segment_lost_ms[:] = segments_lost_ms
        world.prices.buffers.dirty_marks[:] = 1
        world.prices.take_dirty()
        if is_expired:
            world.clock.at_ms += 3 * 86_400_000
        standing = world.reader.standing_at(slots)
        codes = world.reader.codes_at(standing, slots)
        gaps_ms = table["usual_gap_ms"][slots].astype(np.float64)
        assert codes.tolist() == states(world.reader.facts(standing, slots, table["last_ms"][slots], gaps_ms)).tolist()
        told |= {STATES[code] for code in codes.tolist()}
    assert told == {"EXPIRED", "WANTED", "SENT", "GAP", "STALE", "QUIET", "LIVE"}
