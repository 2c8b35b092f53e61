"""The feed's side of a gateway's calls: each request from the bus goes through the API as if it had come by HTTP."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection

import orjson
import structlog
from starlette.types import ASGIApp, Message

from app.core.errors import RateLimited, TerminalError
from app.ports.bus import Bus, BusSubscription
from app.rest.answers import problem, problem_of
from app.rest.calls import ANSWER_SUBJECT, CALL_SUBJECT, LIVE_SESSIONS, REFUSED_SUBJECT, Answer, Call, Seal, unpack_call
from app.rest.load import PROBES
from app.rest.middleware import replay_body

AT_ONCE = 32
WAITING_MAX = 512
LiveSessions = Callable[[Collection[str]], Awaitable[set[str]]]
OLDEST_S = 60.0  # a call on the way for longer is not answered: its gateway has given up
SEEN_MAX = 100_000
REFUSAL_EVERY_MS = 10_000


class CallDesk:
    """OWNS the calls that wait for their turn. ``now_ms`` is the machine's epoch time.

    A sealed call counts once: its id is remembered for as long as its age would be accepted.
    """

    def __init__(self, api: ASGIApp, live: LiveSessions, bus: Bus, seal: Seal, now_ms: Callable[[], int]) -> None:
        self._api = api
        self._live = live
        self._bus = bus
        self._seal = seal
        self._now_ms = now_ms
        self._waiting: asyncio.Queue[Call] = asyncio.Queue(WAITING_MAX)
        self._probing: asyncio.Queue[Call] = asyncio.Queue(WAITING_MAX)  # a busy desk must not be taken for a dead one
        self._seen: OrderedDict[tuple[str, int], int] = OrderedDict()
        self._reader: BusSubscription | None = None
        self.refused = 0  # forged, stale, repeated or unreadable
        self._told_ms = -REFUSAL_EVERY_MS  # when gateways were last told of a refusal

    def start(self) -> None:
        self._reader = self._bus.subscribe(CALL_SUBJECT, self._hear)

    def stop(self) -> None:
        if self._reader is not None:
            self._reader.close()

    async def run(self) -> None:
        """Answer until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(self._work(self._waiting))
            group.create_task(self._work(self._probing))

    def _hear(self, subject: str, payload: bytes) -> None:
        try:
            call = unpack_call(self._seal.open(payload))
            self._require_fresh(call)
        except ValueError as bad:
            self._refuse(str(bad))
            return
        try:
            (self._probing if call.scope["path"] in PROBES else self._waiting).put_nowait(call)
        except asyncio.QueueFull:
            busy = RateLimited("too many requests wait for the process that owns the feed", retry_after_s=1)
            self._send(call, _answer_of(problem_of(busy, call.scope["path"])))

    def _refuse(self, reason: str) -> None:
        """Log the first, and tell gateways now and then: a stranger's calls must not fill the bus."""
        self.refused += 1
        if self.refused == 1:
            structlog.get_logger().warning("a gateway's call was refused", reason=reason)
        if self._now_ms() - self._told_ms >= REFUSAL_EVERY_MS:
            self._told_ms = self._now_ms()
            self._bus.publish(REFUSED_SUBJECT, self._seal.close(reason.encode()))

    def _require_fresh(self, call: Call) -> None:
        now_ms, name = self._now_ms(), (call.gateway, call.id)
        if abs(now_ms - call.at_ms) > OLDEST_S * 1000:
            raise ValueError(f"its time is {(now_ms - call.at_ms) / 1000:.0f} s off; are the machines' clocks in step?")
        while self._seen and (next(iter(self._seen.values())) < now_ms - 2000 * OLDEST_S or len(self._seen) > SEEN_MAX):
            self._seen.popitem(last=False)
        if name in self._seen:
            raise ValueError("it was made before")
        self._seen[name] = now_ms

    async def _work(self, calls: asyncio.Queue[Call]) -> None:
        while True:
            call = await calls.get()
            ask = self._ask_sessions if call.scope["path"] == LIVE_SESSIONS else self._ask
            self._send(call, await ask(call))

    async def _ask_sessions(self, call: Call) -> Answer:
        try:
            handles = orjson.loads(call.body)
            return Answer(200, [], orjson.dumps(sorted(await self._live(handles))))
        except TerminalError as error:
            return _answer_of(problem_of(error, LIVE_SESSIONS))

    async def _ask(self, call: Call) -> Answer:
        taken: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            taken.append(message)

        try:
            await self._api(dict(call.scope), replay_body(call.body, receive), send)
        except Exception as error:  # as any ASGI server: a request that breaks is told, and others go on
            structlog.get_logger().error("request_failed", path=call.scope["path"], error=type(error).__name__)
        if not taken or taken[0]["type"] != "http.response.start":
            return _answer_of(problem(500, "INTERNAL", "the service failed on this request", call.scope["path"]))
        body = b"".join(message.get("body", b"") for message in taken[1:])
        return Answer(taken[0]["status"], list(taken[0]["headers"]), body)

    def _send(self, call: Call, answer: Answer) -> None:
        for part in answer.parts(call.id):
            self._bus.publish(f"{ANSWER_SUBJECT}.{call.gateway}", self._seal.close(part))


def _answer_of(response: object) -> Answer:
    status, headers, body = response.status_code, response.raw_headers, response.body  # type: ignore[attr-defined]
    return Answer(status, headers, body)
