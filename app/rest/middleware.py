"""Pure ASGI layers around every HTTP request: answer headers, size of the body, who is calling.

Outermost first: :class:`SecurityHeaders`, :class:`BodyLimit`, ``load.Turnstile``, :class:`Gate`, ``load.FairShare``.
WebSockets pass untouched: the stream asks the authenticator itself, since a browser can only show its token in a
message.
"""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.core.errors import BodyTooSlow, Forbidden, PayloadTooLarge, TerminalError
from app.ports.access import AccessAction
from app.rest.answers import problem_of
from app.rest.auth import Authenticator, Principal

API_PREFIX = "/api/"
ADMIN_PREFIX = "/api/v2/admin/"
SIGN_IN_PATH = "/api/v2/auth/token"
METRICS_PATH = "/metrics"
READING = frozenset({"GET", "HEAD", "OPTIONS"})
DETAIL_CHARS_MAX = 500

# Where an answer does not set its own: the pages do, the API is never a document.
PROTECTIVE = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cache-control": "no-store",
}
_PROTECTIVE = tuple((name.encode(), value.encode()) for name, value in PROTECTIVE.items())


class SecurityHeaders:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = message["headers"] = list(message.get("headers", ()))
                present = {name for name, _ in headers}
                headers.extend(pair for pair in _PROTECTIVE if pair[0] not in present)
            await send(message)

        await self._app(scope, receive, send_with_headers)


class BodyLimit:
    """Reads the body before the application does: 413 for more than ``bytes_max``, 408 for one that takes too long."""

    def __init__(self, app: ASGIApp, bytes_max: int, seconds_max: float) -> None:
        self._app = app
        self._bytes_max = bytes_max
        self._seconds_max = seconds_max

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in READING:
            await self._app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(self._seconds_max):
                body = None if _declared(scope) > self._bytes_max else await self._read(receive)
        except TimeoutError:
            slow = BodyTooSlow(f"a body has to be here within {self._seconds_max:g} s")
            await self._refuse(slow, scope, receive, send)
            return
        if body is None:
            large = PayloadTooLarge(f"a body may have at most {self._bytes_max} bytes")
            await self._refuse(large, scope, receive, send)
            return
        await self._app(scope, replay_body(body, receive), send)

    async def _refuse(self, why: TerminalError, scope: Scope, receive: Receive, send: Send) -> None:
        answer = problem_of(why, scope["path"])
        answer.headers["connection"] = "close"
        await answer(scope, receive, send)

    async def _read(self, receive: Receive) -> bytes | None:
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return bytes(body)  # the client left; the application meets the disconnect next
            body += message.get("body", b"")
            if len(body) > self._bytes_max:
                return None
            if not message.get("more_body", False):
                return bytes(body)


def _declared(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0


def replay_body(body: bytes, receive: Receive) -> Receive:
    """A ``receive`` that gives a body already read, then whatever comes after it."""
    given = False

    async def receive_again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again


class Gate:
    """Puts the :class:`Principal` into ``scope["principal"]``, or answers 401 or 403. Open: pages, docs, health."""

    def __init__(self, app: ASGIApp, authenticator: Authenticator) -> None:
        self._app = app
        self._authenticator = authenticator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _is_guarded(scope["path"]):
            try:
                scope["principal"] = await self._admit(scope)
            except TerminalError as error:
                await problem_of(error, scope["path"])(scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def _admit(self, scope: Scope) -> Principal:
        if scope["path"] == SIGN_IN_PATH:
            return self._refuse_foreign_sign_in(scope)
        principal = await self._authenticator.principal_of(scope)
        if scope["path"].startswith(ADMIN_PREFIX):
            principal.require_admin()
            if scope["method"] not in READING:
                done = f"{scope['method']} {scope['path']}?{scope['query_string'].decode('latin-1')}".rstrip("?")
                await self._authenticator.note(principal, AccessAction.ADMIN, done[:DETAIL_CHARS_MAX])
        return principal

    def _refuse_foreign_sign_in(self, scope: Scope) -> Principal:
        """Signing in needs no token, but a foreign page may not try passwords through somebody's browser."""
        host = next((value for name, value in scope["headers"] if name == b"host"), b"").lower()
        origins = [value.lower() for name, value in scope["headers"] if name == b"origin"]
        if any(origin.partition(b"://")[2] != host for origin in origins):
            raise Forbidden("sign in from the service's own page")
        return self._authenticator.anonymous()


def _is_guarded(path: str) -> bool:
    return path.startswith(API_PREFIX) or path == METRICS_PATH
