"""Virtual time and the network in memory: the exchange, picows and websockets run whole days, the same each time."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Coroutine
from typing import Any

import picows
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from app.core.errors import BadFrame
from app.dhan.codec import packets
from app.sim.exchange import ExchangeConfig
from app.sim.faults import plan_faults
from app.sim.loop import Deadlock, SimLoop
from app.sim.prices import MarketShape
from app.sim.server import ServerConfig, SimulatorServer, running
from tests.sim.world import NIFTY, NOW_S, RELIANCE, TARGET, big_world, small_world, subscribe_texts

HOURS = 6
KEYS = [NIFTY, RELIANCE, *small_world().options()[:20]]


def on_virtual_time(seed: int, body: Callable[[SimLoop], Coroutine[Any, Any, Any]]) -> Any:
    with asyncio.Runner(loop_factory=lambda: SimLoop(seed, epoch_s=NOW_S)) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, SimLoop)
        return runner.run(body(loop))


def config(seed: int, hours: float, *, rate: float = 0.02, gap_s: float = 600.0) -> ServerConfig:
    plan = tuple(plan_faults(seed, hours * 3600.0, gap_s))
    market = MarketShape(seed=seed, rate=rate)
    return ServerConfig("exchange", 80, None, ExchangeConfig(market, plan=plan), step_s=2.0)


class Diary:
    """What a client saw, in one number."""

    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop
        self._hash = hashlib.sha256()
        self.frames = self.packets = self.broken = self.connects = 0

    def note(self, frame: bytes) -> None:
        self._hash.update(f"{self._loop.time():.6f}".encode() + frame)
        self.frames += 1
        try:
            for _ in packets(frame):
                self.packets += 1
        except BadFrame:
            self.broken += 1

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()


async def listen_until(loop: SimLoop, end_s: float, diary: Diary) -> None:
    """A plain client: connects, subscribes, and does so again whenever it is thrown out."""
    while loop.time() < end_s:
        try:
            async with asyncio.timeout_at(end_s):
                async with connect(f"ws://exchange:80{TARGET}", proxy=None, compression=None, ping_interval=None) as ws:
                    diary.connects += 1
                    for text in subscribe_texts(KEYS):
                        await ws.send(text)
                    async for message in ws:
                        assert isinstance(message, bytes)
                        diary.note(message)
        except (WebSocketException, OSError, TimeoutError):
            await asyncio.sleep(1.0)


def day(seed: int, hours: float = HOURS) -> tuple[Diary, dict[str, int]]:
    async def body(loop: SimLoop) -> tuple[Diary, dict[str, int]]:
        diary = Diary(loop)
        async with running(config(seed, hours), small_world(), loop) as server:
            await listen_until(loop, hours * 3600.0, diary)
            return diary, dict(server.exchange.totals)

    result: tuple[Diary, dict[str, int]] = on_virtual_time(seed, body)
    return result


def test_six_hours_under_faults_are_the_same_each_time_and_differ_by_seed() -> None:
    first, totals = day(7)
    again, _ = day(7)
    other, _ = day(8, 1.0)
    assert first.digest == again.digest
    assert first.digest != other.digest
    assert first.connects > 5
    assert first.broken > 0
    assert 5_000 < first.packets <= totals["packets"] + totals["frames"]


def test_picows_runs_on_virtual_time() -> None:
    class Listener(picows.WSListener):  # type: ignore[misc]
        def __init__(self) -> None:
            self.packets = self.pings = 0

        def on_ws_connected(self, transport: picows.WSTransport) -> None:
            for text in subscribe_texts(KEYS):
                transport.send(picows.WSMsgType.TEXT, text.encode())

        def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
            if frame.msg_type == picows.WSMsgType.PING:
                self.pings += 1
                transport.send_pong(frame.get_payload_as_bytes())
            elif frame.msg_type == picows.WSMsgType.BINARY:
                self.packets += sum(1 for _ in packets(frame.get_payload_as_bytes()))

    async def body(loop: SimLoop) -> tuple[int, int, int]:
        async with running(config(1, 1.0, gap_s=1e9), small_world(), loop) as server:
            transport, listener = await picows.ws_connect(
                Listener, f"ws://exchange:80{TARGET}", use_aiofastnet=False, enable_auto_pong=False
            )
            assert isinstance(listener, Listener)
            await asyncio.sleep(600.0)
            seen = listener.packets, listener.pings, server.exchange.totals["packets"]
            transport.disconnect(graceful=False)
            await transport.wait_disconnected()
            return seen

    received, pings, sent = on_virtual_time(1, body)
    assert sent >= received > sent - 50
    assert pings in (59, 60)


def test_a_client_that_never_answers_a_ping_is_cut_after_forty_seconds() -> None:
    class Mute(picows.WSListener):  # type: ignore[misc]
        pass

    async def body(loop: SimLoop) -> float:
        async with running(config(1, 1.0, gap_s=1e9), small_world(), loop):
            transport, _ = await picows.ws_connect(
                Mute, f"ws://exchange:80{TARGET}", use_aiofastnet=False, enable_auto_pong=False
            )
            began = loop.time()
            await transport.wait_disconnected()
            return loop.time() - began

    assert 40.0 <= on_virtual_time(1, body) < 43.0


def test_a_reader_that_pauses_gets_every_instrument_newest_only() -> None:
    world = big_world(4_000)

    async def body(loop: SimLoop) -> tuple[int, int, bool]:
        async with (
            running(config(1, 1.0, rate=1.0, gap_s=1e9), world, loop) as server,
            connect(f"ws://exchange:80{TARGET}", proxy=None, compression=None, ping_interval=None) as ws,
        ):
            for text in subscribe_texts(list(world.listed)):
                await ws.send(text)
            ws.transport.pause_reading()
            await asyncio.sleep(20.0)
            stuck = is_stuck(server)
            before = server.exchange.totals["packets"]
            await asyncio.sleep(10.0)
            return before, server.exchange.totals["packets"], stuck

    before, after, stuck = on_virtual_time(1, body)
    assert stuck
    assert before == after


def is_stuck(server: SimulatorServer) -> bool:
    return all(sock.is_blocked for sock in server.sockets)


def test_a_loop_with_nothing_left_to_happen_says_so() -> None:
    async def body(_loop: SimLoop) -> None:
        await asyncio.Event().wait()

    loop = SimLoop(1)
    try:
        with pytest.raises(Deadlock):
            loop.run_until_complete(body(loop))
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


def test_nobody_listening_refuses() -> None:
    async def body(_loop: SimLoop) -> None:
        await connect("ws://nobody:1", proxy=None)

    with pytest.raises(ConnectionRefusedError):
        on_virtual_time(1, body)


def test_what_is_written_at_one_moment_arrives_in_the_order_of_writing() -> None:
    class Reader(asyncio.Protocol):
        def __init__(self) -> None:
            self.read = b""

        def data_received(self, data: bytes) -> None:
            self.read += data

    sent = bytes(range(200))

    async def body(loop: SimLoop) -> bytes:
        reader = Reader()
        await loop.create_server(lambda: reader, "exchange", 80)
        transport, _ = await loop.create_connection(asyncio.Protocol, "exchange", 80)
        for byte in sent:
            transport.write(bytes([byte]))
        await asyncio.sleep(1.0)
        transport.abort()
        await asyncio.sleep(1.0)
        return reader.read

    assert on_virtual_time(1, body) == sent
