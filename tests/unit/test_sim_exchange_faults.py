"""Faults that the simulated exchange makes when told to, checked on the bytes it sends."""

from __future__ import annotations

import pytest

from app.core.errors import BadFrame
from app.core.ids import InstrumentKind, Mode
from app.core.packets import (
    Disconnect,
    Full,
    Packet,
    Unknown,
    utc_from_ltt,
)
from app.dhan.codec import decode, encode_subscribe, encode_unsubscribe, packets
from app.sim.exchange import ExchangeConfig
from app.sim.faults import FaultKind, TimedFault, make_fault
from app.sim.line import End, Ending
from tests.sim.world import (
    NIFTY,
    NIFTY_FUTURE,
    RELIANCE,
    TARGET,
    subscribe_texts,
)
from tests.unit.exchange_bench import Bench


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
