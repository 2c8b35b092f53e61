"""What the pool does about silence, in virtual time: keys that are not heard, sockets that fall mute."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

from app.core.ids import InstrumentKey, InstrumentKind, Segment
from app.core.rows import Has
from app.ports.feed import FeedClosed
from app.sim.loop import SimLoop
from tests.tiny_market import share
from tests.unit.venue import LIMITS, QUIET_POLICY, running, virtually


class TestUnheard:
    """Dhan may ignore a subscribe without a word: what stays silent is asked for again, now and then."""

    def test_an_ignored_subscribe_is_repeated_after_a_minute(self) -> None:
        async def body(loop: SimLoop) -> None:
            async with running(loop) as rig:
                rig.venue.ignored = {7, 8}
                rig.carry(range(1, 31))
                await rig.ticks(50)
                assert len(rig.on_wire) == 28
                rig.venue.ignored = set()
                await rig.ticks(20)
                assert len(rig.on_wire) == 30
                assert rig.wire.asked_again == 2
                slots = [rig.board.slot(share(number).key) for number in (7, 9)]
                assert [int(rig.wire.repeats[slot]) for slot in slots] == [1, 0]
                assert rig.wire.asked_ms[slots[0]] > rig.wire.sent_ms[slots[0]] > 0

        virtually(body)

    def test_what_never_trades_costs_little(self) -> None:
        async def body(loop: SimLoop) -> None:
            async with running(loop) as rig:
                rig.venue.ignored = {7}
                rig.carry(range(1, 31))
                await rig.ticks(4 * 3_600)
                (asked,) = [each for socket in rig.venue.sockets.values() if (each := socket.asked.count(share(7).key))]
                assert asked == 1 + 3 + 6  # 60, 300 and 1500 s after the last time, then every half hour
                assert sum(len(socket.asked) for socket in rig.venue.sockets.values()) == 29 + asked

        virtually(body)

    def test_what_was_lively_is_asked_for_sooner(self) -> None:
        async def body(loop: SimLoop) -> None:
            async with running(loop) as rig:
                rig.carry(range(1, 31))
                await rig.ticks(10)
                rig.venue.ignored = {number for number in range(1, 31) if number % 3 == 0 and number != 3}
                rig.venue.sockets[2].end(FeedClosed("reset"))
                await rig.ticks(5)
                assert len(rig.on_wire) == 21
                rig.venue.ignored = set()
                await rig.ticks(18)
                assert len(rig.on_wire) == 30

        virtually(body)

    def test_an_index_without_its_previous_close_is_asked_for_each_morning(self) -> None:
        """It comes after a subscribe only: a socket that lasts over night would never tell today's."""

        async def body(loop: SimLoop) -> None:
            async with running(loop) as rig:
                index = replace(share(1), key=InstrumentKey(Segment.IDX_I, 13), kind=InstrumentKind.INDEX)
                rig.wire.carry(index)
                slot = rig.board.slot(index.key)
                has = rig.board.buffers.table["has"]

                def asked() -> int:
                    return sum(socket.asked.count(index.key) for socket in rig.venue.sockets.values())

                has[slot] = Has.TICKER | Has.QUOTE | Has.PREV_CLOSE
                await rig.ticks(120)
                assert asked() == 1
                for morning in (1, 2, 3, 4):
                    rig.board.new_session(Segment.IDX_I, None)
                    await rig.ticks(25)
                    assert asked() == 1 + morning
                    has[slot] |= Has.PREV_CLOSE
                    await rig.ticks(600)
                    assert asked() == 1 + morning

        virtually(body)

    def test_a_move_into_an_ignored_subscribe_is_not_taken_for_heard(self) -> None:
        """Until the move ends the old connection sends: that says nothing of the new one."""

        async def body(loop: SimLoop) -> None:
            async with running(loop) as rig:
                rig.carry(range(1, 31))
                await rig.ticks(10)
                for number in range(1, 25, 3):
                    rig.wire.uncarry(share(number).key)
                await rig.ticks(1)
                rig.venue.ignored = set(range(1, 31))
                moved = len(rig.wire.rebalance())
                await rig.ticks(8)
                assert rig.wire.is_settled
                assert len(rig.on_wire) == 22 - moved < 22
                rig.venue.ignored = set()
                await rig.ticks(60)
                assert len(rig.on_wire) == 22

        virtually(body)

    def test_never_more_than_a_message_at_a_time(self) -> None:
        async def body(loop: SimLoop) -> None:
            async with running(loop) as rig:
                rig.venue.ignored = set(range(1, 118))
                rig.carry(range(1, 121))
                await rig.ticks(60)
                assert rig.wire.asked_again == 0
                await rig.ticks(9)
                assert 0 < rig.wire.asked_again <= 2 * 3 * LIMITS.instruments_per_message
                await rig.ticks(30)
                assert rig.wire.asked_again == 117
                assert all(len(socket.asked) == 79 for socket in rig.venue.sockets.values())

        virtually(body)

    def test_out_of_session_and_with_nothing_alive_nobody_is_asked_again(self) -> None:
        async def body(loop: SimLoop) -> None:
            for is_open, seconds in ((False, 3_600), (True, 40)):
                async with running(loop, is_open=is_open) as rig:
                    rig.venue.ignored = {7}
                    rig.carry(range(1, 31))
                    await rig.ticks(seconds)
                    await asyncio.sleep(10 if is_open else 3_600)
                    assert rig.wire.asked_again == 0

        virtually(body)


