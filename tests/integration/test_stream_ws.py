"""The stream over a real server and a real WebSocket client: protocol, rights, hostile input, clients that stall.

Over both ways out: frames written into the server's transport, and ASGI messages where the transport is out of reach.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import socket
import time
import weakref
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import datetime
from typing import Any

import pytest
import uvicorn
from starlette.routing import WebSocketRoute
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from app.main import Terminal
from app.market.events import Event
from app.ports.store import Role
from app.rest import limits
from app.rest.auth import Authenticator, AuthMode
from app.rest.stream_ws import BINARY_PROTOCOL, StreamEndpoint, StreamSettings
from app.storage.memory_store import MemoryStore
from tests.binary_frames import read_frame
from tests.stream_world import IST, RELIANCE, Mirror, World

QUOTE = "quotes:RELIANCE_EQ"
CHAIN = "chain:NIFTY:26FEB2026"


class WallClock:
    def now_ms(self) -> int:
        return int(time.time() * 1000)

    def now(self) -> datetime:
        return datetime.fromtimestamp(time.time(), IST)

    def monotonic(self) -> float:
        return time.monotonic()


class Service:
    """One uvicorn with the stream in it, on a free port."""

    def __init__(self, mode: AuthMode = "auto", *, hides_transport: bool = False, **settings: Any) -> None:
        self.world = World(clock=WallClock())
        self.store = MemoryStore(self.world.clock)
        self.authenticator = Authenticator(self.store, self.world.clock, "x" * 40, mode)
        self.endpoint = StreamEndpoint(
            self.world.hub, self.authenticator, self.world.clock, StreamSettings(**settings)
        )  # fmt: skip
        self.served = BehindWrapper(self.endpoint) if hides_transport else self.endpoint
        self.port = 0

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/api/v2/stream"

    async def __aenter__(self) -> Service:
        await self.store.start()
        await self.world.bus.start()
        self.world.start()
        self.world.books.subscribe(RELIANCE)
        self.world.tick(RELIANCE, 2641.5)
        listening = socket.create_server(("127.0.0.1", 0))
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)  # where the stream cannot cap it
        self.port = listening.getsockname()[1]
        whole = Terminal()
        whole.router.routes.append(WebSocketRoute("/api/v2/stream", self.served))
        config = uvicorn.Config(
            whole, lifespan="off", log_level="critical", ws_per_message_deflate=False, ws_ping_interval=None
        )
        self._server = uvicorn.Server(config)
        self._serving = asyncio.create_task(self._server.serve([listening]))
        self._rounds = [
            asyncio.create_task(endless) for endless in (self.world.publisher.run(), self.world.hub.run())
        ]  # fmt: skip
        for _ in range(500):
            if self._server.started:
                break
            await asyncio.sleep(0.01)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.should_exit = True
        await self._serving
        for endless in self._rounds:
            endless.cancel()
        ended = await asyncio.gather(*self._rounds, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in ended), ended

    async def token(self, name: str, role: Role) -> str:
        user = await self.store.add_user(name, role, "")
        return (await self.authenticator.sessions.open(user, "test")).access_token


class BehindWrapper:
    """As under a server, or a middleware, whose ``send`` tells nothing of its transport."""

    def __init__(self, app: StreamEndpoint) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def send_on(message: Any) -> None:
            await send(message)

        await self._app(scope, receive, send_on)


BOTH_WAYS = pytest.mark.parametrize("hides_transport", [False, True], ids=["transport", "asgi"])


@pytest.fixture(params=[False, True], ids=["transport", "asgi"])
async def service(request: pytest.FixtureRequest) -> AsyncIterator[Service]:
    async with Service(hides_transport=request.param) as started:
        yield started


async def say(socket: ClientConnection, **message: Any) -> None:
    await socket.send(json.dumps(message))


async def hear(socket: ClientConnection) -> dict[str, Any]:
    message = json.loads(await asyncio.wait_for(socket.recv(), 10))
    assert isinstance(message, dict)
    return message


async def hear_until(socket: ClientConnection, **wanted: Any) -> dict[str, Any]:
    while True:
        message = await hear(socket)
        if all(message.get(name) == value for name, value in wanted.items()):
            return message


async def test_snapshot_comes_first_and_deltas_follow_by_one(service: Service) -> None:
    async with connect(service.url) as client:
        await say(client, op="subscribe", topics=[QUOTE], max_rate_hz=10)
        first = await hear(client)
        assert (first["type"], first["topic"]) == ("snapshot", QUOTE)
        assert first["data"]["rows"]["RELIANCE_EQ"]["ltp"] == 2641.5
        mirror = Mirror()
        mirror.take(first)
        for place in range(5):
            service.world.tick(RELIANCE, 2650.0 + place)
            delta = await hear(client)
            assert delta["seq"] == mirror.seq + 1
            mirror.take(delta)
        assert mirror.data["rows"]["RELIANCE_EQ"]["ltp"] == 2654.0


async def test_ping_unsubscribe_and_silence(service: Service) -> None:
    async with connect(service.url) as client:
        await say(client, op="ping")
        assert (await hear(client))["type"] == "pong"
        await say(client, op="subscribe", topics=[QUOTE])
        await hear(client)
        await say(client, op="unsubscribe", topics=[QUOTE])
        assert (await hear_until(client, type="unsubscribed"))["topics"] == [QUOTE]
        service.world.tick(RELIANCE, 2700.0)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(client.recv(), 0.4)


async def test_resume_over_a_new_connection(service: Service) -> None:
    async with connect(service.url) as client:
        await say(client, op="subscribe", topics=[QUOTE], max_rate_hz=10)
        seq = (await hear(client))["seq"]
    service.world.tick(RELIANCE, 2660.0)
    await asyncio.sleep(0.3)
    async with connect(service.url) as client:
        await say(client, op="resume", topic=QUOTE, seq=seq)
        missed = await hear(client)
        assert (missed["type"], missed["seq"]) == ("delta", seq + 1)
        await say(client, op="resume", topic=QUOTE, seq=12345)
        assert (await hear_until(client, type="snapshot"))["data"]["rows"]["RELIANCE_EQ"]["ltp"] == 2660.0


async def test_binary_columns_by_subprotocol(service: Service) -> None:
    async with connect(service.url, subprotocols=[Subprotocol(BINARY_PROTOCOL)]) as client:
        assert client.subprotocol == BINARY_PROTOCOL
        await say(client, op="subscribe", topics=[QUOTE, "depth:RELIANCE_EQ"], max_rate_hz=10)
        dictionary = await hear(client)
        assert dictionary["type"] == "dictionary"
        raw = await client.recv()
        assert isinstance(raw, bytes)
        frame = read_frame(raw, dictionary)
        assert frame.is_snapshot
        assert frame.rows["RELIANCE_EQ"]["ltp"] == 2641.5
        assert frame.rows["RELIANCE_EQ"]["state"] == "LIVE"
        assert (await hear_until(client, topic="depth:RELIANCE_EQ"))["type"] == "snapshot"


async def test_without_the_subprotocol_there_is_none(service: Service) -> None:
    async with connect(service.url, subprotocols=[Subprotocol("other.v1")]) as client:
        assert client.subprotocol is None
        await say(client, op="subscribe", topics=["status"])
        assert (await hear(client))["data"]["subscriptions"] == {"total_subscriptions": 0}


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ("not json", "BAD_MESSAGE"),
        ("[1,2]", "BAD_MESSAGE"),
        ("", "BAD_MESSAGE"),
        ("[" * 50_000, "BAD_MESSAGE"),
        ('{"op":"subscribe"}', "BAD_MESSAGE"),
        ('{"op":"subscribe","topics":"status"}', "BAD_MESSAGE"),
        ('{"op":"subscribe","topics":[null,{}]}', "TOPIC_INVALID"),
        ('{"op":"subscribe","topics":["status"],"max_rate_hz":"fast"}', "RATE_INVALID"),
        ('{"op":"subscribe","topics":["quotes:NOBODY"]}', "INSTRUMENT_UNKNOWN"),
        ('{"op":"unsubscribe","topics":["status"]}', "NOT_SUBSCRIBED"),
        ('{"op":"resume","topic":"status","seq":1e400}', "BAD_MESSAGE"),
        ('{"op":"resume","topic":"status","seq":"1"}', "NOT_SUBSCRIBED"),
        ('{"op":"shutdown"}', "UNKNOWN_OP"),
        ('{"op":["subscribe"]}', "UNKNOWN_OP"),
        ('{"op":"auth"}', "BAD_MESSAGE"),
        ('{"op":"auth","token":"forged"}', "UNAUTHENTICATED"),
        (b"\x00\x01\x02", "BAD_MESSAGE"),
        (json.dumps({"op": "ping", "pad": "x" * 70_000}), "MESSAGE_TOO_LARGE"),
        (json.dumps({"op": "subscribe", "topics": ["status"] * 201}), "BAD_MESSAGE"),
    ],
)
async def test_hostile_input_is_answered_and_survived(service: Service, sent: str | bytes, code: str) -> None:
    async with connect(service.url) as client:
        await client.send(sent)
        told = await hear(client)
        assert (told["type"], told["code"]) == ("error", code)
        await say(client, op="ping")
        assert (await hear_until(client, type="pong"))["at_ms"] > 0


async def test_flood_of_questions_is_limited_and_then_ended() -> None:
    async with Service(ops_a_second=1.0, ops_burst=5, refusals_max=20) as service, connect(service.url) as client:
        codes = []
        with contextlib.suppress(ConnectionClosed):
            for _ in range(40):
                await say(client, op="ping")
            while True:
                codes.append((await hear(client)).get("code"))
        assert codes[:5] == [None] * 5
        assert "RATE_LIMITED" in codes
        assert len(codes) <= 25


async def test_token_is_needed_where_the_service_says_so() -> None:
    async with Service("required", auth_s=0.3) as service:
        mine, admin = await service.token("asha", Role.USER), await service.token("root", Role.ADMIN)
        async with connect(service.url) as silent:
            assert (await hear(silent))["code"] == "UNAUTHENTICATED"
            with pytest.raises(ConnectionClosed) as closed:
                await silent.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 4401
        async with connect(service.url) as eager:
            await say(eager, op="subscribe", topics=["status"])
            assert (await hear(eager))["code"] == "UNAUTHENTICATED"
        async with connect(service.url) as forger:
            await say(forger, op="auth", token="a.b.c")
            assert (await hear(forger))["code"] == "UNAUTHENTICATED"
        with_header = {"Authorization": f"Bearer {mine}"}
        async with connect(service.url, additional_headers=with_header) as client:
            await say(client, op="subscribe", topics=["watchlist:1", "watchlist:2"])
            assert {(m["type"], m.get("code")) for m in [await hear(client), await hear(client)]} == {
                ("snapshot", None), ("error", "FORBIDDEN"),
            }  # fmt: skip
        async with connect(service.url) as browser:
            await say(browser, op="auth", token=admin)
            await say(browser, op="subscribe", topics=["watchlist:1"])
            assert (await hear(browser))["type"] == "snapshot"


async def test_a_stream_ends_with_its_sign_in() -> None:
    """Signing out, or shutting the user out from another process, reaches what is open already."""
    async with Service("required", session_look_s=0.05) as service:
        token = await service.token("asha", Role.USER)
        rounds = asyncio.create_task(service.endpoint.watch_sessions())
        async with connect(service.url, additional_headers={"Authorization": f"Bearer {token}"}) as viewer:
            await say(viewer, op="ping")
            assert (await hear(viewer))["type"] == "pong"
            caller = await service.authenticator.authenticate(token)
            await service.authenticator.sign_out(caller)
            assert (await hear(viewer))["code"] == "UNAUTHENTICATED"
            with pytest.raises(ConnectionClosed) as closed:
                await asyncio.wait_for(viewer.recv(), 10)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 4401
        rounds.cancel()
        assert service.world.hub.clients == 0


async def test_one_user_has_so_many_streams_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STREAMS_PER_USER_MAX", 2)
    async with Service("required") as service:
        tokens = [await service.token(name, Role.USER) for name in ("asha", "ravi")]
        own, other = ({"Authorization": f"Bearer {token}"} for token in tokens)
        async with connect(service.url, additional_headers=own), connect(service.url, additional_headers=own) as second:
            async with connect(service.url, additional_headers=own) as third:
                assert json.loads(await third.recv())["code"] == "TOO_MANY_CLIENTS"
                with pytest.raises(ConnectionClosed):
                    await third.recv()
            async with connect(service.url, additional_headers=other) as theirs:
                await theirs.send('{"op":"ping"}')
                assert json.loads(await theirs.recv())["type"] == "pong"
            await second.send('{"op":"ping"}')
            assert json.loads(await second.recv())["type"] == "pong"
        async with connect(service.url, additional_headers=own) as again:
            await again.send('{"op":"ping"}')
            assert json.loads(await again.recv())["type"] == "pong"


async def test_a_newer_token_prolongs_an_open_stream() -> None:
    async with Service("required") as service:
        user = await service.store.add_user("asha", Role.USER, "")
        sessions = service.authenticator.sessions
        short = (await sessions.open_for_machine(user, "test", 2)).access_token
        long = (await sessions.open_for_machine(user, "test", 3600)).access_token
        async with connect(service.url, additional_headers={"Authorization": f"Bearer {short}"}) as viewer:
            await say(viewer, op="auth", token=long)
            assert (await hear(viewer))["type"] == "authenticated"
            (visit,) = service.endpoint._visits
            assert visit._timer is not None
            assert visit._timer.when() - asyncio.get_running_loop().time() > 3000


async def test_another_caller_on_the_same_stream_does_not_inherit_topics() -> None:
    async with Service("required") as service:
        admin, plain = await service.token("root", Role.ADMIN), await service.token("asha", Role.USER)
        async with connect(service.url, additional_headers={"Authorization": f"Bearer {admin}"}) as viewer:
            await say(viewer, op="subscribe", topics=["watchlist:1", QUOTE])
            await say(viewer, op="auth", token=plain)
            while (await hear(viewer))["type"] != "authenticated":
                pass
            (client,) = service.world.hub._clients
            assert not client.topics


async def test_foreign_page_needs_a_token(service: Service) -> None:
    async with connect(service.url, origin="https://evil.example") as client:  # type: ignore[arg-type]
        await say(client, op="subscribe", topics=["status"])
        assert (await hear(client))["code"] == "UNAUTHENTICATED"


async def test_notices_come_as_events(service: Service) -> None:
    async with connect(service.url) as client:
        await say(client, op="subscribe", topics=["events"])
        await say(client, op="ping")
        await hear(client)
        service.world.publisher.notify(Event("feed", 5, None, {"reason": "805"}))
        assert await hear(client) == {
            "type": "event", "kind": "feed", "at_ms": 5, "user_id": None, "data": {"reason": "805"},
        }  # fmt: skip


@BOTH_WAYS
async def test_client_that_stops_reading_is_cut_off_and_nobody_else_notices(hides_transport: bool) -> None:
    async with Service(hides_transport=hides_transport, stalled_s=1.0) as service, AsyncExitStack() as stack:
        world = service.world
        legs = [world.leg(24_000 + 50 * place) for place in range(40)]
        world.books.subscribe(*legs)
        stalled, *quick = [await stack.enter_async_context(connect(service.url, max_queue=1)) for _ in range(4)]
        for client in (stalled, *quick):
            await say(client, op="subscribe", topics=[CHAIN], max_rate_hz=10)
        stalled.transport.pause_reading()
        mirrors, rounds = [Mirror() for _ in quick], 0
        deadline = time.monotonic() + 20
        while service.endpoint.stalled == 0 and time.monotonic() < deadline:
            for leg in legs:
                world.tick(leg, 100.0 + rounds / 10 % 50, oi=1_000 + rounds)
            for client, mirror in zip(quick, mirrors, strict=True):
                mirror.take(await hear(client))
            rounds += 1
        assert service.endpoint.stalled == 1
        assert world.hub.clients == len(quick)
        for _ in range(3):
            world.tick(legs[0], 300.0 + _)
            for client, mirror in zip(quick, mirrors, strict=True):
                mirror.take(await hear(client))
        assert len({mirror.seq for mirror in mirrors}) == 1
        stalled.transport.abort()


@BOTH_WAYS
async def test_a_slow_reader_gets_every_topic_and_the_newest_of_each(hides_transport: bool) -> None:
    """The busy chain fills the connection; the quote and the status beside it are not left behind."""
    async with Service(hides_transport=hides_transport) as service, connect(service.url, max_queue=1) as client:
        world = service.world
        legs = [world.leg(24_000 + 50 * place, side) for place in range(40) for side in ("CE", "PE")]
        world.books.subscribe(*legs)
        await say(client, op="subscribe", topics=[CHAIN, QUOTE, "status"], max_rate_hz=10)
        ltps: list[float] = []
        statuses, chains = set(), 0
        async with asyncio.timeout(30):
            while len(ltps) < 8 or len(statuses) < 4:
                for place, leg in enumerate(legs):
                    world.tick(leg, 100.0 + (chains + place) % 50, oi=1_000 + chains)
                world.tick(RELIANCE, 2_700.0 + chains)
                world.status = {"chains": chains}
                message = await hear(client)
                if message["topic"] == QUOTE:
                    ltps.append(message["data"]["rows"]["RELIANCE_EQ"].get("ltp", 0.0))
                elif message["topic"] == "status":
                    statuses.add(message["data"].get("chains"))
                else:
                    chains += 1
                    await asyncio.sleep(0.05)
        told = [ltp for ltp in ltps if ltp]  # a delta without one tells of a change of state or age
        assert told == sorted(told)


async def test_clients_that_vanish_leave_nothing_behind(service: Service) -> None:
    for _ in range(20):
        client = await connect(service.url)
        await say(client, op="subscribe", topics=[QUOTE, CHAIN])
        client.transport.abort()
    for _ in range(100):
        if not service.world.hub.clients:
            break
        await asyncio.sleep(0.05)
    assert service.world.hub.clients == 0
    assert service.world.hub.streams == 2


@pytest.mark.parametrize("manner", ["close", "vanish", "break under a write"])
async def test_a_client_that_has_gone_is_in_no_cycle(manner: str) -> None:
    """Full collections are rare (decision 11): what comes and goes must go by itself."""
    async with Service(hides_transport=manner == "break under a write") as service:
        socket = await connect(service.url)
        await say(socket, op="subscribe", topics=[QUOTE])
        await hear(socket)
        gc.collect()
        gc.disable()
        try:
            gone = [weakref.ref(next(iter(service.world.hub._clients)).outbox)]
            if manner != "break under a write":  # the server's own part is out of reach there
                gone += [weakref.ref(server.conn) for server in service._server.server_state.connections]  # type: ignore[union-attr]
            if manner == "break under a write":
                service.endpoint._slices.turn = _never  # type: ignore[method-assign]  # it only learns by writing
            if manner == "close":
                await socket.close()
            else:
                socket.transport.abort()
            for price in range(2_000, 2_500):
                service.world.tick(RELIANCE, float(price))
                await asyncio.sleep(0.01)
                if not any(each() for each in gone):
                    break
            assert not [each() for each in gone if each()]
        finally:
            gc.enable()


async def _never() -> None:
    await asyncio.Event().wait()


async def test_a_cancelled_connection_ends_as_cancelled(service: Service) -> None:
    """Not as a group of errors: a server that stops would log one for each of its clients."""
    here = {
        "type": "websocket",
        "path": "/api/v2/stream",
        "headers": [(b"host", b"127.0.0.1")],
        "client": ("127.0.0.1", 50_000),
        "server": ("127.0.0.1", service.port),
    }
    inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    inbox.put_nowait({"type": "websocket.connect"})

    async def send(_message: Any) -> None:
        return

    serving = asyncio.create_task(service.endpoint(here, inbox.get, send))
    for _ in range(500):
        if service.world.hub.clients:
            break
        await asyncio.sleep(0.01)
    serving.cancel()
    await asyncio.wait([serving])
    assert serving.cancelled()
    assert not service.world.hub.clients
