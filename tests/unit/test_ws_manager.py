"""The pool of connections in virtual time: resubscription, every retry policy, hand-over, moves and ghosts."""

from __future__ import annotations

import asyncio
import random

import pytest

from app.core.ids import InstrumentKey
from app.market.carried import Precedence
from app.market.feed_gauge import LATE_LOOKS, WINDOW_LOOKS
from app.market.live_prices import LivePrices
from app.market.ws_manager import PoolHooks, PoolPolicy, WebSocketManager
from app.ports.feed import LAG_BUCKET_MS, FeedClosed, Retry
from app.sim.loop import SimLoop
from tests.tiny_market import MORNING, share
from tests.unit.venue import LIMITS, LoopClock, OpenOrShut, Rig, running, virtually


def test_the_status_tells_how_fast_data_comes_and_how_late() -> None:
    async def body(loop: SimLoop) -> None:
        async with running(loop) as rig:
            buffers = rig.board.buffers
            for _ in range(5):
                buffers.counters[1].packets += 40
                buffers.lag_table[1, 30] += 1
                await asyncio.sleep(1)
            lines = rig.wire.get_status()["per_connection"]
            assert isinstance(lines, dict)
            told = [[lines[name][field] for field in ("packets_per_s", "lag_p50_ms", "lag_p99_ms")] for name in lines]
            assert told[0] == told[2] == [0.0, None, None]
            assert told[1][0] == pytest.approx(40, rel=0.25)  # the first look was when the pool was made
            assert told[1][1:] == [30.5 * LAG_BUCKET_MS] * 2

    virtually(body)


def test_a_late_connection_is_told_with_its_lag_and_not_while_nothing_comes_on_it() -> None:
    async def body(loop: SimLoop) -> None:
        async with running(loop) as rig:
            for _ in range(WINDOW_LOOKS + LATE_LOOKS):
                rig.board.buffers.lag_table[1, 600] += 1
                await asyncio.sleep(1)
            assert rig.wire.late_ms == {2: 600.5 * LAG_BUCKET_MS}
            await asyncio.sleep(WINDOW_LOOKS + 2)
            assert rig.wire.late_ms == {}

    virtually(body)


def test_all_sockets_open_and_everything_is_sent_in_batches_spread_evenly() -> None:
    async def body(loop: SimLoop) -> None:
        async with running(loop) as rig:
            rig.carry(range(1, 100))
            await asyncio.sleep(1)
            assert sorted(key.security_id for key in rig.on_wire) == list(range(1, 100))
            assert {len(socket.keys) for socket in rig.venue.sockets.values()} == {33}
            assert rig.wire.connected == 3
            assert rig.wire.is_settled
            assert rig.wire.ws_usage() == {1: 33, 2: 33, 3: 33}

    virtually(body)


def test_a_cut_marks_a_gap_and_everything_is_sent_again() -> None:
    async def body(loop: SimLoop) -> None:
        async with running(loop) as rig:
            rig.carry(range(1, 31))
            await rig.ticks(3)
            before = set(rig.venue.sockets[1].keys)
            lost_key = next(iter(before))
            slot = rig.board.slot(lost_key)
            assert slot is not None
            cut_ms = rig.clock.now_ms()
            rig.venue.sockets[1].end(FeedClosed("reset"))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert rig.wire.lost_ms[1] == rig.wire.slot_lost_ms[slot] == cut_ms
            await asyncio.sleep(1)
            assert set(rig.venue.sockets[1].keys) == before
            assert rig.wire.sent_ms[slot] > cut_ms
            assert [event.data["state"] for event in rig.told if event.data["ws_id"] == 2] == [
                "starting",
                "up",
                "down",
                "up",
            ]

    virtually(body)


def test_backoff_doubles_with_jitter_and_forgets_after_a_healthy_minute() -> None:
    async def body(loop: SimLoop) -> None:
        async with running(loop) as rig:
            rig.venue.refusals[0] = [FeedClosed("no") for _ in range(12)]
            rig.venue.sockets[0].end(FeedClosed("reset"))
            await asyncio.sleep(600)
            waits = rig.venue.waits(0)
            assert len(waits) == 13
            ceilings = [min(30.0, 0.25 * 2.0**attempt) for attempt in range(13)]
            assert all(wait <= ceiling + 1.1 for wait, ceiling in zip(waits, ceilings, strict=True))
            assert max(waits) > 5
            assert rig.state(1) == "up"
            rig.venue.sockets[0].end(FeedClosed("reset"))  # after more than a minute of health
            await asyncio.sleep(2)
            assert rig.state(1) == "up"

    virtually(body)