class TestWatchdog:
    def test_a_mute_socket_is_replaced_although_it_stays_open(self) -> None:
        async def body(loop: SimLoop) -> None:
            async with running(loop) as rig:
                rig.carry(range(1, 31))
                await rig.ticks(20)
                opened = len(rig.venue.attempts)
                await rig.ticks(14, only={0, 1})
                assert len(rig.venue.attempts) == opened
                await rig.ticks(4, only={0, 1})
                assert len(rig.venue.attempts) == opened + 1
                assert rig.wire.lost_ms[2] > 0
                status = rig.wire.get_status()["per_connection"]
                assert isinstance(status, dict)
                assert "no data for 15 s" in status["ws_3"]["last_error"]

        virtually(body)

    def test_a_mute_socket_is_noticed_after_the_clock_was_set_back_by_hours(self) -> None:
        async def body(loop: SimLoop) -> None:
            async with running(loop) as rig:
                rig.carry(range(1, 31))
                await rig.ticks(20)
                rig.clock.set_by = timedelta(hours=-2)
                opened = len(rig.venue.attempts)
                await rig.ticks(19, only={0, 1})
                assert len(rig.venue.attempts) == opened + 1
                assert 0 <= rig.clock.now_ms() - rig.wire.lost_ms[2] < 5_000
                await rig.ticks(3)
                latest = rig.board.buffers.table["last_ms"].max(), rig.wire.sent_ms.max(), max(rig.wire.lost_ms)
                assert max(latest) <= rig.clock.now_ms()

        virtually(body)

    def test_out_of_session_silence_is_no_fault(self) -> None:
        async def body(loop: SimLoop) -> None:
            async with running(loop, is_open=False) as rig:
                rig.carry(range(1, 31))
                await rig.ticks(5)
                await asyncio.sleep(3_600)
                assert len(rig.venue.attempts) == 3

        virtually(body)

    def test_what_never_was_live_may_stay_silent(self) -> None:
        async def body(loop: SimLoop) -> None:
            async with running(loop) as rig:
                rig.carry(range(1, 31))
                await asyncio.sleep(3_600)
                assert len(rig.venue.attempts) == 3

        virtually(body)

    def test_a_socket_mute_from_the_start_is_tried_anew_a_few_times_only(self) -> None:
        async def body(loop: SimLoop) -> None:
            async with running(loop) as rig:
                rig.carry(range(1, 31))
                await rig.ticks(900, only={0, 1})
                assert len(rig.venue.waits(2)) == QUIET_POLICY.mute_recycles_max

        virtually(body)
