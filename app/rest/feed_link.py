"""A gateway's line to the process that owns the feed: calls over the bus, and whether anybody answers them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import orjson
import structlog

from app.core.errors import FeedAway, Forbidden, RateLimited, TerminalError, Unauthenticated
from app.ports.bus import Bus, BusSubscription
from app.ports.store import Role
from app.rest.auth import Principal
from app.rest.calls import (
    ANSWER_SUBJECT,
    CALL_SUBJECT,
    LIVE_SESSIONS,
    NOT_OURS,
    REFUSED_SUBJECT,
    Answer,
    Assembly,
    Call,
    Seal,
    unpack_part,
)
from app.rest.origin import address_of
from app.stream.topics import Topic, parse_topic

CALL_S = 15.0
CALLS_MAX = 2_000
BEAT_S = 1.0
BEAT_ANSWER_S = 2.0
MISSES_MAX = 3
WHO_AM_I = "/api/v2/auth/me"
TOPICS = "/api/v2/stream/topics"
_OWN_SCOPE: Mapping[str, Any] = {
    "type": "http",
    "method": "GET",
    "scheme": "http",
    "http_version": "1.1",
    "query_string": b"",
    "client": ("127.0.0.1", 0),
    "server": ("127.0.0.1", 0),
    "headers": [(b"host", b"127.0.0.1")],
}


@dataclass(slots=True)
class _Pending:
    done: asyncio.Future[Answer]
    assembly: Assembly = field(default_factory=lambda: Assembly([]))


class FeedLink:
    """OWNS the calls under way. ``now_ms`` is the machine's epoch time; ``name`` is this gateway's, unique on the bus.

    Between start and the first answer, and after a few missed beats, the feed is away: ``is_up`` is False.
    """

    def __init__(self, bus: Bus, seal: Seal, now_ms: Callable[[], int], name: str) -> None:
        self._bus = bus
        self._seal = seal
        self._now_ms = now_ms
        self._name = name
        self._ids = itertools.count(1)
        self._pending: dict[int, _Pending] = {}
        self._readers: list[BusSubscription] = []
        self._misses = 0
        self._is_refused = False  # and logged
        self.up, self.down = asyncio.Event(), asyncio.Event()
        self.down.set()

    @property
    def is_up(self) -> bool:
        return self.up.is_set()

    def start(self) -> None:
        self._readers = [
            self._bus.subscribe(f"{ANSWER_SUBJECT}.{self._name}", self._hear),
            self._bus.subscribe(REFUSED_SUBJECT, self._hear_refusal),
        ]

    def stop(self) -> None:
        for reader in self._readers:
            reader.close()

    async def run(self) -> None:
        """Ask now and then whether the feed's process is ready, until cancelled."""
        while True:
            try:
                answer = await self._call({**_OWN_SCOPE, "path": "/ready"}, b"", BEAT_ANSWER_S)
                self._note(is_ready=answer.status == 200)
            except TerminalError:
                self._note(is_ready=False)
            await asyncio.sleep(BEAT_S)

    async def health(self) -> Answer:
        """The health of the feed's process. Raises ``FeedAway``."""
        return await self.call({**_OWN_SCOPE, "path": "/health"}, timeout_s=BEAT_ANSWER_S)

    async def call(self, scope: Mapping[str, Any], body: bytes = b"", *, timeout_s: float = CALL_S) -> Answer:
        """Put a request before the API of the feed's process.

        Raises:
            FeedAway: no answer came, or not all of it.
        """
        if not self.is_up:
            raise FeedAway("the process that owns the feed does not answer")
        return await self._call(scope, body, timeout_s)

    async def _call(self, scope: Mapping[str, Any], body: bytes, timeout_s: float) -> Answer:
        if len(self._pending) >= CALLS_MAX:
            raise RateLimited("too many requests wait for the process that owns the feed", retry_after_s=1)
        call = Call(next(self._ids), self._name, self._now_ms(), scope, body)
        pending = self._pending[call.id] = _Pending(asyncio.get_running_loop().create_future())
        self._bus.publish(CALL_SUBJECT, self._seal.close(call.pack()))
        try:
            async with asyncio.timeout(timeout_s):
                return await pending.done
        except TimeoutError:
            raise FeedAway(f"the process that owns the feed did not answer within {timeout_s:g} s") from None
        finally:
            del self._pending[call.id]

    def _hear(self, subject: str, payload: bytes) -> None:
        try:
            call_id, number, is_last, piece = unpack_part(self._seal.open(payload))
        except ValueError:
            return
        pending = self._pending.get(call_id)
        if pending is None or pending.done.done():
            return
        try:
            pending.assembly.take(number, piece)
            if is_last:
                pending.done.set_result(pending.assembly.answer())
        except ValueError as broken:
            pending.done.set_exception(FeedAway(str(broken)))

    def _hear_refusal(self, subject: str, payload: bytes) -> None:
        """Said to all gateways: one that is answered was not meant, nor for its key one that can read this."""
        try:
            reason = self._seal.open(payload).decode()
        except ValueError:
            reason = "its BT_SECRET_KEY is another"
        if not (self.is_up or self._is_refused or reason == NOT_OURS):
            self._is_refused = True
            structlog.get_logger().warning("the process that owns the feed refuses this gateway's calls", reason=reason)

    def _note(self, *, is_ready: bool) -> None:
        self._misses = 0 if is_ready else self._misses + 1
        if is_ready and not self.is_up:
            self.down.clear()
            self.up.set()
            self._is_refused = False
            structlog.get_logger().info("the process that owns the feed answers")
        elif self._misses >= MISSES_MAX and self.is_up:
            self.up.clear()
            self.down.set()
            structlog.get_logger().warning("the process that owns the feed does not answer")