def test_805_means_one_socket_fewer_for_a_minute_and_its_keys_find_room() -> None:
    async def body(loop: SimLoop) -> None:
        async with running(loop) as rig:
            rig.carry(range(1, 61))
            await rig.ticks(2)
            rig.venue.sockets[2].end(FeedClosed("805", code=805, retry=Retry.FEWER_SOCKETS, min_delay_s=60))
            await rig.ticks(5)
            assert rig.state(3) == "fewer_sockets"
            assert sorted(key.security_id for key in rig.on_wire) == list(range(1, 61))
            assert rig.wire.ws_usage() == {1: 30, 2: 30, 3: 0}
            await rig.ticks(50)
            assert 2 not in rig.venue.sockets
            await rig.ticks(30)
            assert rig.state(3) == "up"
            assert rig.wire.ws_usage() == {1: 20, 2: 20, 3: 20}
            assert sorted(key.security_id for key in rig.on_wire) == list(range(1, 61))

    virtually(body)


def test_805_again_doubles_the_wait() -> None:
    async def body(loop: SimLoop) -> None:
        async with running(loop) as rig:
            refusal = FeedClosed("805", code=805, retry=Retry.FEWER_SOCKETS, min_delay_s=60)
            rig.venue.refusals[2] = [refusal] * 3
            rig.venue.sockets[2].end(refusal)
            await asyncio.sleep(1_300)
            waits = rig.venue.waits(2)[1:]
            assert [round(wait / 60) for wait in waits[:3]] == [2, 4, 8]

    virtually(body)


def test_without_room_vital_keys_keep_their_place() -> None:
    class Wishes:
        total = 100

        def precedence(self, key: InstrumentKey) -> Precedence:
            if key.security_id > 60:
                return Precedence.ALWAYS_ON
            return Precedence.ON_SCREEN if key.security_id > 40 else Precedence.OTHER

        def subscribe(self, token: str) -> tuple[bool, str, int | None]:
            return True, token, 2

        def unsubscribe(self, token: str) -> tuple[bool, str]:
            return False, token

    async def body(loop: SimLoop) -> None:
        async with running(loop) as rig:
            rig.wire.bind(Wishes())
            rig.carry(range(1, 101))
            await rig.ticks(2)
            rig.venue.sockets[0].end(FeedClosed("805", code=805, retry=Retry.FEWER_SOCKETS, min_delay_s=60))
            await rig.ticks(3)
            on_wire = {key.security_id for key in rig.on_wire}
            assert len(on_wire) == 80
            assert on_wire >= set(range(41, 101))
            await rig.ticks(90)
            assert {key.security_id for key in rig.on_wire} == set(range(1, 101))
            assert rig.wire.add_instrument("X_EQ") == 2
            assert rig.wire.remove_instrument("X_EQ") is False

    virtually(body)


def test_806_is_asked_again_every_five_minutes() -> None:
    async def body(loop: SimLoop) -> None:
        async with running(loop) as rig:
            rig.venue.refusals[0] = [FeedClosed("806", code=806, retry=Retry.SLOWLY)] * 2
            rig.venue.sockets[0].end(FeedClosed("reset"))
            await asyncio.sleep(650)
            assert [round(wait / 10) for wait in rig.venue.waits(0)[1:]] == [30, 30]
            assert rig.state(1) == "up"

    virtually(body)


def test_a_dead_token_is_renewed_once_for_all_sockets_then_waited_for() -> None:
    minted: list[float] = []

    async def body(loop: SimLoop) -> None:
        async def renew() -> bool:
            minted.append(loop.time())
            await asyncio.sleep(0.5)
            return True

        dead = FeedClosed("807", code=807, retry=Retry.NEW_TOKEN)
        async with running(loop, renew_token=renew) as rig:
            for index in range(3):
                rig.venue.refusals[index] = [dead]
                rig.venue.sockets[index].end(dead)
            await asyncio.sleep(20)
            assert len(minted) == 1
            assert {rig.state(ws_id) for ws_id in (1, 2, 3)} == {"waiting_for_token"}
            attempts = len(rig.venue.attempts)
            await asyncio.sleep(3_600)
            assert len(rig.venue.attempts) == attempts
            rig.wire.credentials_renewed()
            await asyncio.sleep(5)
            assert rig.wire.connected == 3

    virtually(body)


def test_810_stops_until_there_are_other_credentials() -> None:
    async def body(loop: SimLoop) -> None:
        async with running(loop) as rig:
            rig.venue.sockets[0].end(FeedClosed("810", code=810, retry=Retry.STOP))
            await asyncio.sleep(3_600)
            assert rig.state(1) == "stopped"
            assert len(rig.venue.waits(0)) == 0
            assert any(event.data["state"] == "stopped" for event in rig.told)
            rig.wire.credentials_renewed()
            await asyncio.sleep(1)
            assert rig.state(1) == "up"

    virtually(body)


