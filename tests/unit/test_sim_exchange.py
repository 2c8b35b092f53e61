"""The exchange as a state machine: Dhan's limits, modes, silences and faults, checked on the bytes it sends."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.errors import BadFrame
from app.core.ids import InstrumentKey, InstrumentKind, Mode, Segment
from app.core.packets import (
    Disconnect,
    Full,
    OpenInterest,
    Packet,
    PrevClose,
    Quote,
    Ticker,
    Unknown,
    utc_from_ltt,
)
from app.dhan.codec import decode, encode_disconnect, encode_packet, encode_subscribe, encode_unsubscribe, packets
from app.sim.exchange import STEP_S, Exchange, ExchangeConfig
from app.sim.faults import FaultKind, TimedFault, make_fault
from app.sim.line import Delivery, End, Ending
from app.sim.prices import MarketShape
from tests.sim.world import (
    NIFTY,
    NIFTY_FUTURE,
    NOW_S,
    RELIANCE,
    TARGET,
    World,
    big_world,
    oversized_text,
    packets_of,
    small_world,
    subscribe_texts,
)

UNKNOWN = InstrumentKey(Segment.NSE_EQ, 999_999)


class Bench:
    """An exchange, its clock, and what every connection received."""

    def __init__(self, world: World | None = None, config: ExchangeConfig | None = None, **market: float) -> None:
        shape = MarketShape(**market)  # type: ignore[arg-type]
        self.world = world or small_world()
        self.now_s = NOW_S
        self.is_open = True
        self.exchange = Exchange(config or ExchangeConfig(shape), self.world, lambda _segment, _now_s: self.is_open)
        self.got: dict[int, list[bytes]] = {}
        self.ended: dict[int, End] = {}

    def connect(self, target: str = TARGET) -> int:
        admission = self.exchange.admit(target)
        assert admission.status == 101
        number = self.exchange.open(admission, self.now_s)
        self.got[number] = []
        return number

    def say(self, number: int, *texts: str) -> None:
        for text in texts:
            self.exchange.receive(number, text, self.now_s)

    def run(self, seconds: float = STEP_S, blocked: Iterable[int] = ()) -> list[Delivery]:
        deliveries: list[Delivery] = []
        for _ in range(max(1, round(seconds / STEP_S))):
            self.now_s += STEP_S
            for delivery in self.exchange.step(self.now_s, frozenset(blocked)):
                self.got[delivery.connection] += delivery.frames
                if delivery.end is not None:
                    self.ended[delivery.connection] = delivery.end
                deliveries.append(delivery)
        return deliveries

    def packets(self, number: int) -> list[Packet]:
        return packets_of(self.got[number])

    def keys(self, number: int) -> set[InstrumentKey]:
        return {packet.key for packet in self.packets(number) if not isinstance(packet, Disconnect | Unknown)}

    def inject(self, kind: FaultKind, **given: object) -> None:
        self.exchange.inject(make_fault(kind, **given), self.now_s)

    def instruments(self, number: int) -> int:
        connections = self.exchange.stats()["connections"]
        assert isinstance(connections, list)
        return next(line["instruments"] for line in connections if line["number"] == number)


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


# --- faults -----------------------------------------------------------------------------------------------------------


def streaming(**market: float) -> tuple[Bench, int, int]:
    bench = Bench(**market)
    pair = bench.connect(), bench.connect()
    for number in pair:
        bench.say(number, *subscribe_texts([RELIANCE, NIFTY_FUTURE]))
    bench.run(1.0)
    return bench, *pair


def test_mute_stops_the_data_of_one_connection_and_gives_the_newest_after() -> None:
    bench, me, other = streaming()
    bench.inject(FaultKind.MUTE, connection=me, seconds=10)
    heard, elsewhere = len(bench.got[me]), len(bench.got[other])
    bench.run(9.0)
    assert len(bench.got[me]) == heard
    assert len(bench.got[other]) > elsewhere
    bench.run(2.0)
    assert len(bench.got[me]) > heard


def test_mute_can_take_one_segment_only() -> None:
    bench, me, _ = streaming()
    bench.inject(FaultKind.MUTE, segment="NSE_FNO", seconds=10)
    bench.got[me].clear()
    bench.run(9.0)
    assert bench.keys(me) == {RELIANCE}
    bench.run(2.0)
    assert bench.keys(me) == {RELIANCE, NIFTY_FUTURE}


@pytest.mark.parametrize("reason", [800, 805, 806, 807, 808, 809, 810])
def test_a_disconnect_tells_its_reason_and_closes(reason: int) -> None:
    bench, me, other = streaming()
    bench.inject(FaultKind.DISCONNECT, connection=me, value=reason)
    bench.run()
    assert bench.packets(me)[-1] == Disconnect(reason)
    assert set(bench.ended) == {me}
    heard = len(bench.got[other])
    bench.run(2.0)
    assert len(bench.got[other]) > heard


def test_a_cut_says_nothing_at_all() -> None:
    bench, me, _ = streaming()
    bench.got[me].clear()
    bench.inject(FaultKind.CUT, connection=me)
    bench.run()
    assert bench.got[me] == []
    assert bench.ended == {me: End(Ending.RESET)}


def test_expired_tokens_get_807_and_are_refused_a_new_one_is_not() -> None:
    bench, me, other = streaming()
    bench.inject(FaultKind.TOKEN_EXPIRY)
    bench.run()
    assert bench.packets(me)[-1] == bench.packets(other)[-1] == Disconnect(807)
    assert bench.exchange.admit(TARGET).status == 401
    assert bench.exchange.admit(TARGET.replace("secret", "fresh")).status == 101


def test_a_truncated_frame_is_broken_after_its_whole_packets() -> None:
    bench, me, _ = streaming()
    bench.got[me].clear()
    bench.inject(FaultKind.TRUNCATED, connection=me)
    bench.run(2.0)
    read: list[Packet] = []
    with pytest.raises(BadFrame):
        read.extend(packets(bench.got[me][0]))  # extends by what came before the error
    assert read
    assert all(decode(frame) for frame in bench.got[me][1:])


def test_garbage_is_a_frame_of_its_own() -> None:
    bench, me, _ = streaming()
    bench.got[me].clear()
    bench.inject(FaultKind.GARBAGE, connection=me, value=333)
    bench.run()
    assert len(bench.got[me][0]) == 333


def test_an_unknown_code_comes_before_known_packets() -> None:
    bench, me, _ = streaming()
    bench.got[me].clear()
    bench.inject(FaultKind.UNKNOWN_CODE, connection=me, value=77)
    bench.run(2.0)
    strange, *known = decode(bench.got[me][0])
    assert strange == Unknown(77, 20)
    assert known


def test_ignored_subscribes_and_unsubscribes() -> None:
    bench, me, _ = streaming()
    bench.inject(FaultKind.IGNORED_SUBSCRIBE, connection=me, seconds=5)
    bench.inject(FaultKind.GHOST, connection=me, seconds=5)
    bench.say(me, encode_subscribe([NIFTY], Mode.QUOTE), encode_unsubscribe([RELIANCE], Mode.FULL))
    bench.got[me].clear()
    bench.run(3.0)
    assert bench.keys(me) == {RELIANCE, NIFTY_FUTURE}
    assert bench.instruments(me) == 2


def test_stacked_puts_a_step_into_one_frame() -> None:
    bench = Bench(config=ExchangeConfig(frame_bytes=0))
    me = bench.connect()
    bench.inject(FaultKind.STACKED, seconds=60)
    bench.say(me, *subscribe_texts(list(bench.world.listed)))
    bench.run()
    assert len(bench.got[me]) == 1
    assert len(bench.packets(me)) > len(bench.world.listed)  # and the index's previous close


def test_duplicates_come_twice_and_are_counted_twice() -> None:
    bench, me, other = streaming()
    bench.inject(FaultKind.DUPLICATE, connection=me, seconds=60)
    bench.got[me].clear()
    before = bench.exchange.key_stats(RELIANCE)["packets"]
    bench.got[other].clear()
    bench.run(3.0)
    mine = [packet for packet in bench.packets(me) if isinstance(packet, Full) and packet.key == RELIANCE]
    others = [packet for packet in bench.packets(other) if isinstance(packet, Full) and packet.key == RELIANCE]
    assert mine == [packet for packet in others for _ in range(2)]
    assert bench.exchange.key_stats(RELIANCE)["packets"] == before + len(mine) + len(others)  # type: ignore[operator]


@pytest.mark.parametrize("shift", [-19_800, 86_400])
def test_times_can_be_stale_or_in_the_future(shift: int) -> None:
    bench, me, _ = streaming()
    bench.got[me].clear()
    bench.inject(FaultKind.TIME_SHIFT, connection=me, value=shift, seconds=60)
    bench.run(2.0)
    off = [utc_from_ltt(packet.ltt) - bench.now_s for packet in bench.packets(me) if isinstance(packet, Full)]
    assert off
    assert all(shift - 5 < seconds < shift + 1 for seconds in off)


def test_prices_can_be_zero() -> None:
    bench, me, _ = streaming()
    bench.got[me].clear()
    bench.inject(FaultKind.ZERO, connection=me, seconds=60)
    bench.run(2.0)
    assert {packet.ltp for packet in bench.packets(me) if isinstance(packet, Full)} == {0.0}


def test_a_burst_multiplies_the_rate_and_ends() -> None:
    bench, me, _ = streaming()
    bench.run(10.0)
    calm = len(bench.got[me])
    bench.inject(FaultKind.BURST, value=10, seconds=10)
    bench.run(10.0)
    wild = len(bench.got[me]) - calm
    bench.run(10.0)
    assert wild > 3 * calm > 2 * (len(bench.got[me]) - calm - wild)


def test_a_spot_can_jump_and_its_chain_follows() -> None:
    bench = Bench(volatility=0.0)
    me = bench.connect()
    calls = [
        key
        for key, listed in bench.world.listed.items()
        if listed.symbol == "NIFTY" and listed.kind is InstrumentKind.OPTION and listed.option_type == "CE"
    ]
    bench.say(me, *subscribe_texts(calls))
    bench.run(5.0)
    before = {packet.key: packet.ltp for packet in bench.packets(me) if isinstance(packet, Full)}
    bench.inject(FaultKind.JUMP, symbol="NIFTY", value=0.05)
    bench.run(20.0)
    after = {packet.key: packet.ltp for packet in bench.packets(me) if isinstance(packet, Full)}
    assert all(after[key] > before[key] for key in calls)


def test_a_plan_happens_on_time_and_can_be_called_off() -> None:
    cuts = tuple(TimedFault(at_s, make_fault(FaultKind.CUT), pick=0) for at_s in (1.0, 3.0))
    bench = Bench(config=ExchangeConfig(plan=cuts))
    me, other = bench.connect(), bench.connect()
    bench.run(0.9)
    assert not bench.ended
    bench.run(1.0)
    assert set(bench.ended) == {me}
    bench.exchange.heal()
    bench.run(5.0)
    assert set(bench.ended) == {me}
    assert bench.instruments(other) == 0
