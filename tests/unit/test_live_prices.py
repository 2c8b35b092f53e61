"""The board: slots, exact prices, and nothing invented."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from app.core.errors import InstrumentUnknown
from app.core.ids import Exchange, InstrumentKey, InstrumentKind, OptionType, Segment
from app.core.instruments import Instrument
from app.core.packets import DepthLevel, Full, PrevClose, Quote, Ticker, ltt_from_utc
from app.core.rows import Has
from app.dhan.codec import encode_packet
from app.dhan.decoder import write_frame
from app.market.live_prices import BOARD_FIELDS, LivePrices, PriceView
from app.market.session_oi import OiBasis, PreviousOi

NOW_S = 1_770_000_000
NOW_MS = NOW_S * 1000
LTT = ltt_from_utc(NOW_S)


def option(number: int = 47317, tick: float = 0.05) -> Instrument:
    return Instrument(
        InstrumentKey(Segment.NSE_FNO, number), f"RELIANCE_26FEB2026_{number}CE", InstrumentKind.OPTION, Exchange.NSE,
        "RELIANCE", "RELIANCE", 500, tick, date(2026, 2, 26), float(number), OptionType.CE,
    )  # fmt: skip


NIFTY = Instrument(
    InstrumentKey(Segment.IDX_I, 13), "NIFTY_IDX", InstrumentKind.INDEX, Exchange.NSE, "NIFTY", "NIFTY 50", 1, 0.05
)
CASH = Instrument(
    InstrumentKey(Segment.NSE_EQ, 2885), "RELIANCE_EQ", InstrumentKind.EQUITY, Exchange.NSE, "RELIANCE", "R", 1, 0.1
)


def full(key: InstrumentKey, ltp: float = 2641.5, *, close: float = 2600.0, oi: int = 987_650) -> Full:
    level = DepthLevel(65, 130, 1, 2, ltp - 0.05, ltp + 0.05)
    empty = DepthLevel(0, 0, 0, 0, 0.0, 0.0)
    return Full(
        key, ltp, 75, LTT, 2640.1, 1_234_500, 600_100, 500_200, oi, 999_999, 900_000, 2610.0, close, 2650.0, 2600.5,
        (level, empty, empty, empty, empty),
    )  # fmt: skip


def deliver(prices: LivePrices, *packets: object, at_ms: int = NOW_MS) -> None:
    for packet in packets:
        slot = prices.slot(packet.key)  # type: ignore[attr-defined]
        if slot is not None:
            prices.buffers.socket_of[slot] = 0
        write_frame(prices.buffers, 0, encode_packet(packet), at_ms)  # type: ignore[arg-type]


def row(prices: LivePrices, key: InstrumentKey) -> dict[str, float | None]:
    slot = prices.slot(key)
    values = prices.columns([-1 if slot is None else slot]).matrix[0].tolist()
    return {name: None if value != value else value for name, value in zip(BOARD_FIELDS, values, strict=True)}


@pytest.fixture
def prices() -> LivePrices:
    board = LivePrices(slots=8, connections=2)
    board.set_latching([Segment.NSE_FNO, Segment.NSE_EQ])
    return board


def test_row_is_exact_and_complete(prices: LivePrices) -> None:
    leg = option()
    prices.set_previous_oi(leg.key.segment, {leg.token: PreviousOi(900_000, OiBasis.PREVIOUS_SESSION)})
    slot = prices.track(leg)
    deliver(prices, full(leg.key))
    assert row(prices, leg.key) == {
        "ltp": 2641.5, "change": 41.5, "change_pct": 1.5962, "bid": 2641.45, "ask": 2641.55, "bid_qty": 65,
        "ask_qty": 130, "ltq": 75, "atp": 2640.1, "volume": 1_234_500, "total_buy_qty": 500_200,
        "total_sell_qty": 600_100, "oi": 987_650, "oi_high": 999_999, "oi_low": 900_000, "oi_change": 87_650,
        "open": 2610.0, "high": 2650.0, "low": 2600.5, "prev_close": 2600.0, "ltt_ms": NOW_MS,
    }  # fmt: skip
    assert prices.columns([slot]).oi_basis[0] == OiBasis.PREVIOUS_SESSION
    assert json.dumps(prices.last_price(leg.key)) == "2641.5"


def test_nothing_is_known_of_a_fresh_row(prices: LivePrices) -> None:
    prices.track(option())
    assert set(row(prices, option().key).values()) == {None}
    assert prices.last_price(option().key) is None
    assert prices.last_seen_ms(option().key) is None
    assert prices.depth(option().key) is None


def test_instrument_without_a_slot_is_unknown_and_not_the_last_row(prices: LivePrices) -> None:
    for number in range(1, 9):
        prices.track(option(number))
        deliver(prices, full(option(number).key))
    columns = prices.columns([-1, 7])
    assert np.isnan(columns.matrix[0]).all()
    assert columns.last_ms.tolist() == [0, NOW_MS]


def test_zeros_of_the_wire_are_unknown(prices: LivePrices) -> None:
    leg = option()
    prices.track(leg)
    deliver(prices, Quote(leg.key, 12.5, 0, LTT, 0.0, 0, 0, 0, 0.0, 0.0, 0.0, 0.0))
    told = row(prices, leg.key)
    assert {name: told[name] for name in ("ltp", "volume", "ltq")} == {"ltp": 12.5, "volume": 0, "ltq": 0}
    unknown = ("atp", "open", "high", "low", "prev_close", "change", "change_pct", "bid", "ask", "bid_qty", "oi")
    assert [told[name] for name in unknown] == [None] * len(unknown)


def test_empty_side_of_the_book_is_null(prices: LivePrices) -> None:
    leg = option()
    prices.track(leg)
    one_sided = full(leg.key)._replace(depth=(DepthLevel(0, 40, 0, 3, 0.0, 2642.0), *full(leg.key).depth[1:]))
    deliver(prices, one_sided)
    told = row(prices, leg.key)
    assert (told["bid"], told["bid_qty"], told["ask"], told["ask_qty"]) == (None, None, 2642.0, 40)
    depth = prices.depth(leg.key)
    assert depth is not None
    assert (depth.bids, depth.asks) == ((), ((2642.0, 40, 3),))


def test_index_has_no_volume_nor_book(prices: LivePrices) -> None:
    prices.track(NIFTY)
    quote = Quote(NIFTY.key, 24876.35, 0, LTT, 0.0, 0, 0, 0, 24800.0, 0.0, 24900.2, 24750.1)
    deliver(prices, quote, PrevClose(NIFTY.key, 24700.3, 0))
    told = row(prices, NIFTY.key)
    assert (told["ltp"], told["prev_close"], told["change"], told["open"]) == (24876.35, 24700.3, 176.05, 24800.0)
    for name in ("volume", "ltq", "atp", "bid", "ask", "total_buy_qty", "oi", "oi_change"):
        assert told[name] is None


def test_cash_line_has_no_open_interest(prices: LivePrices) -> None:
    prices.track(CASH)
    deliver(prices, full(CASH.key, oi=0))
    told = row(prices, CASH.key)
    assert (told["oi"], told["oi_high"], told["volume"]) == (None, None, 1_234_500)
    prices.end_session(Segment.NSE_EQ, NOW_MS, None)
    assert prices.ended_oi(Segment.NSE_EQ) == {}


def test_change_needs_both_prices(prices: LivePrices) -> None:
    prices.track(option())
    deliver(prices, Ticker(option().key, 99.95, LTT))
    told = row(prices, option().key)
    assert (told["ltp"], told["prev_close"], told["change"], told["change_pct"]) == (99.95, None, None, None)


@pytest.mark.parametrize(("price", "tick"), [(152.3, 0.05), (83.2525, 0.0025), (270_001.0, 1.0), (72_708.15, 0.05)])
def test_prices_come_back_on_their_tick(prices: LivePrices, price: float, tick: float) -> None:
    leg = option(tick=tick)
    prices.track(leg)
    deliver(prices, Ticker(leg.key, price, LTT))
    assert prices.last_price(leg.key) == price
    assert row(prices, leg.key)["ltp"] == price


def test_previous_close_keeps_paise_between_ticks(prices: LivePrices) -> None:
    leg = option(tick=0.1)
    prices.track(leg)
    deliver(prices, full(leg.key, 152.3, close=151.07))
    assert row(prices, leg.key)["prev_close"] == 151.07


def test_slots_are_reused_oldest_first_and_empty(prices: LivePrices) -> None:
    legs = [option(number) for number in range(1, 9)]
    slots = [prices.track(leg) for leg in legs]
    assert slots == list(range(8))
    assert prices.track(legs[3]) == 3
    deliver(prices, full(legs[2].key), full(legs[5].key))
    prices.untrack(legs[5].key)
    prices.untrack(legs[2].key)
    prices.untrack(legs[2].key)
    assert [prices.track(option(100)), prices.track(option(101))] == [5, 2]
    assert set(row(prices, option(101).key).values()) == {None}
    assert prices.instrument_at(2) == option(101)
    with pytest.raises(OverflowError):
        prices.track(option(102))


def test_packet_for_a_dropped_key_lands_nowhere(prices: LivePrices) -> None:
    prices.track(option())
    prices.untrack(option().key)
    deliver(prices, full(option().key))
    assert prices.buffers.counters[0].unwanted == 1
    assert prices.take_dirty().tolist() == []


def test_revision_tells_of_slots_given_and_taken(prices: LivePrices) -> None:
    before = prices.revision
    prices.track(option())
    prices.track(option())
    prices.untrack(option().key)
    assert prices.revision == before + 2


def test_dirty_slots_are_taken_once(prices: LivePrices) -> None:
    slot = prices.track(option())
    prices.track(NIFTY)
    deliver(prices, full(option().key))
    assert prices.take_dirty().tolist() == [slot]
    assert prices.take_dirty().tolist() == []
    assert prices.segment_last_ms(Segment.NSE_FNO) == NOW_MS
    assert prices.segment_last_ms(Segment.IDX_I) == 0


def test_new_session_forgets_the_close_and_keeps_oi_as_baseline(prices: LivePrices) -> None:
    leg = option()
    slot = prices.track(leg)
    deliver(prices, full(leg.key, oi=500))
    assert row(prices, leg.key)["oi_change"] is None
    prices.new_session(Segment.NSE_FNO, before_ms=NOW_MS)
    told = row(prices, leg.key)
    assert (told["prev_close"], told["change"], told["oi_change"]) == (None, None, 0)
    deliver(prices, full(leg.key, close=2641.5, oi=620), at_ms=NOW_MS + 1)
    told = row(prices, leg.key)
    assert (told["prev_close"], told["oi_change"]) == (2641.5, 120)
    assert prices.columns([slot]).oi_basis[0] == OiBasis.PREVIOUS_SESSION


def test_a_new_session_shows_no_day_values_and_no_book_of_the_one_before(prices: LivePrices) -> None:
    leg = option()
    prices.track(leg)
    deliver(prices, full(leg.key, oi=500))
    prices.new_session(Segment.NSE_FNO, before_ms=NOW_MS)
    told = {name: value for name, value in row(prices, leg.key).items() if value is not None}
    assert told == {"ltp": 2641.5, "oi": 500, "oi_change": 0, "ltt_ms": NOW_MS}
    assert prices.depth(leg.key) is None
    deliver(prices, full(leg.key), at_ms=NOW_MS + 1)
    assert row(prices, leg.key)["volume"] == 1_234_500
    assert prices.depth(leg.key) is not None


def test_a_session_ends_at_what_came_since_or_stood_on_a_connection_that_was_there(prices: LivePrices) -> None:
    closed_ms = NOW_MS + 60_000
    since, quiet, cut, mute = (option(number) for number in (1, 2, 3, 4))
    mute = replace(mute, key=InstrumentKey(Segment.BSE_FNO, 4))
    lost_ms = np.zeros(prices.slots, dtype=np.int64)
    for each in (since, quiet, cut, mute):
        slot = prices.track(each)
        deliver(prices, full(each.key, oi=100))
        lost_ms[slot] = NOW_MS if each in (since, cut) else 0
    deliver(prices, full(since.key, oi=130), at_ms=closed_ms)
    prices.segment_lost_ms[Segment.BSE_FNO] = NOW_MS + 1
    for segment in (Segment.NSE_FNO, Segment.BSE_FNO):
        prices.end_session(segment, closed_ms, lost_ms)
    assert prices.ended_oi(Segment.NSE_FNO) == {since.token: 130, quiet.token: 100}
    assert prices.ended_oi(Segment.BSE_FNO) == {}
    prices.end_session(Segment.NSE_FNO, closed_ms, None)
    assert prices.ended_oi(Segment.NSE_FNO) == {since.token: 130}, "nobody saw the close"


def test_only_the_session_just_before_is_a_baseline(prices: LivePrices) -> None:
    leg = option()
    prices.track(leg)
    deliver(prices, full(leg.key, oi=100))
    prices.end_session(Segment.NSE_FNO, NOW_MS, None)
    prices.new_session(Segment.NSE_FNO, before_ms=NOW_MS + 86_400_000)
    assert row(prices, leg.key)["oi_change"] is None, "it slept through a whole session"


def test_feed_baseline_serves_where_nothing_was_kept(prices: LivePrices) -> None:
    leg = option()
    slot = prices.track(leg)
    deliver(prices, PrevClose(leg.key, 2600.0, 900), full(leg.key, oi=1_000))
    assert row(prices, leg.key)["oi_change"] == 100
    assert prices.columns([slot]).oi_basis[0] == OiBasis.FEED
    prices.set_previous_oi(leg.key.segment, {leg.token: PreviousOi(950, OiBasis.REST)})
    assert row(prices, leg.key)["oi_change"] == 50


def test_a_feed_baseline_of_an_older_session_is_none(prices: LivePrices) -> None:
    leg = option()
    prices.track(leg)
    deliver(prices, PrevClose(leg.key, 2600.0, 900))
    prices.new_session(Segment.NSE_FNO, before_ms=NOW_MS + 1)
    deliver(prices, full(leg.key, oi=1_000))
    told = row(prices, leg.key)
    assert (told["prev_close"], told["oi_change"]) == (2600.0, None), "the close is today's to know, that OI is not"


def test_latching_follows_the_sessions(prices: LivePrices) -> None:
    prices.set_latching([Segment.MCX_COMM])
    prices.track(option())
    deliver(prices, full(option().key))
    assert prices.buffers.table["has"][0] & Has.PREV_CLOSE == 0
    assert list(prices.buffers.latching).count(1) == 1


def test_mapping_of_last_prices(prices: LivePrices) -> None:
    def find(name: str) -> InstrumentKey:
        if name not in ("NIFTY50", "NIFTY_IDX"):
            raise InstrumentUnknown(name)
        return NIFTY.key

    view = PriceView(prices, find)
    prices.track(NIFTY)
    assert view.get("NIFTY50", 0) == 0
    deliver(prices, Ticker(NIFTY.key, 24876.35, LTT))
    assert (view["NIFTY50"], dict(view)) == (24876.35, {"NIFTY_IDX": 24876.35})
    assert view.get("NOBODY", 0) == 0