def test_429_holds_every_socket_back_doubling_and_is_remembered() -> None:
    remembered: list[int] = []

    async def body(loop: SimLoop) -> None:
        async with running(loop, remember_cooldown=remembered.append) as rig:
            refused = FeedClosed("429", code=429, retry=Retry.RATE_LIMITED, min_delay_s=60)
            for index in range(3):
                rig.venue.refusals[index] = [refused] * 2
                rig.venue.sockets[index].end(refused)
            start_ms = rig.clock.now_ms()
            await asyncio.sleep(40)
            assert not rig.venue.sockets
            assert {rig.state(ws_id) for ws_id in (1, 2, 3)} == {"rate_limited"}
            await asyncio.sleep(600)
            assert rig.wire.connected == 3
            assert [round((until - start_ms) / 1000) for until in remembered] == [60, 180, 420]

    virtually(body)


def test_a_remembered_cooldown_is_kept_after_a_restart() -> None:
    async def body(loop: SimLoop) -> None:
        until_ms = int(MORNING.timestamp() * 1000) + 90_000
        async with running(loop, cooldown_until_ms=until_ms) as rig:
            await asyncio.sleep(80)
            assert rig.venue.attempts == []
            await asyncio.sleep(12)
            assert rig.wire.connected == 3

    virtually(body)


class TestHandOver:
    """What a connection carried goes to the others when it stays away, and comes back when it does."""

    @pytest.mark.parametrize(
        ("code", "retry"),
        [(806, Retry.SLOWLY), (810, Retry.STOP), (429, Retry.RATE_LIMITED), (805, Retry.FEWER_SOCKETS)],
    )
    def test_what_is_known_to_last_is_handed_over_at_once(self, code: int, retry: Retry) -> None:
        async def body(loop: SimLoop) -> None:
            async with running(loop) as rig:
                rig.carry(range(1, 61))
                await rig.ticks(2)
                rig.venue.sockets[2].end(FeedClosed(str(code), code=code, retry=retry))
                await rig.ticks(2)
                assert sorted(key.security_id for key in rig.on_wire) == list(range(1, 61))
                assert rig.wire.ws_usage() == {1: 30, 2: 30, 3: 0}
                if retry is Retry.STOP:
                    rig.wire.credentials_renewed()
                await rig.ticks(400)
                assert rig.wire.ws_usage() == {1: 20, 2: 20, 3: 20}
                assert sorted(key.security_id for key in rig.on_wire) == list(range(1, 61))

        virtually(body)

    def test_a_short_cut_moves_nothing_and_a_long_one_does(self) -> None:
        async def body(loop: SimLoop) -> None:
            async with running(loop) as rig:
                rig.carry(range(1, 61))
                await rig.ticks(2)
                rig.venue.refusals[1] = [FeedClosed("no")] * 100
                rig.venue.sockets[1].end(FeedClosed("reset"))
                await rig.ticks(14)
                assert rig.wire.ws_usage() == {1: 20, 2: 20, 3: 20}
                await rig.ticks(4)
                assert rig.wire.ws_usage() == {1: 30, 2: 0, 3: 30}
                assert sorted(key.security_id for key in rig.on_wire) == list(range(1, 61))

        virtually(body)

    def test_waiting_for_a_token_hands_over_while_others_are_up(self) -> None:
        async def body(loop: SimLoop) -> None:
            async with running(loop) as rig:
                rig.carry(range(1, 61))
                await rig.ticks(2)
                rig.venue.sockets[0].end(FeedClosed("807", code=807, retry=Retry.NEW_TOKEN))
                await rig.ticks(18)
                assert rig.state(1) == "waiting_for_token"
                assert rig.wire.ws_usage() == {1: 0, 2: 30, 3: 30}

        virtually(body)

    def test_with_all_away_nothing_moves_until_one_is_back(self) -> None:
        async def body(loop: SimLoop) -> None:
            async with running(loop) as rig:
                rig.carry(range(1, 61))
                await rig.ticks(2)
                rig.venue.refusals[0] = [FeedClosed("no")] * 1
                for index in (1, 2):
                    rig.venue.refusals[index] = [FeedClosed("no")] * 100
                for index in range(3):
                    rig.venue.sockets[index].end(FeedClosed("806", code=806, retry=Retry.SLOWLY))
                await asyncio.sleep(200)
                assert rig.wire.ws_usage() == {1: 20, 2: 20, 3: 20}
                await rig.ticks(130)
                assert rig.wire.ws_usage() == {1: 40, 2: 0, 3: 0}
                assert len(rig.on_wire) == 40

        virtually(body)

    def test_what_is_live_elsewhere_comes_back_only_to_a_connection_that_lasts(self) -> None:
        async def body(loop: SimLoop) -> None:
            async with running(loop) as rig:
                rig.carry(range(1, 61))
                await rig.ticks(2)
                refusal = FeedClosed("806", code=806, retry=Retry.SLOWLY)
                rig.venue.sockets[2].end(refusal)
                await rig.ticks(290)
                while 2 not in rig.venue.sockets:
                    await rig.ticks(1)
                await rig.ticks(2)
                rig.venue.sockets[2].end(refusal)
                await rig.ticks(3)
                assert all(len(socket.messages) <= 6 for socket in rig.venue.sockets.values())
                assert rig.wire.ws_usage() == {1: 30, 2: 30, 3: 0}

        virtually(body)


