"""The simulator on real sockets: handshake, data, pings, refusals, faults and its control port."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from app.core.ids import InstrumentKey, Mode, Segment
from app.core.packets import Disconnect, Full, PrevClose, Quote
from app.dhan.codec import decode, encode_disconnect, encode_subscribe
from app.sim.exchange import ExchangeConfig
from app.sim.faults import FaultKind, make_fault
from app.sim.prices import MarketShape
from app.sim.server import ServerConfig, SimulatorServer, running
from tests.sim.world import NIFTY, RELIANCE, TARGET, World, big_world, small_world, subscribe_texts


class WallClock:
    def now_ms(self) -> int:
        return int(time.time() * 1000)


@pytest.fixture
def world() -> World:
    return small_world()


@pytest.fixture
async def server(world: World) -> AsyncIterator[SimulatorServer]:
    async with running(ServerConfig(exchange=ExchangeConfig(MarketShape(rate=4.0))), world, WallClock()) as server:
        yield server


def client(server: SimulatorServer, target: str = TARGET) -> connect:
    return connect(server.feed_url + target, proxy=None, compression=None, ping_interval=None)


async def frames(socket: ClientConnection, count: int) -> list[bytes]:
    async with asyncio.timeout(10):
        received = [await socket.recv() for _ in range(count)]
    return [frame for frame in received if isinstance(frame, bytes)]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - there is nothing else to wait on
            await asyncio.sleep(0.01)


async def test_a_subscriber_gets_packets_of_what_it_asked_for(server: SimulatorServer) -> None:
    async with client(server) as socket:
        await socket.send(encode_subscribe([RELIANCE], Mode.FULL))
        await socket.send(encode_subscribe([NIFTY], Mode.QUOTE))
        packets = [packet for frame in await frames(socket, 12) for packet in decode(frame)]
    assert {type(packet) for packet in packets} == {Full, Quote, PrevClose}
    assert {packet.key for packet in packets if isinstance(packet, Full)} == {RELIANCE}


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/?version=2&token=&clientId=1&authType=2", 401),
        ("/?version=2&token=t&clientId=1", 400),
        ("/?token=t&clientId=1&authType=2", 400),
        ("/", 400),
    ],
)
async def test_a_bad_handshake_is_refused_with_its_status(server: SimulatorServer, target: str, status: int) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await client(server, target)
    assert refused.value.response.status_code == status


async def test_a_wrong_token_is_401(world: World) -> None:
    config = ServerConfig(exchange=ExchangeConfig(token="right"))
    async with running(config, world, WallClock()) as server:
        with pytest.raises(InvalidStatus) as refused:
            await client(server, TARGET)
        assert refused.value.response.status_code == 401
        async with client(server, TARGET.replace("secret", "right")) as socket:
            await socket.send(encode_subscribe([RELIANCE], Mode.FULL))
            assert await frames(socket, 1)


async def test_the_sixth_connection_drops_the_oldest_with_805(server: SimulatorServer) -> None:
    async with contextlib.AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(client(server)) for _ in range(6)]
        (frame,) = await frames(sockets[0], 1)
        assert decode(frame) == [Disconnect(805)]
        with pytest.raises(ConnectionClosed):
            await sockets[0].recv()
        await sockets[5].send(encode_subscribe([RELIANCE], Mode.FULL))
        assert await frames(sockets[5], 1)
        assert len(server.exchange.stats()["connections"]) == 5  # type: ignore[arg-type]


async def test_a_reset_shows_no_close_frame(server: SimulatorServer) -> None:
    async with client(server) as socket:
        server.exchange.inject(make_fault(FaultKind.CUT), server.now_s())
        with pytest.raises(ConnectionClosed) as ended:
            await asyncio.wait_for(socket.recv(), 10)
        assert ended.value.rcvd is None


async def test_a_close_shows_its_code(server: SimulatorServer) -> None:
    async with client(server) as socket:
        server.exchange.inject(make_fault(FaultKind.CLOSE, value=1013), server.now_s())
        with pytest.raises(ConnectionClosed) as ended:
            await asyncio.wait_for(socket.recv(), 10)
        assert ended.value.rcvd is not None
        assert ended.value.rcvd.code == 1013


async def test_a_goodbye_closes_the_connection(server: SimulatorServer) -> None:
    async with client(server) as socket:
        await socket.send(encode_disconnect())
        await asyncio.wait_for(socket.wait_closed(), 10)
    assert server.exchange.stats()["connections"] == []


async def test_a_refused_handshake_and_a_slow_one(server: SimulatorServer) -> None:
    server.exchange.inject(make_fault(FaultKind.REFUSE, value=429, seconds=60), server.now_s())
    with pytest.raises(InvalidStatus) as refused:
        await client(server)
    assert refused.value.response.status_code == 429
    server.exchange.heal()
    server.exchange.inject(make_fault(FaultKind.SLOW_HANDSHAKE, value=600, seconds=60), server.now_s())
    with pytest.raises(TimeoutError):
        await connect(server.feed_url + TARGET, proxy=None, open_timeout=0.2)


async def test_a_client_that_goes_away_is_forgotten(server: SimulatorServer) -> None:
    socket = await client(server)
    assert len(server.sockets) == 1
    socket.transport.abort()
    await until(lambda: not server.sockets)
    assert server.exchange.stats()["connections"] == []


async def test_a_reader_that_stops_is_owed_the_newest_only() -> None:
    world = big_world(3_000)
    keys = list(world.listed)
    config = ServerConfig(exchange=ExchangeConfig(MarketShape(rate=50.0), connections_max=5))
    async with running(config, world, WallClock()) as server, client(server) as socket:
        for text in subscribe_texts(keys):
            await socket.send(text)
        socket.transport.pause_reading()
        await until(lambda: any(sock.is_blocked for sock in server.sockets))
        stuck = server.exchange.totals["packets"]
        await asyncio.sleep(0.3)
        assert server.exchange.totals["packets"] == stuck
        socket.transport.resume_reading()
        async with asyncio.timeout(30):
            while server.exchange.totals["packets"] == stuck:
                await socket.recv()
        socket.transport.abort()  # a polite close would wait for what is still on its way


async def test_the_control_port_counts_and_injects(server: SimulatorServer) -> None:
    unknown = InstrumentKey(Segment.NSE_EQ, 999_999)
    async with client(server) as socket, httpx.AsyncClient(base_url=server.control_url, trust_env=False) as control:
        before_s = asyncio.get_running_loop().time()
        await socket.send(encode_subscribe([RELIANCE, unknown], Mode.FULL))
        received = await frames(socket, 3)
        after_s = asyncio.get_running_loop().time()
        mute = {"kind": "mute", "seconds": 3600}
        assert (await control.post("/faults", json=[mute])).json() == {"injected": 1}
        with contextlib.suppress(TimeoutError):
            while True:
                received.append(await asyncio.wait_for(socket.recv(), 0.3))  # type: ignore[arg-type]
        stats = (await control.get("/stats", params={"keys": f"{RELIANCE},{unknown}"})).json()
        assert stats["faults"] == ["mute"]
        assert stats["connections"][0]["instruments"] == 2
        assert stats["keys"][str(unknown)]["packets"] == 0
        assert stats["keys"][str(unknown)]["heard_s"] == {}
        (heard_s,) = stats["keys"][str(RELIANCE)]["heard_s"].values()
        assert before_s < heard_s < after_s
        packets = [packet for frame in received for packet in decode(frame)]
        assert stats["keys"][str(RELIANCE)]["packets"] == len(packets) == stats["totals"]["packets"]
        assert decode(bytes.fromhex(stats["keys"][str(RELIANCE)]["last"])) == packets[-1:]
        everything = (await control.get("/stats", params={"keys": "*"})).json()
        assert list(everything["keys"]) == [str(RELIANCE)]
        assert (await control.delete("/faults")).status_code == 200
        assert await frames(socket, 1)


@pytest.mark.parametrize("body", ['{"kind":"nonsense"}', "[1]", "not json", '{"kind":"mute","seconds":"x"}'])
async def test_the_control_port_refuses_what_is_no_fault(server: SimulatorServer, body: str) -> None:
    async with httpx.AsyncClient(base_url=server.control_url, trust_env=False) as control:
        assert (await control.post("/faults", content=body)).status_code == 422
        assert (await control.get("/nothing")).status_code == 404
    assert server.exchange.stats()["faults"] == []
