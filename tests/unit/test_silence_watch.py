"""What silence is normal, and when a whole segment is silent: judged in session only, told once."""

from __future__ import annotations

import pytest

from app.core.ids import Segment
from tests.quiet_market import QuietMarket

INDEX, VIX, LEG, CRUDE = range(4)


def market_at(start: str) -> QuietMarket:
    return QuietMarket([Segment.IDX_I, Segment.IDX_I, Segment.NSE_FNO, Segment.MCX_COMM], start)


def run(market: QuietMarket, seconds: int, *ticking: int) -> set[tuple[int, str]]:
    """Pass the time; the states that were seen."""
    seen = set()
    for _ in range(seconds):
        market.second(list(ticking))
        seen |= set(enumerate(market.states()))
    return seen


def told(market: QuietMarket) -> list[tuple[object, object]]:
    return [(event.data["segment"], event.data["state"]) for event in market.told]


def test_a_silent_segment_is_told_once_and_so_is_its_return() -> None:
    market = market_at("2026-02-03T10:00:00")
    run(market, 60, INDEX, LEG, CRUDE)
    run(market, 29, INDEX, CRUDE)
    assert told(market) == []
    run(market, 200, INDEX, CRUDE)
    assert told(market) == [("NSE_FNO", "silent")]
    assert market.watch.concerns() == ("nothing of NSE_FNO has come since 10:01:00 although it trades",)
    assert market.states()[LEG] == "GAP"
    assert market.states()[CRUDE] == "LIVE"
    run(market, 5, INDEX, LEG, CRUDE)
    assert told(market) == [("NSE_FNO", "silent"), ("NSE_FNO", "alive")]
    assert (market.watch.concerns(), market.states()[LEG]) == ((), "LIVE")


def test_a_segment_whose_liveliest_instrument_is_slow_has_more_time() -> None:
    market = market_at("2026-02-03T10:00:00")
    for _ in range(25):
        run(market, 39, INDEX)
        run(market, 1, INDEX, LEG)
    run(market, 190, INDEX)
    assert told(market) == []
    run(market, 15, INDEX)
    assert told(market) == [("NSE_FNO", "silent")]


def test_nothing_is_said_of_a_segment_that_never_spoke() -> None:
    market = market_at("2026-02-03T10:00:00")
    run(market, 300, INDEX)
    assert told(market) == []


@pytest.mark.parametrize("day", ["2026-02-03", "2026-11-23"])
def test_the_index_freeze_before_the_auction_is_known_since_august_2026(day: str) -> None:
    market = market_at(f"{day}T15:10:00")
    run(market, 300, INDEX, VIX, LEG, CRUDE)  # until 15:15
    seen = run(market, 840, VIX, LEG, CRUDE)  # the index stands still, VIX goes on
    if day == "2026-02-03":
        assert (INDEX, "STALE") in seen, "before August 2026 an index moved until 15:30"
    else:
        assert {state for number, state in seen if number == INDEX} <= {"LIVE", "QUIET"}
        assert "closing auction" in market.reader.why(market.instruments[INDEX])
    assert told(market) == []


def test_after_the_close_only_what_still_trades_is_judged() -> None:
    market = market_at("2026-11-23T15:38:00")
    run(market, 120, LEG, CRUDE)  # F&O until 15:40
    seen = run(market, 300, CRUDE)
    assert (LEG, "CLOSED") in seen
    assert (LEG, "STALE") not in seen
    assert told(market) == []
    run(market, 60)
    assert told(market) == [("MCX_COMM", "silent")]


def test_a_silence_that_ends_with_the_session_is_over() -> None:
    market = market_at("2026-02-03T15:28:00")
    run(market, 60, LEG, CRUDE)
    run(market, 70, CRUDE)
    assert told(market) == [("NSE_FNO", "silent"), ("NSE_FNO", "closed")]


def test_the_night_is_no_silence() -> None:
    market = market_at("2026-02-03T15:29:00")
    run(market, 50, INDEX, LEG)
    market.at = market.at.replace(day=4, hour=9, minute=14, second=58)
    seen = run(market, 25, INDEX)  # the first packets of the day; the leg has not traded yet
    assert not {"STALE", "GAP"} & {state for _, state in seen}


def test_what_was_lost_with_its_connection_teaches_nothing() -> None:
    market = market_at("2026-02-03T10:00:00")
    run(market, 60, INDEX, LEG)
    run(market, 20, INDEX)
    market.slot_lost_ms[LEG] = market.now_ms()
    run(market, 500, INDEX)
    run(market, 3, INDEX, LEG)
    assert market.board.normal_gap_ms(market.board.slots_of(Segment.NSE_FNO)).max() < 100_000
    market.board.learn_gaps(market.slot_lost_ms, market.slot_lost_ms)
    assert market.board._longest_gap_ms[LEG] == 1_000
