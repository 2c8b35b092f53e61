"""The exchange as a state machine: Dhan's limits, modes and silences, checked on the bytes it sends."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.ids import InstrumentKey, Mode, Segment
from app.core.packets import (
    Disconnect,
    Full,
    OpenInterest,
    Packet,
    PrevClose,
    Quote,
    Ticker,
    Unknown,
)
from app.dhan.codec import encode_disconnect, encode_packet, encode_subscribe, encode_unsubscribe
from app.sim.exchange import Exchange, ExchangeConfig
from app.sim.faults import FaultKind
from app.sim.line import End, Ending
from tests.sim.world import (
    NIFTY,
    NIFTY_FUTURE,
    RELIANCE,
    TARGET,
    big_world,
    oversized_text,
    small_world,
    subscribe_texts,
)
from tests.unit.exchange_bench import Bench

UNKNOWN = InstrumentKey(Segment.NSE_EQ, 999_999)


# --- subscriptions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "kinds"),
    [(Mode.TICKER, {Ticker}), (Mode.QUOTE, {Quote, OpenInterest}), (Mode.FULL, {Full})],
)
def test_each_mode_sends_its_packets(mode: Mode, kinds: set[type[Packet]]) -> None:
    bench = Bench()
    me = bench.connect()
    bench.say(me, encode_subscribe([NIFTY_FUTURE], mode))
    bench.run(5.0)
    assert {type(packet) for packet in bench.packets(me)} == kinds
    assert bench.keys(me) == {NIFTY_FUTURE}


def test_open_interest_travels_apart_only_when_it_changed() -> None:
    bench = Bench()
    me = bench.connect()
    bench.say(me, encode_subscribe([NIFTY_FUTURE, RELIANCE], Mode.QUOTE))
    bench.run(20.0)
    told = [packet for packet in bench.packets(me) if isinstance(packet, OpenInterest)]
    quotes = [packet for packet in bench.packets(me) if isinstance(packet, Quote) and packet.key == NIFTY_FUTURE]
    assert {packet.key for packet in told} == {NIFTY_FUTURE}
    assert 1 < len(told) < len(quotes)
    assert all(old.oi != new.oi for old, new in itertools.pairwise(told))


@pytest.mark.parametrize("mode", [Mode.QUOTE, Mode.FULL])
def test_an_index_sends_quotes_and_its_previous_close_on_every_subscribe(mode: Mode) -> None:
    bench = Bench()
    me = bench.connect()
    bench.say(me, encode_subscribe([NIFTY, RELIANCE], mode))
    bench.run(1.0)
    bench.say(me, encode_subscribe([NIFTY], mode))
    bench.run(1.0)
    index = [packet for packet in bench.packets(me) if getattr(packet, "key", None) == NIFTY]
    closes = [packet for packet in bench.packets(me) if isinstance(packet, PrevClose)]
    assert {type(packet) for packet in index} == {Quote, PrevClose}
    assert [packet.key for packet in closes] == [NIFTY, NIFTY]
    assert closes[0].prev_close == pytest.approx(25_000.0, rel=0.01)
    assert {packet.close_raw for packet in index if isinstance(packet, Quote)} == {0.0}


def test_the_last_mode_asked_for_holds_and_an_unsubscribe_in_another_changes_nothing() -> None:
    bench = Bench()
    me = bench.connect()
    bench.say(me, encode_subscribe([RELIANCE], Mode.QUOTE), encode_subscribe([RELIANCE], Mode.FULL))
    bench.say(me, encode_unsubscribe([RELIANCE], Mode.QUOTE))
    bench.run(2.0)
    assert {type(packet) for packet in bench.packets(me)} == {Full}
    bench.say(me, encode_unsubscribe([RELIANCE], Mode.FULL))
    heard = len(bench.packets(me))
    bench.run(5.0)
    assert len(bench.packets(me)) == heard
    assert bench.instruments(me) == 0


def test_an_unknown_id_is_met_with_silence_but_counts() -> None:
    bench = Bench()
    me = bench.connect()
    bench.say(me, encode_subscribe([UNKNOWN], Mode.FULL), encode_subscribe([UNKNOWN], Mode.FULL))
    bench.run(2.0)
    assert bench.got[me] == []
    assert bench.instruments(me) == 1
    bench.say(me, encode_unsubscribe([UNKNOWN], Mode.FULL))
    assert bench.instruments(me) == 0


def test_untraded_contracts_send_nothing() -> None:
    bench = Bench(untraded=1.0)
    me = bench.connect()
    bench.say(me, *subscribe_texts([RELIANCE, *bench.world.options()]))
    bench.run(5.0)
    assert bench.keys(me) == {RELIANCE}


def test_out_of_session_one_packet_on_subscribe_then_silence() -> None:
    bench = Bench()
    bench.is_open = False
    me = bench.connect()
    bench.say(me, *subscribe_texts([RELIANCE, NIFTY_FUTURE]))
    bench.run(30.0)
    assert Counter(packet.key for packet in bench.packets(me) if isinstance(packet, Full)) == {
        RELIANCE: 1,
        NIFTY_FUTURE: 1,
    }
    bench.is_open = True
    bench.run(5.0)
    assert len(bench.packets(me)) > 10


def test_after_hours_the_close_field_is_todays() -> None:
    bench = Bench()
    me = bench.connect()
    bench.say(me, encode_subscribe([RELIANCE], Mode.FULL))
    bench.run(5.0)
    bench.is_open = False
    bench.run(2.0)
    bench.say(me, encode_subscribe([RELIANCE], Mode.FULL))
    bench.run(1.0)
    during, after = bench.packets(me)[-2:]
    assert isinstance(during, Full)
    assert isinstance(after, Full)
    assert after.close_raw == after.ltp == during.ltp
    assert during.close_raw != during.ltp


# --- limits -----------------------------------------------------------------------------------------------------------


def test_the_sixth_connection_of_a_client_drops_its_oldest_with_805() -> None:
    bench = Bench()
    first, *others = [bench.connect() for _ in range(6)]
    stranger = bench.connect(TARGET.replace("1000000001", "2"))
    bench.run()
    assert bench.packets(first) == [Disconnect(805)]
    assert bench.ended == {first: End(Ending.CLOSE)}
    assert all(bench.got[number] == [] for number in [*others, stranger])


def test_a_connection_carries_5000_and_is_dropped_with_804_beyond() -> None:
    bench = Bench(big_world(5_001))
    keys = list(bench.world.listed)
    me = bench.connect()
    bench.say(me, *subscribe_texts(keys[:5_000]), *subscribe_texts(keys[:100]))
    bench.run()
    assert bench.instruments(me) == 5_000
    assert bench.keys(me) == set(keys[:5_000])
    bench.say(me, *subscribe_texts(keys[5_000:]))
    bench.run()
    assert bench.packets(me)[-1] == Disconnect(804)
    assert bench.ended[me] == End(Ending.CLOSE)


def test_unsubscribing_makes_room() -> None:
    bench = Bench(config=ExchangeConfig(instruments_max=2))
    me = bench.connect()
    bench.say(me, encode_subscribe([RELIANCE, NIFTY], Mode.QUOTE), encode_unsubscribe([RELIANCE], Mode.QUOTE))
    bench.say(me, encode_subscribe([NIFTY_FUTURE], Mode.FULL))
    bench.run()
    assert bench.keys(me) == {NIFTY, NIFTY_FUTURE}
    assert not bench.ended


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"RequestCode":19}', oversized_text([RELIANCE] * 101)])
def test_what_is_no_command_is_ignored_whole_and_counted(text: str) -> None:
    bench = Bench()
    me = bench.connect()
    bench.say(me, text)
    bench.run(1.0)
    assert bench.got[me] == []
    assert bench.exchange.totals["bad_commands"] == 1
    assert not bench.ended


def test_goodbye_closes_the_whole_connection() -> None:
    bench = Bench()
    me = bench.connect()
    bench.say(me, encode_disconnect(), encode_subscribe([RELIANCE], Mode.FULL))
    bench.run(1.0)
    assert bench.got[me] == []
    assert bench.ended == {me: End(Ending.CLOSE)}


# --- books ------------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=15)
@given(
    seed=st.integers(0, 2**16),
    script=st.lists(
        st.tuples(
            st.integers(0, 1),
            st.sampled_from(list(Mode)),
            st.booleans(),
            st.lists(st.integers(0, 40), min_size=1, max_size=20),
        ),
        max_size=12,
    ),
)
def test_the_count_per_key_is_what_went_out(seed: int, script: list[tuple[int, Mode, bool, list[int]]]) -> None:
    bench = Bench(seed=seed)
    ours = [bench.connect(), bench.connect()]
    keys = [*list(bench.world.listed)[:40], UNKNOWN]
    for who, mode, wants, places in script:
        encode = encode_subscribe if wants else encode_unsubscribe
        bench.say(ours[who], encode([keys[place] for place in places], mode))
        bench.run(0.5, blocked=ours[:1] if seed % 2 else ())
    bench.run(0.5)
    sent = [packet for number in ours for packet in bench.packets(number)]
    counted = Counter(packet.key for packet in sent if not isinstance(packet, Disconnect | Unknown))
    for key in keys:
        assert bench.exchange.key_stats(key)["packets"] == counted[key]
    assert bench.exchange.totals["packets"] == len(sent)
    assert bench.exchange.totals["bytes"] == sum(len(frame) for number in ours for frame in bench.got[number])


def test_the_last_packet_of_a_key_is_kept_byte_for_byte() -> None:
    bench = Bench()
    me = bench.connect()
    bench.say(me, *subscribe_texts([RELIANCE, NIFTY_FUTURE]), *subscribe_texts([NIFTY], Mode.QUOTE))
    bench.run(3.0)
    for key in (RELIANCE, NIFTY_FUTURE, NIFTY):
        mine = [packet for packet in bench.packets(me) if isinstance(packet, Full | Quote) and packet.key == key]
        stats = bench.exchange.key_stats(key)
        assert stats["last"] == encode_packet(mine[-1]).hex()
        assert stats["connections"] == {me: stats["packets"]}


def test_a_blocked_connection_is_owed_one_image_per_instrument() -> None:
    bench = Bench(rate=20.0)
    me, other = bench.connect(), bench.connect()
    keys = [RELIANCE, *bench.world.options()[:30]]
    bench.say(me, *subscribe_texts(keys))
    bench.say(other, *subscribe_texts(keys))
    bench.run(60.0, blocked=[me])
    assert bench.got[me] == []
    assert len(bench.packets(other)) > 10 * len(keys)
    bench.run()
    newest = {packet.key: packet for packet in bench.packets(other) if isinstance(packet, Full)}
    received = [packet for packet in bench.packets(me) if isinstance(packet, Full)]
    assert Counter(packet.key for packet in received) == dict.fromkeys(keys, 1)
    assert {packet.key: packet for packet in received} == newest


@pytest.mark.parametrize("frame_bytes", [0, 162, 4_096, 16_384])
def test_frames_are_bounded(frame_bytes: int) -> None:
    bench = Bench(config=ExchangeConfig(frame_bytes=frame_bytes))
    me = bench.connect()
    bench.say(me, *subscribe_texts(list(bench.world.listed)))
    bench.run(1.0)
    longest = max(map(len, bench.got[me]))
    assert longest <= max(frame_bytes, 162)
    assert (longest > 162) == (frame_bytes > 324)


def test_the_same_seed_sends_the_same_bytes() -> None:
    def sent(seed: int) -> list[bytes]:
        bench = Bench(seed=seed)
        me = bench.connect()
        bench.say(me, *subscribe_texts(list(bench.world.listed)))
        bench.run(3.0)
        return bench.got[me]

    assert sent(3) == sent(3)
    assert sent(3) != sent(4)


# --- handshakes -------------------------------------------------------------------------------------------------------


def test_a_handshake_needs_its_four_members_and_a_right_token() -> None:
    exchange = Exchange(ExchangeConfig(token="right"), small_world())
    assert exchange.admit(TARGET.replace("secret", "right")).status == 101
    assert exchange.admit(TARGET).status == 401
    assert exchange.admit("/?version=2&clientId=1&authType=2").status == 401
    assert exchange.admit("/?version=1&token=right&clientId=1&authType=2").status == 400
    assert exchange.totals["refused"] == 3
    assert "right" not in repr(exchange.admit(TARGET.replace("secret", "right")))


def test_a_refusal_lasts_as_long_as_it_was_told_to() -> None:
    bench = Bench()
    bench.inject(FaultKind.REFUSE, value=429, seconds=5)
    assert bench.exchange.admit(TARGET).status == 429
    bench.run(6.0)
    assert bench.exchange.admit(TARGET).status == 101


def test_a_slow_handshake_tells_how_slow() -> None:
    bench = Bench()
    bench.inject(FaultKind.SLOW_HANDSHAKE, value=7.5, seconds=5)
    assert bench.exchange.admit(TARGET).delay_s == 7.5
