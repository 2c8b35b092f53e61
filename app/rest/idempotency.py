"""``Idempotency-Key`` on writes: the same request sent twice is done once and answered twice alike.

Kept in memory, bounded in entries, bytes and time: it covers a client's retries, not a restart. What a restart must not
repeat is guarded by the store (an entry is unique).
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from dataclasses import dataclass, field

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.core.errors import InvalidRequest, RateLimited, TerminalError
from app.ports.clock import Clock
from app.rest import limits
from app.rest.answers import problem_of
from app.rest.middleware import SIGN_IN_PATH, replay_body

HEADER = b"idempotency-key"
_REPLAYED = (b"idempotent-replayed", b"true")
_WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_NOT_KEPT = frozenset({401, 403, 429})  # about the caller at that moment, not about the request

Slot = tuple[int, str, str]


@dataclass(slots=True)
class _Entry:
    body_digest: bytes
    started_s: float
    done: asyncio.Event = field(default_factory=asyncio.Event)
    start: Message | None = None
    body: bytes = b""


class IdempotentWrites:
    """Pure ASGI layer inside the gate: a key counts per caller and path."""

    def __init__(self, app: ASGIApp, clock: Clock) -> None:
        self._app = app
        self._clock = clock
        self._entries: OrderedDict[Slot, _Entry] = OrderedDict()
        self._bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        keys = _keys_of(scope)
        if not keys:
            await self._app(scope, receive, send)
            return
        try:
            slot = _slot_of(scope, keys)
            body = await _body_of(receive)
            entry = await self._claim(slot, hashlib.sha256(scope["query_string"] + b"\n" + body).digest())
        except TerminalError as error:
            await problem_of(error, scope["path"])(scope, receive, send)
            return
        if entry.start is not None:
            await _replay(entry, send)
            return
        await self._run(slot, entry, scope, replay_body(body, receive), send)

    async def _claim(self, slot: Slot, digest: bytes) -> _Entry:
        """The finished entry of this key, or a new one that the caller must run.

        A duplicate that arrives while the first is running waits for it; should the first come to nothing, one of
        those who wait runs it.
        """
        while True:
            entry = self._fresh(slot)
            if entry is None:
                return self._begin(slot, digest)
            if entry.body_digest != digest:
                raise InvalidRequest("this Idempotency-Key was used with another body", field="Idempotency-Key")
            if entry.start is not None:
                self._entries.move_to_end(slot)
                return entry
            await entry.done.wait()

    def _begin(self, slot: Slot, digest: bytes) -> _Entry:
        self._make_room()
        entry = self._entries[slot] = _Entry(digest, self._clock.monotonic())
        return entry

    def _fresh(self, slot: Slot) -> _Entry | None:
        entry = self._entries.get(slot)
        if entry is None or entry.start is None:
            return entry
        if self._clock.monotonic() - entry.started_s < limits.IDEMPOTENCY_TTL_S:
            return entry
        self._drop(slot)
        return None

    def _make_room(self) -> None:
        while len(self._entries) >= limits.IDEMPOTENCY_ENTRIES_MAX or self._bytes > limits.IDEMPOTENCY_BYTES_MAX:
            oldest = next((slot for slot, entry in self._entries.items() if entry.start is not None), None)
            if oldest is None:
                raise RateLimited("too many writes are running", retry_after_s=1)
            self._drop(oldest)

    def _drop(self, slot: Slot) -> None:
        self._bytes -= len(self._entries.pop(slot).body)

    async def _run(self, slot: Slot, entry: _Entry, scope: Scope, receive: Receive, send: Send) -> None:
        recorder = _Recorder(send)
        try:
            await self._app(scope, receive, recorder.send)
        finally:
            self._finish(slot, entry, recorder)

    def _finish(self, slot: Slot, entry: _Entry, recorder: _Recorder) -> None:
        if recorder.is_worth_keeping:
            entry.start, entry.body = recorder.start, bytes(recorder.body)
            self._bytes += len(entry.body)
        else:
            del self._entries[slot]
        entry.done.set()


class _Recorder:
    def __init__(self, send: Send) -> None:
        self._send = send
        self.start: Message | None = None
        self.body = bytearray()
        self._complete = False

    @property
    def is_worth_keeping(self) -> bool:
        """Whole, not too large, and an answer that would be the same again: no failure of the service."""
        return (
            self._complete
            and self.start is not None
            and self.start["status"] < 500
            and self.start["status"] not in _NOT_KEPT
            and len(self.body) <= limits.IDEMPOTENCY_ANSWER_BYTES_MAX
        )

    async def send(self, message: Message) -> None:
        # Noted before it is sent: a client that hung up meanwhile must find the same answer on its retry.
        if message["type"] == "http.response.start":
            self.start = dict(message)
        elif message["type"] == "http.response.body":
            self.body += message.get("body", b"")
            self._complete = not message.get("more_body", False)
        await self._send(message)


async def _replay(entry: _Entry, send: Send) -> None:
    assert entry.start is not None
    await send({**entry.start, "headers": [*entry.start["headers"], _REPLAYED]})
    await send({"type": "http.response.body", "body": entry.body})


def _keys_of(scope: Scope) -> list[bytes]:
    if scope["type"] != "http" or scope["method"] not in _WRITES or scope["path"] == SIGN_IN_PATH:
        return []
    if "principal" not in scope:
        return []
    return [value for name, value in scope["headers"] if name == HEADER]


def _slot_of(scope: Scope, keys: list[bytes]) -> Slot:
    text = keys[0].decode("latin-1")
    fits = 0 < len(text) <= limits.IDEMPOTENCY_KEY_CHARS_MAX and text.isascii() and text.isprintable()
    if len(keys) > 1 or not fits:
        raise InvalidRequest(
            f"Idempotency-Key is one text of 1 to {limits.IDEMPOTENCY_KEY_CHARS_MAX} printable characters",
            field="Idempotency-Key",
        )
    return scope["principal"].user_id, f"{scope['method']} {scope['path']}", text


async def _body_of(receive: Receive) -> bytes:
    """The whole body; the layer outside has bounded it."""
    message = await receive()
    body: bytes = message.get("body", b"")
    return body