@dataclass(frozen=True, slots=True)
class FarPrincipal(Principal):
    """A caller as the feed's process told; ``shown`` is what identified it, to be shown again."""

    shown: Mapping[str, Any] = field(default_factory=dict)


class FarAuthenticator:
    """Asks the feed's process who is calling; it judges by what the connection here shows."""

    def __init__(self, link: FeedLink) -> None:
        self._link = link

    async def principal_of(self, scope: Mapping[str, Any]) -> Principal:
        """Raises as ``rest.auth.Authenticator``, and ``FeedAway``."""
        return await self._ask({**scope, "type": "http", "method": "GET"})

    async def authenticate(self, token: str, address: str = "") -> Principal:
        """Raises as ``rest.auth.Authenticator``, and ``FeedAway``."""
        headers = [(b"host", b"127.0.0.1"), (b"authorization", b"Bearer " + token.encode("utf-8", "replace"))]
        return await self._ask({**_OWN_SCOPE, "client": (address, 0), "headers": headers})

    async def live(self, sessions: Collection[str]) -> set[str]:
        """Those of the sessions that still hold. Raises ``FeedAway``."""
        answer = await self._link.call({**_OWN_SCOPE, "path": LIVE_SESSIONS}, orjson.dumps(list(sessions)))
        return set(_told(answer))

    async def _ask(self, scope: Mapping[str, Any]) -> Principal:
        answer = await self._link.call(_asking(scope, WHO_AM_I))
        told = _told(answer)
        user_id, role, session = told["user_id"], Role(told["role"]), told["session"]
        return FarPrincipal(user_id, role, told["name"], told["expires_ms"], session, address_of(scope), scope)


class FarTopics:
    """Asks the feed's process which topics a client may watch. OWNS its verdicts on the message under way."""

    def __init__(self, link: FeedLink) -> None:
        self._link = link
        self._refused: dict[str, TerminalError] = {}

    async def vet(self, caller: Principal, asked: Sequence[object]) -> None:
        """Learn about topics before the hub is told of them; nothing may be awaited in between.

        Raises:
            FeedAway: nothing was learned.
        """
        assert isinstance(caller, FarPrincipal)
        names = dict(_named(asked))
        if not names:
            return
        query = urlencode([("watching", "true"), *(("topic", name) for name in names)], errors="replace").encode()
        told = _told(await self._link.call(_asking(caller.shown, TOPICS, query)))
        self._refused = {each["asked"]: _refusal(each) for each in told["topics"] if each["code"] is not None}

    async def until_away(self) -> TerminalError:
        """Return when nobody answers any more."""
        await self._link.down.wait()
        return FeedAway("the process that owns the feed does not answer: what was shown is no longer live")

    def check(self, topic: Topic) -> None:
        """Raises what the feed's process said of it."""
        if topic.name in self._refused:
            raise self._refused[topic.name]


def _named(asked: Sequence[object]) -> Iterator[tuple[str, None]]:
    for text in asked:
        with suppress(TerminalError):  # the hub tells this one
            yield parse_topic(text).name, None


def _asking(scope: Mapping[str, Any], path: str, query: bytes = b"") -> dict[str, Any]:
    return {**scope, "path": path, "raw_path": path.encode(), "query_string": query}


def _told(answer: Answer) -> Any:
    told = answer.json()
    if answer.status != 200:
        raise _refusal(told)
    return told


def _refusal(told: Mapping[str, Any]) -> TerminalError:
    """An error of the feed's process as an error here."""
    known = {error.code: error for error in (Unauthenticated, Forbidden, RateLimited)}
    made = known.get(told["code"]) or type("FarRefusal", (TerminalError,), {"code": told["code"]})
    refusal: TerminalError = made(told["detail"], **told.get("extra", {}))
    return refusal
