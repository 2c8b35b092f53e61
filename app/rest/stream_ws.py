"""The stream's WebSocket, ``/api/v2/stream``, as a bare ASGI application (contract, section 7; ``docs/STREAM.md``).

A connection is two halves: one reads what the client asks, one writes what the hub has for it. A client that stops
reading stalls its own writer and nothing else; after a while it is cut off.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import orjson
import structlog

from app.core.errors import RateLimited, TerminalError, Unauthenticated
from app.ports.clock import Clock
from app.rest import limits
from app.rest.auth import Principal
from app.rest.origin import address_of
from app.rest.slices import Slices
from app.rest.stream_line import Line, Send, cap_buffers, outgoing, transport_of
from app.rest.throttle import Allowance
from app.stream.frames import problem, text
from app.stream.hub import Client, Hub, TooManyClients
from app.stream.topics import Format

BINARY_PROTOCOL = "bt.binary.v1"
CLOSE_POLICY, CLOSE_TRY_LATER, CLOSE_UNAUTHENTICATED = 1008, 1013, 4401

Scope = MutableMapping[str, Any]
Receive = Callable[[], Any]


class Authentication(Protocol):
    """``rest.auth.Authenticator`` is one."""

    async def principal_of(self, scope: Mapping[str, Any]) -> Principal: ...
    async def authenticate(self, token: str, address: str) -> Principal: ...
    async def live(self, sessions: Collection[str]) -> set[str]: ...


class FarSide(Protocol):
    """What a gateway asks the process that owns the feed; ``rest.feed_link.FarTopics`` is one."""

    async def vet(self, caller: Principal, asked: Sequence[object]) -> None:
        """Learn which topics the caller may watch, right before the hub is told of them."""
        ...

    async def until_away(self) -> TerminalError:
        """Return when that process no longer answers: what was shown so far is no longer live."""
        ...


class BadMessage(TerminalError):
    code = "BAD_MESSAGE"
    http_status = 422


class UnknownOp(TerminalError):
    code = "UNKNOWN_OP"
    http_status = 422


class MessageTooLarge(TerminalError):
    code = "MESSAGE_TOO_LARGE"
    http_status = 413


class _Gone(Exception):
    """The client has closed the connection before it was known who it is."""


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """``stalled_s``: how long a client may leave a message unread. ``ops_*``: how fast it may ask."""

    auth_s: float = 5.0
    stalled_s: float = 30.0
    message_bytes_max: int = 65_536
    topics_a_message_max: int = 200
    ops_a_second: float = 20.0
    ops_burst: int = 60
    refusals_max: int = 100  # errors without one good message between them
    session_look_s: float = 5.0  # how soon a connection ends whose sign-in was revoked


class StreamEndpoint:
    """The ASGI application; one for all connections."""

    def __init__(
        self,
        hub: Hub,
        authentication: Authentication,
        clock: Clock,
        settings: StreamSettings | None = None,
        far: FarSide | None = None,
    ) -> None:
        self._hub = hub
        self._authentication = authentication
        self._clock = clock
        self._settings = settings or StreamSettings()
        self._far = far
        self._slices = Slices(clock)
        self._visits: set[_Visit] = set()  # those that came in by a token
        self.stalled = 0  # clients cut off because they did not read

    async def watch_sessions(self) -> None:
        """End the connections whose sign-in was revoked since, until cancelled."""
        while True:
            await asyncio.sleep(self._settings.session_look_s)
            with contextlib.suppress(TerminalError):  # the store is locked, or the feed's process away or too busy
                await self.end_revoked()

    async def end_revoked(self) -> None:
        """One look: whose session is gone is cut off."""
        sessions = {visit.caller.session for visit in self._visits}
        dead = sessions - await self._authentication.live(sessions) if sessions else set()
        for visit in self._visits:
            if visit.caller.session in dead:
                visit.end_in(0.0)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "websocket"
        await receive()  # websocket.connect
        await self._slices.turn()
        offered = BINARY_PROTOCOL in scope.get("subprotocols", ())
        accept: dict[str, Any] = {"type": "websocket.accept"}
        if offered:
            accept["subprotocol"] = BINARY_PROTOCOL
        await send(accept)
        try:
            principal = await self._principal(scope, receive)
        except (_Gone, TimeoutError, TerminalError) as refused:
            await self._refuse(send, refused)
            return
        cap_buffers(transport_of(send))
        await self._serve(principal, Format.BINARY if offered else Format.JSON, receive, send)

    # -- who

    async def _principal(self, scope: Scope, receive: Receive) -> Principal:
        """By header, by not needing a token, or by the first message."""
        try:
            return await self._authentication.principal_of(scope)
        except Unauthenticated:
            if any(name.lower() == b"authorization" for name, _ in scope.get("headers", ())):
                raise
        async with asyncio.timeout(self._settings.auth_s):
            event = await _next(receive)
            if event is None:
                raise _Gone
            message = _parse(event, self._settings)
            if message.get("op") != "auth":
                raise Unauthenticated('the first message has to be {"op":"auth","token":…}')
            return await self._authenticate(message, address_of(scope))

    async def _authenticate(self, message: Mapping[str, Any], address: str) -> Principal:
        token = message.get("token")
        if not isinstance(token, str):
            raise BadMessage("auth takes a token")
        return await self._authentication.authenticate(token, address)

    async def _refuse(self, send: Send, refused: Exception) -> None:
        if isinstance(refused, _Gone):
            return
        if isinstance(refused, TimeoutError):
            refused = Unauthenticated(f"no token within {self._settings.auth_s:g} s")
        assert isinstance(refused, TerminalError)
        with contextlib.suppress(OSError):
            await send(outgoing(problem(refused.code, refused.detail)))
            code = CLOSE_UNAUTHENTICATED if isinstance(refused, Unauthenticated) else CLOSE_TRY_LATER
            await send({"type": "websocket.close", "code": code, "reason": refused.code})

    # -- one connection

    async def _serve(self, principal: Principal, form: Format, receive: Receive, send: Send) -> None:
        line = Line(self._hub, self._clock, send, self._slices)
        try:
            client = self._hub.join(principal.user_id, principal.is_admin, form, line.wake, principal.address)
        except TerminalError as full:
            await self._refuse(send, full)
            return
        line.client = client
        serving = asyncio.current_task()
        assert serving is not None
        watch = _StallWatch(line, serving, self._clock, self._settings.stalled_s)
        watch.start()
        try:
            await self._exchange(client, line, principal, receive)
        except TerminalError as ended:
            await self._refuse(send, ended)
        except asyncio.CancelledError:
            if not watch.has_cut:
                raise
            serving.uncancel()
        finally:
            watch.stop()
            line.release()
            self._hub.leave(client)
            if watch.has_cut:
                self.stalled += 1
                structlog.get_logger().info("stream client cut off", reason="it stopped reading", user=client.user_id)

    async def _exchange(self, client: Client, line: Line, caller: Principal, receive: Receive) -> None:
        """Until one of the parts ends. No task group: its exceptions would keep all of this alive in a cycle."""
        visit = _Visit(client, caller)
        works = [line.run(), self._read(visit, receive)]
        if self._far is not None:
            works.append(_lose(self._far))
        parts = [asyncio.ensure_future(work) for work in works]
        try:
            self._admit(visit, caller)
            ended, _ = await asyncio.wait([*parts, visit.over], return_when=asyncio.FIRST_COMPLETED)
            for part in ended:
                part.result()
            if visit.over in ended:
                raise Unauthenticated("the token has expired or was revoked")
            line.flush()  # the last it is told
        finally:
            self._visits.discard(visit)
            visit.stop()
            line.close()  # before a closing frame goes out
            for part in parts:
                part.cancel()
            await asyncio.gather(*parts, return_exceptions=True)

    def _admit(self, visit: _Visit, caller: Principal) -> None:
        """Serve the connection as this caller, until the token ends; a newer token prolongs it."""
        if caller.has_token and self._streams_of(caller, visit) >= limits.STREAMS_PER_USER_MAX:
            raise TooManyClients(f"a user has at most {limits.STREAMS_PER_USER_MAX} streams open")
        visit.caller = caller
        self._hub.become(visit.client, caller.user_id, caller.is_admin)
        if caller.expires_ms is not None:
            self._visits.add(visit)
            visit.end_in(max(0.0, (caller.expires_ms - self._clock.now_ms()) / 1000.0))

    def _streams_of(self, caller: Principal, new: _Visit) -> int:
        return sum(each.caller.user_id == caller.user_id for each in self._visits if each is not new)

    async def _read(self, visit: _Visit, receive: Receive) -> None:
        """Obey until the client has gone, or is wrong too often."""
        allowance = Allowance(self._clock, self._settings.ops_a_second, self._settings.ops_burst)
        refusals = 0
        while refusals < self._settings.refusals_max:
            event = await _next(receive)
            if event is None:
                await self._slices.turn()  # to leave is some work, and all may leave at once
                return
            try:
                if allowance.spend() > 0:
                    raise RateLimited(f"at most {self._settings.ops_a_second:g} messages a second")
                await self._obey(visit, _parse(event, self._settings))
                refusals = 0
            except TerminalError as refused:
                refusals += 1
                self._hub.post(visit.client, problem(refused.code, refused.detail, **refused.extra))

    async def _obey(self, visit: _Visit, message: Mapping[str, Any]) -> None:
        client = visit.client
        match message.get("op"):
            case "subscribe":
                topics = self._topics(message)
                await self._vet(visit.caller, topics)
                await self._subscribe(client, topics, message.get("max_rate_hz"))
            case "unsubscribe":
                self._hub.unsubscribe(client, self._topics(message))
            case "resume":
                topic, seq, hz = (message.get(name) for name in ("topic", "seq", "max_rate_hz"))
                await self._vet(visit.caller, [topic])
                await self._slices.run(partial(self._hub.resume, client, topic, seq, hz))
            case "ping":
                self._hub.post(client, text(type="pong", at_ms=self._clock.now_ms()))
            case "auth":
                principal = await self._authenticate(message, client.address)
                self._admit(visit, principal)
                self._hub.post(client, text(type="authenticated", user_id=principal.user_id))
            case other:
                named = other[:40] if isinstance(other, str) else "none"
                raise UnknownOp(f"no such op: {named}; there are subscribe, unsubscribe, resume, ping and auth")

    async def _subscribe(self, client: Client, topics: Sequence[object], max_rate_hz: object) -> None:
        """Topic by topic: to open a chain takes milliseconds, and a message may name many."""
        for asked in [[topic] for topic in topics] or [[]]:
            await self._slices.run(partial(self._hub.subscribe, client, asked, max_rate_hz))

    async def _vet(self, principal: Principal, topics: Sequence[object]) -> None:
        if self._far is not None:
            await self._far.vet(principal, topics)

    def _topics(self, message: Mapping[str, Any]) -> list[object]:
        topics = message.get("topics")
        if not isinstance(topics, list):
            raise BadMessage("topics is a list of texts")
        if len(topics) > self._settings.topics_a_message_max:
            raise BadMessage(f"a message names at most {self._settings.topics_a_message_max} topics")
        return topics


@dataclass(eq=False, slots=True)
class _Visit:
    """One connection being served, and as whom."""

    client: Client
    caller: Principal
    over: asyncio.Future[None] = field(init=False)
    _timer: asyncio.TimerHandle | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.over = asyncio.get_running_loop().create_future()

    def end_in(self, seconds: float) -> None:
        """Let the connection end then, unless told otherwise before."""
        self.stop()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._end)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _end(self) -> None:
        if not self.over.done():
            self.over.set_result(None)


@dataclass(slots=True)
class _StallWatch:
    """Cuts a connection whose message under way does not move; one timer a connection, none a message."""

    line: Line
    serving: asyncio.Task[Any]
    clock: Clock
    stalled_s: float
    has_cut: bool = False
    timer: asyncio.TimerHandle | None = field(default=None, init=False)

    def start(self) -> None:
        self.timer = asyncio.get_running_loop().call_later(self.stalled_s / 4, self._look)

    def stop(self) -> None:
        if self.timer is not None:
            self.timer.cancel()

    def _look(self) -> None:
        since_s = self.line.since_s
        if since_s is not None and self.clock.monotonic() - since_s >= self.stalled_s:
            self.has_cut = True
            if self.line.transport is not None:
                self.line.transport.abort()  # a close frame would wait behind what it does not read
            else:
                self.serving.cancel()
            return
        self.start()


async def _lose(far: FarSide) -> None:
    raise await far.until_away()


async def _next(receive: Receive) -> Mapping[str, Any] | None:
    """What the client sent; None once it has closed the connection."""
    event: Mapping[str, Any] = await receive()
    return None if event["type"] == "websocket.disconnect" else event


def _parse(event: Mapping[str, Any], settings: StreamSettings) -> Mapping[str, Any]:
    """The JSON object of a text message; whatever else arrives raises a ``TerminalError``."""
    words = event.get("text")
    if words is None:
        raise BadMessage("messages to the server are JSON text")
    if len(words) > settings.message_bytes_max:
        raise MessageTooLarge(f"a message has at most {settings.message_bytes_max} characters")
    try:
        message = orjson.loads(words)
    except (orjson.JSONDecodeError, UnicodeEncodeError):
        raise BadMessage("not JSON") from None
    if not isinstance(message, dict):
        raise BadMessage("a message is a JSON object")
    return message