async def lopsided(rig: Rig, number: int, even: int = 0) -> None:
    """So many instruments, of which beyond the first ``even`` only those of the third connection stay."""
    rig.carry(range(1, number + 1))
    await rig.ticks(2)
    for each in range(even + 1, number + 1):
        if each % 3:
            rig.wire.uncarry(share(each).key)
    await rig.ticks(2)


class TestRebalance:
    def test_it_levels_make_before_break_without_losing_a_packet(self) -> None:
        async def body(loop: SimLoop) -> None:
            async with running(loop) as rig:
                await lopsided(rig, 60, even=6)
                assert sorted(rig.wire.ws_usage().values()) == [2, 2, 20]
                moves = rig.wire.rebalance()
                assert len(moves) == 12
                for _ in range(10):
                    await asyncio.sleep(0.1)
                    rig.tick()
                    rig.wire.reconcile()
                    live = {
                        key
                        for key in {*rig.on_wire}
                        if rig.board.buffers.table[rig.board.slot(key)]["last_ms"] == rig.clock.now_ms()
                    }
                    assert len(live) == 24
                assert rig.wire.ws_usage() == {1: 8, 2: 8, 3: 8}
                assert len(rig.on_wire) == len(set(rig.on_wire)) == 24
                assert rig.wire.is_settled
                assert rig.wire.rebalance() == []

        virtually(body)

    def test_keys_sent_back_before_their_old_connection_let_go_stay_subscribed(self) -> None:
        async def body(loop: SimLoop) -> None:
            async with running(loop) as rig:
                await lopsided(rig, 30)
                away = {move.key for move in rig.wire.rebalance()}
                assert len(away) == 6
                await asyncio.sleep(0.1)
                rig.tick()
                rig.wire.reconcile()  # the old connection has not been told yet
                for key in [*rig.on_wire]:
                    if key not in away:
                        rig.wire.uncarry(key)
                rig.wire.rebalance()
                await rig.ticks(8)
                assert rig.wire.is_settled
                assert sorted(rig.on_wire) == sorted(away)

        virtually(body)

    def test_silent_instruments_move_after_a_while(self) -> None:
        async def body(loop: SimLoop) -> None:
            async with running(loop) as rig:
                rig.carry(range(1, 31))
                await asyncio.sleep(1)
                for number in range(1, 31, 3):
                    rig.wire.uncarry(share(number).key)
                rig.wire.rebalance()
                await asyncio.sleep(1)
                rig.wire.reconcile()
                assert not rig.wire.is_settled
                await asyncio.sleep(6)
                rig.wire.reconcile()
                await asyncio.sleep(1)
                assert rig.wire.is_settled
                assert len(rig.on_wire) == 20

        virtually(body)


@pytest.mark.parametrize("ignores", [True, False])
def test_a_socket_full_of_ghosts_is_replaced_in_a_quiet_moment(ignores: bool) -> None:
    async def body(loop: SimLoop) -> None:
        async with running(loop) as rig:
            rig.venue.ignores_unsubscribe = ignores
            rig.carry(range(1, 121))
            await rig.ticks(2)
            rig.wire.uncarry(share(1).key)
            await rig.ticks(20)
            assert len(rig.venue.attempts) == 3  # a ghost, but the socket has room for it
            rig.wire.carry(share(500))
            await rig.ticks(20)
            assert len(rig.venue.waits(0)) == (1 if ignores else 0)
            assert len(rig.venue.sockets[0].keys) == 40
            assert rig.venue.sockets[0].ghosts == []
            await rig.ticks(400)
            assert len(rig.venue.waits(0)) == (1 if ignores else 0)

    virtually(body)


def test_without_a_feed_nothing_is_opened() -> None:
    async def body(loop: SimLoop) -> None:
        clock = LoopClock(loop)
        wire = WebSocketManager(
            LivePrices(10, 3), None, LIMITS, OpenOrShut(True), clock, random.Random(1),
            policy=PoolPolicy(), hooks=PoolHooks(),
        )  # fmt: skip
        assert wire.carry(share(1)) == 1
        await wire.run()
        status = wire.get_status()
        assert status["connected_connections"] == 0
        per_connection = status["per_connection"]
        assert isinstance(per_connection, dict)
        assert {each["state"] for each in per_connection.values()} == {"off"}

    virtually(body)
