"""The simulated market: no arbitrage, books that never cross, days that only grow, the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vollib.black import black as oracle

from app.core.ids import InstrumentKey, InstrumentKind, Segment
from app.core.packets import Full, utc_from_ltt
from app.dhan.codec import decode
from app.sim.exchange import SEGMENT_BYTES
from app.sim.prices import INTEREST, Market, MarketShape, luck
from app.sim.smile import black76, smile_vol
from tests.sim.world import CRUDE_FUTURE, NIFTY, NIFTY_FUTURE, NOW_S, RELIANCE, World, small_world

EVERYWHERE = np.ones(SEGMENT_BYTES, dtype=np.bool_)
NOWHERE = np.zeros(SEGMENT_BYTES, dtype=np.bool_)


def opened(world: World, shape: MarketShape, is_open: np.ndarray = EVERYWHERE) -> tuple[Market, np.ndarray]:
    market = Market(world, shape)
    slots = market.admit(list(world.listed), NOW_S, is_open)
    return market, np.array(slots, dtype=np.intp)


def walk_on(market: Market, slots: np.ndarray, steps: int, start_s: float = NOW_S) -> None:
    for step in range(1, steps + 1):
        now_s = start_s + 0.5 * step
        market.drivers.advance(now_s)
        market.refresh(market.due(slots, now_s, EVERYWHERE), now_s)


def fulls(market: Market, slots: np.ndarray) -> list[Full]:
    packets = decode(market.full_packets(slots).tobytes())
    assert all(isinstance(packet, Full) for packet in packets)
    return [packet for packet in packets if isinstance(packet, Full)]


# --- option values ----------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(
    forward=st.floats(1.0, 100_000.0),
    vol=st.floats(0.05, 1.0),
    years=st.floats(1.0 / 8_760.0, 5.0),
    width=st.floats(0.001, 0.02),
)
def test_a_chain_admits_no_arbitrage(forward: float, vol: float, years: float, width: float) -> None:
    strikes = forward * np.exp(width * np.arange(-50, 51))
    ones = np.ones(strikes.size)
    smile = smile_vol(forward * ones, strikes, years * ones, vol * ones)
    calls = black76(forward * ones, strikes, years * ones, smile, ones > 0, INTEREST)
    puts = black76(forward * ones, strikes, years * ones, smile, ones < 0, INTEREST)
    discount, slack = np.exp(-INTEREST * years), 1e-9 * forward
    assert np.all(np.diff(calls) <= slack)
    assert np.all(np.diff(puts) >= -slack)
    assert np.all(calls >= discount * np.maximum(forward - strikes, 0.0) - slack)
    assert np.all(puts >= discount * np.maximum(strikes - forward, 0.0) - slack)
    assert np.all(calls <= discount * forward + slack)
    assert np.all(puts <= discount * strikes + slack)
    assert np.allclose(calls - puts, discount * (forward - strikes), atol=slack)
    slopes = np.diff(calls) / np.diff(strikes)
    assert np.all(np.diff(slopes) >= -1e-9 / width)  # convex: no butterfly pays for nothing


@pytest.mark.parametrize(("strike", "flag"), [(24_000.0, "c"), (25_000.0, "p"), (26_500.0, "c"), (22_000.0, "p")])
def test_values_agree_with_an_independent_library(strike: float, flag: str) -> None:
    one = np.ones(1)
    value = black76(25_000.0 * one, strike * one, 0.1 * one, 0.15 * one, np.array([flag == "c"]), INTEREST)
    assert value[0] == pytest.approx(oracle(flag, 25_000.0, strike, 0.1, INTEREST, 0.15), abs=1e-8)


def test_the_smile_is_the_given_volatility_at_the_money_and_skewed_down() -> None:
    ones = np.ones(3)
    low, middle, high = smile_vol(100.0 * ones, np.array([90.0, 100.0, 110.0]), 0.1 * ones, 0.2 * ones)
    assert middle == pytest.approx(0.2)
    assert low > high


# --- packets ----------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 2**32), steps=st.integers(1, 40), volatility=st.sampled_from([0.0, 1.0, 20.0]))
def test_every_image_is_consistent(seed: int, steps: int, volatility: float) -> None:
    world = small_world()
    market, slots = opened(world, MarketShape(seed=seed, volatility=volatility))
    walk_on(market, slots, steps)
    for packet in fulls(market, slots):
        listed = world.listed[packet.key]
        assert packet.low <= min(packet.ltp, packet.open)
        assert packet.high >= max(packet.ltp, packet.open)
        assert packet.low <= packet.atp * 1.0001 or packet.volume == 0
        assert packet.oi_low <= packet.oi <= packet.oi_high
        assert_on_tick(packet.ltp, listed.tick)
        assert_book(packet, listed.tick)
        if listed.kind is InstrumentKind.INDEX:
            assert (packet.volume, packet.ltq, packet.close_raw) == (0, 0, 0.0)
        else:
            assert packet.close_raw > 0
            assert packet.ltq % listed.lot_size == 0
        if listed.kind in (InstrumentKind.INDEX, InstrumentKind.EQUITY):
            assert packet.oi == 0


def assert_on_tick(price: float, tick: float) -> None:
    places = round(price / tick)
    assert np.float32(round(places * tick, 4)) == np.float32(price)


def assert_book(packet: Full, tick: float) -> None:
    bids = [level.bid_price for level in packet.depth if level.bid_price > 0]
    asks = [level.ask_price for level in packet.depth]
    assert bids == sorted(bids, reverse=True)
    assert len(set(bids)) == len(bids)
    assert asks == sorted(set(asks))
    assert len(asks) == 5
    assert not bids or bids[0] < asks[0]
    for level in packet.depth:
        assert_on_tick(level.ask_price, tick)
        assert (level.bid_price > 0) == (level.bid_qty > 0) == (level.bid_orders > 0)
        assert level.ask_qty > 0


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 2**32))
def test_volume_and_extremes_only_grow_within_a_day(seed: int) -> None:
    market, slots = opened(small_world(), MarketShape(seed=seed))
    before = fulls(market, slots)
    for stretch in range(5):
        walk_on(market, slots, 10, NOW_S + 5.0 * stretch)
        after = fulls(market, slots)
        for old, new in zip(before, after, strict=True):
            assert new.volume >= old.volume
            assert new.high >= old.high
            assert new.low <= old.low
            assert new.ltt >= old.ltt
            assert (new.open, new.close_raw) == (old.open, old.close_raw)
        before = after
    assert sum(packet.volume for packet in before) > 0


def test_a_listed_chain_is_monotone_as_sent() -> None:
    world = small_world()
    market, _ = opened(world, MarketShape())
    for side, sign in (("CE", -1), ("PE", 1)):
        legs = sorted(
            (listed for listed in world.listed.values() if listed.symbol == "NIFTY" and listed.option_type == side),
            key=lambda listed: listed.strike or 0.0,
        )
        slots = np.array([market.slot(listed.key) for listed in legs], dtype=np.intp)
        prices = np.array([packet.ltp for packet in fulls(market, slots)])
        assert len(prices) == 61
        assert np.all(sign * np.diff(prices) >= 0)


def test_a_future_carries_a_basis_and_crude_follows_itself() -> None:
    market, _ = opened(small_world(), MarketShape())
    index, future, crude = fulls(
        market, np.array([market.slot(key) for key in (NIFTY, NIFTY_FUTURE, CRUDE_FUTURE)], dtype=np.intp)
    )
    assert 0.001 < future.ltp / index.ltp - 1.0 < 0.006  # three weeks at 6.5 %
    assert crude.ltp == 6_000.0


def test_last_trade_times_are_ist_written_as_utc() -> None:
    market, slots = opened(small_world(), MarketShape())
    assert {utc_from_ltt(packet.ltt) for packet in fulls(market, slots)} == {int(NOW_S)}


def test_the_same_seed_gives_the_same_bytes_and_another_does_not() -> None:
    def bytes_of(seed: int) -> bytes:
        market, slots = opened(small_world(), MarketShape(seed=seed))
        walk_on(market, slots, 20)
        return market.full_packets(slots).tobytes()

    assert bytes_of(5) == bytes_of(5)
    assert bytes_of(5) != bytes_of(6)


def test_spots_move_together_and_can_jump() -> None:
    world = small_world()
    market, _ = opened(world, MarketShape(volatility=0.0))
    slot = np.array([market.slot(NIFTY)], dtype=np.intp)
    assert market.drivers.jump("NIFTY", 0.05)
    market.refresh(slot, NOW_S + 1.0)
    assert fulls(market, slot)[0].ltp == pytest.approx(26_250.0, rel=1e-4)
    assert not market.drivers.jump("NOBODY", 0.05)


def test_options_far_from_the_money_update_more_slowly() -> None:
    world = small_world()
    market, slots = opened(world, MarketShape())
    updates = np.zeros(slots.size)
    for step in range(1, 401):
        now_s = NOW_S + 0.05 * step
        due = market.due(slots, now_s, EVERYWHERE)
        market.refresh(due, now_s)
        updates[due] += 1
    calls = {
        listed.strike: updates[place]
        for place, listed in enumerate(world.listed.values())
        if listed.symbol == "NIFTY" and listed.option_type == "CE"
    }
    assert calls[25_050.0] > 1.5 * calls[23_500.0]
    assert 15 <= calls[23_500.0] <= calls[25_050.0] <= 80 + 15


def test_the_day_turns_at_midnight() -> None:
    market, slots = opened(small_world(), MarketShape())
    walk_on(market, slots, 20)
    old = fulls(market, slots)
    tomorrow = NOW_S + 86_400.0
    market.refresh(slots, tomorrow)
    for before, after in zip(old, fulls(market, slots), strict=True):
        if before.key != NIFTY:
            assert after.close_raw == before.ltp
        assert after.volume <= 65 * 500 * 13
        assert after.low <= after.open <= after.high


def test_out_of_session_nothing_is_due_and_the_close_field_is_todays() -> None:
    market, slots = opened(small_world(), MarketShape(), NOWHERE)
    assert market.due(slots, NOW_S + 60.0, NOWHERE).size == 0
    for packet in fulls(market, slots):
        assert packet.key == NIFTY or packet.close_raw == packet.ltp
        assert utc_from_ltt(packet.ltt) < NOW_S


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_untraded_is_a_share_of_the_options_and_of_nothing_else(share: float) -> None:
    world = small_world()
    market, slots = opened(world, MarketShape(untraded=share))
    kinds = np.array([world.listed[key].kind is InstrumentKind.OPTION for key in market.keys])
    silent = market.silent[slots]
    assert not silent[~kinds].any()
    assert silent[kinds].mean() == pytest.approx(share, abs=0.12)


def test_an_unknown_key_is_no_slot_and_a_missing_reference_still_prices() -> None:
    world = small_world()
    world.reference[RELIANCE] = float("nan")
    market = Market(world, MarketShape())
    unknown = InstrumentKey(Segment.NSE_EQ, 1)
    assert market.admit([unknown, RELIANCE], NOW_S, EVERYWHERE) == [None, 0]
    assert fulls(market, np.array([0]))[0].ltp >= 100.0


@settings(deadline=None)
@given(seed=st.integers(0, 2**31), number=st.integers(0, 2**40))
def test_luck_is_a_fixed_number_below_one(seed: int, number: int) -> None:
    assert 0.0 <= luck(seed, number) < 1.0
    assert luck(seed, number) == luck(seed, number)
